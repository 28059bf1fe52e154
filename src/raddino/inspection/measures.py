"""One pass over a packed corpus: every check measures every image once, in parts that survive an interruption."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd

from raddino.cores import usable_cores
from raddino.corpus.dataset import Corpus
from raddino.errors import RaddinoError
from raddino.files import check_writable, read_json, write_json
from raddino.inspection.base import Check, Value
from raddino.progress import bar

PART_IMAGES, BATCH = 256, 16
Measures = dict[str, list[dict[str, Value]]]


def measure(
    corpus: Corpus, checks: Sequence[Check], cache: Path | None = None, workers: int | None = None
) -> dict[str, pd.DataFrame]:
    """What each check measures of each image, computed where the cache does not hold it yet.

    Args:
        corpus: packed.
        checks: of different names.
        cache: folder of parts, ``<corpus>/inspection`` by default; keyed by the corpus' fingerprint, and by name and
            version of a check.
        workers: processes; None for one a core. The result does not depend on it.

    Returns:
        by check, a row an image.

    Raises:
        RaddinoError: a damaged image or part, a cache that cannot be written, or a process that died.
    """
    folder = (Path(cache) if cache else corpus.path / "inspection") / corpus.fingerprint
    parts = [range(start, min(start + PART_IMAGES, len(corpus))) for start in range(0, len(corpus), PART_IMAGES)]
    todo = [(part, [check for check in checks if not _file(folder, check, part).is_file()]) for part in parts]
    todo = [(part, lacking) for part, lacking in todo if lacking]
    if todo:
        check_writable(folder)
    done = len(corpus) - sum(len(part) for part, _ in todo)
    with bar("inspect", total=len(corpus), done=done) as shown:
        for part, lacking, measured in _run(corpus, todo, workers or usable_cores()):
            for check in lacking:
                write_json(_file(folder, check, part), {"measures": measured[check.name]})
            shown.advance(len(part))
    return {check.name: _joined(folder, check, parts) for check in checks}


def measure_images(checks: Sequence[Check], images: Sequence[np.ndarray]) -> Measures:
    """What each check measures of images in hand, a few at a time."""
    found: Measures = {check.name: [] for check in checks}
    for start in range(0, len(images), BATCH):
        for check in checks:
            found[check.name] += check.measure(images[start : start + BATCH])
    return found


def _run(
    corpus: Corpus, todo: list[tuple[range, list[Check]]], workers: int
) -> Iterator[tuple[range, list[Check], Measures]]:
    if min(workers, len(todo)) < 2:
        for part, lacking in todo:
            yield part, lacking, _measure_part(corpus, lacking, part)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), context, _alone) as pool:
        try:
            futures = {pool.submit(_measure_part, corpus, lacking, part): (part, lacking) for part, lacking in todo}
            for future in as_completed(futures):
                yield *futures[future], future.result()
        except BrokenProcessPool:
            raise RaddinoError(
                "a process that inspects images died (out of memory, or killed): run the same command again to "
                "continue, with fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _alone() -> None:
    """Leave Ctrl-C to the parent, and one core to this process."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _measure_part(corpus: Corpus, checks: Sequence[Check], part: range) -> Measures:
    found: Measures = {check.name: [] for check in checks}
    for start in range(part.start, part.stop, BATCH):
        images = [corpus.read(row) for row in range(start, min(start + BATCH, part.stop))]
        for name, measured in measure_images(checks, images).items():
            found[name] += measured
    return found


def _file(folder: Path, check: Check, part: range) -> Path:
    return folder / f"{check.name}-{check.version}" / f"{part.start:09d}.json"


def _joined(folder: Path, check: Check, parts: list[range]) -> pd.DataFrame:
    remedy = f"delete {folder} and inspect again"
    measured: list[dict[str, Value]] = []
    for part in parts:
        file = _file(folder, check, part)
        held = read_json(file, remedy, sealed=True)["measures"]
        if len(held) != len(part):
            raise RaddinoError(f"{file} holds {len(held)} images instead of {len(part)}: {remedy}")
        measured += held
    return pd.DataFrame(measured)
