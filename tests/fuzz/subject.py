"""The process in which files are tried, by the functions that users call: it answers, or it does not."""

import importlib
import os
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

KEY = "a key for fuzzing only"
SOUND = "sound.png"
COLUMN = "mask_x"


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        status: ``"read"``, ``"refused"`` in one line of ours, or ``"traceback"``.
        words: the reason, or the traceback.
        notes: what is said of a file that was read.
        seen: arrays that a reader gets.
    """

    status: str
    words: str = ""
    notes: str = ""
    seen: tuple[np.ndarray, ...] = field(default=(), repr=False)


def serve(connection: Connection, log: str, plant: str | None) -> None:
    """Answer ``(job, folder, names)`` with a list of outcomes, until the other end is closed.

    Args:
        connection: to the runner.
        log: file that gets what this process and its children would print on a terminal.
        plant: ``module:function`` to be called first; tests plant faults with it.
    """
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    warnings.filterwarnings("ignore", category=UserWarning, module=__name__)  # raddino's own, said of its caller
    if plant:
        module, _, name = plant.partition(":")
        getattr(importlib.import_module(module), name)()
    _keep_wall()
    connection.send("ready")
    while True:
        try:
            job, folder, names = connection.recv()
        except EOFError:
            return
        connection.send(JOBS[job](Path(folder), names))


def _keep_wall() -> None:
    """Let every ``prepare`` in this process decode behind one and the same wall, which takes a second to start."""
    from raddino.corpus import listing, pool, prepare  # noqa: F401 - so that no job pays for it

    class Kept(pool.Wall):
        def __exit__(self, *_: object) -> None:
            pass

    kept = Kept()
    pool.Wall = listing.Wall = lambda: kept


def attempt(work: Callable[[], list[Outcome]], number: int) -> list[Outcome]:
    """``work()``, or ``number`` times what it raised."""
    from raddino.errors import RaddinoError

    try:
        return work()
    except RaddinoError as error:
        words = str(error)
        return [Outcome("refused" if "\n" not in words else "traceback", words)] * number
    except BaseException:  # a decoder in Rust panics past Exception
        return [Outcome("traceback", traceback.format_exc())] * number


def images(folder: Path, names: list[str]) -> list[Outcome]:
    """Pack files into one corpus; a further outcome tells of the sound file that stood beside them."""
    return attempt(lambda: _packed(folder, [*names, SOUND], {}), len(names) + 1)


def mask(folder: Path, names: list[str]) -> list[Outcome]:
    """Pack a sound image with one mask: a file, or the text in a ``.code`` file."""

    def work() -> list[Outcome]:
        import pandas as pd

        cell = (folder / names[0]).read_bytes().decode("latin-1") if names[0].endswith(".code") else names[0]
        table = pd.DataFrame({"path": [SOUND], "id": ["one"], "synthetic": [1], COLUMN: [cell]})
        table.to_parquet(folder / "manifest.parquet")
        corpus = _prepare(folder / "manifest.parquet", folder, {COLUMN: COLUMN})
        notes = corpus.manifest["warnings"].iat[0] or ""
        seen = corpus.read_mask(0, "x") if COLUMN in corpus.manifest else None
        return [Outcome("refused", notes) if seen is None else Outcome("read", "", notes, (seen,))]

    return attempt(work, 1)


def archive(folder: Path, names: list[str]) -> list[Outcome]:
    """Pack what an archive holds, or a DICOMDIR names."""

    def work() -> list[Outcome]:
        info = (corpus := _prepare(folder / names[0], folder)).info
        told = [note for note in info["notes"] if note.startswith("passed over")]
        notes = "; ".join([*told, *info["warnings"], *info["skipped"]])
        return [Outcome("traceback" if "unexpected" in notes else "read", notes, notes, _pictures(corpus))]

    return attempt(work, 1)


def manifest(folder: Path, names: list[str]) -> list[Outcome]:
    """Pack what a manifest lists."""
    return attempt(lambda: [Outcome("read", "", "", _pictures(_prepare(folder / names[0], folder)))], 1)


def _prepare(images: Path, folder: Path, columns: dict[str, str] | None = None) -> Any:
    from raddino.corpus.prepare import prepare

    return prepare(images, folder / "out", columns=columns, bits=16, key=KEY, workers=1)


def _packed(folder: Path, names: list[str], columns: dict[str, str]) -> list[Outcome]:
    import pandas as pd

    table = pd.DataFrame({"path": names, "id": [f"i{at}" for at in range(len(names))], "synthetic": 1})
    table["patient"] = table["id"]
    table.to_csv(folder / "manifest.csv", index=False)
    corpus = _prepare(folder / "manifest.csv", folder, columns)
    outcomes = {}
    for at, row in enumerate(corpus.manifest[["id", "warnings"]].itertuples(index=False)):
        outcomes[row.id] = Outcome("read", "", row.warnings or "", (corpus.read(at),))
    for row in pd.read_csv(folder / "out" / "skipped.csv").itertuples(index=False):
        outcomes[row.hash] = Outcome("traceback" if "unexpected" in row.reason else "refused", row.reason)
    lost = Outcome("traceback", "neither packed nor listed as skipped")
    return [outcomes.get(f"i{at}", lost) for at in range(len(names))]


def _pictures(corpus: Any) -> tuple[np.ndarray, ...]:
    masks = (corpus.read_mask(at, name) for name in corpus.mask_names for at in range(len(corpus)))
    return (*(corpus.read(at) for at in range(len(corpus))), *(one for one in masks if one is not None))


def opener(open_folder: Callable[[Path], tuple[np.ndarray, ...]]) -> Callable[[Path, list[str]], list[Outcome]]:
    """A job that opens a folder that somebody else may have written."""
    return lambda folder, names: attempt(lambda: [Outcome("read", "", "", open_folder(folder))], 1)


def corpus(folder: Path) -> tuple[np.ndarray, ...]:
    """Images and masks of a corpus."""
    from raddino.corpus.dataset import Corpus

    held = Corpus.open(folder)
    held.rows("train", where="source == 'x'")
    return _pictures(held)


def encoder(folder: Path) -> tuple[np.ndarray, ...]:
    """Features of one image by an encoder, and digests of the images that it was trained on."""
    from raddino.encoders.load import load_encoder

    held = load_encoder(folder, device="cpu")
    grey = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40).astype(np.uint8)
    return (held.encode(held.preprocess([grey])).cls.numpy(), *_seen(held.seen_images))


def features(folder: Path) -> tuple[np.ndarray, ...]:
    """A feature file."""
    from raddino.features.cache import FeatureSet

    held = FeatureSet.load(next(folder.glob("features.*")))
    return held.cls, held.rows, held.mean_patch


def cache(folder: Path) -> tuple[np.ndarray, ...]:
    """Features and patch features of a corpus that were cached before."""
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.load import load_encoder
    from raddino.features.extract import embed

    held = Corpus.open(folder / "corpus")
    made = embed(held, load_encoder(folder / "encoder", "cpu"), cache=folder / "cache", patches=True)
    return made.cls, made.mean_patch, np.asarray(made.patches[:])


def model(folder: Path) -> tuple[np.ndarray, ...]:
    """A segmentation model and what it makes of an image."""
    from raddino.tasks.segmentation.model import SegmentationModel

    held = SegmentationModel.load(folder / "model", str(folder / "encoder"), "cpu")
    return (held.segment(np.arange(48 * 40, dtype=np.uint16).reshape(48, 40).astype(np.uint8)),)


def results(folder: Path) -> tuple[np.ndarray, ...]:
    """A result folder and its table."""
    from raddino.benchmark.results import Results

    held = Results.open(folder)
    return held.leaderboard()["value"].to_numpy(), held.predictions["score"].to_numpy()


def suite(folder: Path) -> tuple[np.ndarray, ...]:
    """A suite."""
    from raddino.benchmark.suite import load_suite

    load_suite(folder / "suite.yaml")
    return ()


def run(folder: Path) -> tuple[np.ndarray, ...]:
    """A run's config, the teacher in its checkpoint, and digests of the images that it was trained on."""
    from raddino.config import load_config
    from raddino.encoders.seen_images import SeenImages
    from raddino.training.checkpoint import checkpoint_backbone, latest_step
    from raddino.training.settings import PretrainConfig

    config = load_config(PretrainConfig, str(folder / "config.yaml"))
    step = latest_step(folder / "checkpoints")
    held = checkpoint_backbone(folder / "checkpoints" / f"step_{step}", config.vit)
    return (*(tensor.numpy() for tensor in held.state.values()), *_seen(SeenImages.load(folder)))


def _seen(held: Any) -> tuple[np.ndarray, ...]:
    return () if held is None else (held.digests, np.frombuffer(held.salt, np.uint8))


def inspection(folder: Path) -> tuple[np.ndarray, ...]:
    """What was measured of a corpus before."""
    from raddino.corpus.dataset import Corpus
    from raddino.inspection import CHECKS
    from raddino.inspection.measures import measure

    held = Corpus.open(folder / "corpus")
    measured = measure(held, [CHECKS[name] for name in ("exposure", "intensity", "duplicates")], workers=1)
    return tuple(np.frombuffer(table.to_json().encode(), np.uint8) for table in measured.values())


OPENERS = {one.__name__: one for one in (corpus, encoder, features, cache, model, results, suite, run, inspection)}
"""What opens each kind of folder and gives the arrays that a user would get."""
JOBS: dict[str, Callable[[Path, list[str]], list[Outcome]]] = {
    "images": images,
    "mask": mask,
    "manifest": manifest,
    "archive": archive,
    **{name: opener(one) for name, one in OPENERS.items()},
}
