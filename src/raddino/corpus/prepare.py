"""``prepare``: files in, a packed corpus out; atomic, resumable and without a trace of who was imaged."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import ArrowException

from raddino import __version__
from raddino.config import validate
from raddino.corpus.cluster import pack_on_cluster
from raddino.corpus.dataset import FORMAT, Corpus
from raddino.corpus.items import Items, digest_of, fill_namespaces, pseudonymise
from raddino.corpus.manifest import TEXTS, canonical_items, read_items
from raddino.corpus.pack import PARTIAL, Mend, Recipe, Record, ShardTask
from raddino.corpus.pool import pack_all
from raddino.corpus.remote import INFO, folder_of, publish
from raddino.corpus.seal import seal, summary
from raddino.corpus.sources import split_spec
from raddino.corpus.splits import check_patient_splits, check_proportions, patient_fraction
from raddino.errors import ConfigError, RaddinoError
from raddino.files import lock, owner_only, write_text
from raddino.images.phi import keyed_hash, load_key
from raddino.progress import bar
from raddino.storage import is_url, localised, remote_sizes, shown_url

__all__ = ["prepare", "summary"]

SMALLEST_SHARD, LARGEST_SHARD, SHARDS = 16, 512, 64
SYNTHETIC_KEY = "synthetic images have no patient"
OTHER = (
    "{} was made from other images, settings or key, or by another version; choose another --out, or delete it first"
)
BUSY = "another prepare is writing {}: wait for it, or choose another --out"


def prepare(
    images: str | Path,
    out: str | Path,
    *,
    columns: dict[str, str] | None = None,
    source: str | None = None,
    namespace: str | None = None,
    shorter_side: int = 518,
    bits: int = 8,
    frontal_only: bool = False,
    secondary_capture: bool = False,
    key: str | None = None,
    workers: int | None = None,
    where: str | None = None,
    splits: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    source_options: dict[str, Any] | None = None,
    fraction: float = 1.0,
    mend: Mend | None = None,
    engine: str = "local",
    duplicates: str = "ignore",
) -> Corpus:
    """Read, prepare and pack images into a corpus folder.

    Interrupted, it goes on where it stopped when called again with the same arguments; finished, it returns
    the corpus. A file that cannot be read is listed in ``skipped.csv`` by keyed hash and reason, and stops
    nothing.

    Args:
        images: a folder, a glob, an archive, a DICOMDIR, a ``.csv`` / ``.parquet`` manifest (also a folder that holds
            ``manifest.csv``), the URL of one of these, or ``NAME:FOLDER`` with a data set of
            :data:`raddino.corpus.sources.SOURCES`.
        out: the corpus folder, new or from an interrupted run; or a URL, to which a finished corpus is copied.
        columns: our column to the manifest's, see :func:`raddino.corpus.manifest.read_items`.
        source: the data set's name where the manifest gives none.
        namespace: whose patient numbers they are, where the manifest gives none: one number in one namespace is one
            person, whatever the source. Hospitals whose numbers may collide have one each.
        shorter_side: pixels; images are reduced to it and never enlarged.
        bits: 8 or 16 bits a pixel.
        frontal_only: leave lateral and oblique views out.
        secondary_capture: take DICOM Secondary Capture too, see :func:`raddino.images.admit.admit`; a data set that was
            published as such takes it without being asked.
        key: for hashing identifiers, see :func:`raddino.images.phi.load_key`.
        workers: processes; None for one a core. The result does not depend on it. Under Ray: actors.
        where: pandas query that rows of the manifest must satisfy.
        splits: proportions of train, val and test for patients whose split the manifest does not give.
        seed: of those splits, and of ``fraction``.
        source_options: of the data set that ``NAME:FOLDER`` names, e.g. ``{"readers": "any"}``; kept in
            ``corpus.json`` under ``source``.
        fraction: share of the patients, drawn by hash and nested; where only a DICOM header tells the patient,
            images count singly.
        mend: what is done to images before they are packed, for example
            :class:`raddino.inspection.mend.Mending`; None for nothing.
        engine: ``"ray"`` spreads the shards over a Ray cluster whose machines see the images and ``out`` under the
            same names (extra ``cluster``); the corpus is the same to the byte.
        duplicates: what to do about copies of one picture, see :data:`raddino.corpus.copies.Policy`.

    Raises:
        RaddinoError: nothing to read, ``out`` holds something else or another process writes it, a patient stands
            in two splits, copies do and are refused, no image left, or the corpus cannot be written.
    """
    url = str(out).rstrip("/") if is_url(out := localised(out)) else None
    out = Path(out) if url is None else folder_of(url, "staged")
    check_proportions(splits)
    if engine not in ("local", "ray"):
        raise ConfigError(f"engine takes local or ray, got {engine!r}")
    if engine == "ray" and str(images).startswith("memory:"):
        raise ConfigError("memory:// URLs are of one process: engine ray needs files, or URLs that all machines see")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    if os.path.lexists(out) and not out.is_dir():
        raise RaddinoError(f"{out} is a file; --out takes a folder")
    spec = split_spec(images)
    secondary_capture = secondary_capture or (spec is not None and spec[0].secondary_capture)
    values: Record = {"shorter_side": shorter_side, "bits": bits, "frontal_only": frontal_only}
    values |= {"secondary_capture": secondary_capture, "splits": tuple(splits), "seed": seed}
    values["duplicates"] = duplicates
    if mend is not None:
        values["mended"] = mend.settings
    recipe = validate(Recipe, values)
    made_by: Record = {}
    if spec:
        if source is not None:
            raise ConfigError(f"source is given twice: {images} names one, source={source!r} another")
        raw = spec[0].read(spec[1], **(source_options or {}))
        made_by["source"] = {"name": spec[0].name, **raw.attrs}
        table, classes = canonical_items(raw, spec[1], columns, where)
    elif source_options:
        raise ConfigError(f"source_options need images like vindr-cxr:FOLDER; {images} names no source")
    else:
        table, classes = read_items(images, columns, source, where, exclude=out)
    key = SYNTHETIC_KEY if table["synthetic"].all() else load_key(key)
    made_by |= table.attrs
    items, repeated = pseudonymise(fill_namespaces(table, namespace), key)
    del table
    if fraction != 1:
        items = items[patient_fraction(items["patient"].fillna(items["id"]).to_numpy(), fraction, seed)]
        made_by["fraction"] = fraction
    check_patient_splits(items)
    plan = keyed_hash(key, "plan", f"{FORMAT} {__version__} {recipe.model_dump_json()} {digest_of(items)}")
    corpus = _published(url, plan) if url else _finished(out, plan)
    if corpus is not None:
        return corpus
    info = {"preparation": recipe.model_dump(mode="json"), "plan": plan, **made_by}
    private = bool(items[list(TEXTS)].notna().any(axis=None))
    pack = partial(pack_on_cluster, private=private) if engine == "ray" else pack_all
    tasks = _tasks(out, items, recipe, key, mend)
    with _written_whole(out):
        with owner_only(url is not None):
            out.parent.mkdir(parents=True, exist_ok=True)
        with owner_only(private or url is not None), lock(out / PARTIAL, BUSY.format(out)):
            if _finished(out, plan) is None:  # still, now that no other process can end it
                _begin(out, plan, private)
                todo = [task for task in tasks if not task.record.is_file()]
                done = len(items) - sum(len(task.items) for task in todo)
                with bar("prepare", total=len(items), done=done) as shown:
                    pack(todo, workers, shown)
                seal(out, tasks, repeated, classes, info)
            shutil.rmtree(out / PARTIAL, ignore_errors=True)
    if url:
        publish(out, url)
    return Corpus.open(url or out)


def _published(url: str, plan: str) -> Corpus | None:
    """The corpus at a URL where it is complete.

    Raises:
        RaddinoError: it is another one.
    """
    if INFO not in remote_sizes(url):
        return None
    corpus = Corpus.open(url)
    if corpus.info.get("plan") != plan:
        raise RaddinoError(OTHER.format(shown_url(url)))
    return corpus


def _finished(out: Path, plan: str) -> Corpus | None:
    """The corpus in ``out`` where it is complete.

    Raises:
        RaddinoError: ``out`` holds something that these inputs and settings did not make.
    """
    if not (out / "corpus.json").is_file():
        if out.is_dir() and any(out.iterdir()) and not (out / PARTIAL).is_dir():
            raise RaddinoError(f"{out} is not empty and holds no corpus; choose another --out")
        return None
    corpus = Corpus.open(out)
    if corpus.info.get("plan") != plan:
        raise RaddinoError(OTHER.format(out))
    shutil.rmtree(out / PARTIAL, ignore_errors=True)
    return corpus


def _begin(out: Path, plan: str, private: bool) -> None:
    """Make or re-enter the work folder, which this process holds, and clear it of what was left half-written.

    Raises:
        RaddinoError: other inputs or settings are half prepared there.
    """
    marker = out / PARTIAL / "plan"
    if marker.exists() and marker.read_bytes() != plan.encode():
        raise RaddinoError(OTHER.format(out))
    if private and out.stat().st_mode & 0o077:
        out.chmod(0o700)
    (out / "shards").mkdir(exist_ok=True)
    for half in (out / "shards").glob("*.part"):
        half.unlink()
    write_text(marker, plan)


@contextmanager
def _written_whole(out: Path) -> Iterator[None]:
    """A full disk, missing rights and the like as one line."""
    try:
        yield
    except (OSError, ArrowException) as error:
        words = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise RaddinoError(
            f"cannot write {getattr(error, 'filename', None) or out} ({words}): see to free space and rights, and run "
            "the same command again to continue"
        ) from None


def _tasks(out: Path, items: pd.DataFrame, recipe: Recipe, key: str, mend: Mend | None) -> list[ShardTask]:
    """Consecutive items to shards: at least 64 of them where there are enough images, for as many cores."""
    size = min(LARGEST_SHARD, max(SMALLEST_SHARD, math.ceil(len(items) / SHARDS)))
    return [
        ShardTask(out, number, Items(items.iloc[start : start + size]), recipe, key, mend)
        for number, start in enumerate(range(0, len(items), size))
    ]
