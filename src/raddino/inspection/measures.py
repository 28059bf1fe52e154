"""One pass over a packed corpus: every check measures every image once, in parts that survive an interruption."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from raddino.cores import deaf_to_interrupts, end_with_parent, usable_cores
from raddino.corpus.dataset import Corpus
from raddino.errors import RaddinoError, UnwritableError
from raddino.files import check_writable, lock, read_json, write_json
from raddino.inspection.base import Check, Value
from raddino.progress import bar

PART_IMAGES, BATCH = 256, 16
Measures = dict[str, list[dict[str, Value]]]


def measure(
    corpus: Corpus, checks: Sequence[Check], spare: Path | None = None, workers: int | None = None
) -> dict[str, pd.DataFrame]:
    """What each check measures of each image, computed where no cache holds it yet.

    The cache is ``<corpus>/inspection``, keyed by the corpus' fingerprint, and by name and version of a check. While
    one process measures, others are refused; what was measured before can be read by all.

    Args:
        corpus: packed.
        checks: of different names.
        spare: a second cache, for a corpus in which nothing can be written.
        workers: processes; None for one a core. The result does not depend on it.

    Returns:
        by check, a row an image.

    Raises:
        RaddinoError: a damaged image or part, a cache that cannot be written or that another process is filling, or a
            process that died.
    """
    places = [place / corpus.fingerprint for place in (corpus.path / "inspection", spare) if place is not None]
    parts = [range(start, min(start + PART_IMAGES, len(corpus))) for start in range(0, len(corpus), PART_IMAGES)]
    if _lacking(places, checks, parts):
        place = _writable(places)
        with lock(place, f"another inspect is measuring {corpus.path}: wait for it"):
            todo = _lacking(places, checks, parts)
            done = len(corpus) - sum(len(part) for part, _ in todo)
            with bar("inspect", total=len(corpus), done=done) as shown:
                for part, lacking, measured in _run(corpus, todo, workers or usable_cores()):
                    for check in lacking:
                        write_json(place / _name(check, part), {"measures": measured[check.name]})
                    shown.advance(len(part))
    return {check.name: _joined(places, check, parts) for check in checks}


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
            with deaf_to_interrupts():
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
    """End with the parent, and leave the other cores to others."""
    import torch

    end_with_parent()
    torch.set_num_threads(1)


def _measure_part(corpus: Corpus, checks: Sequence[Check], part: range) -> Measures:
    found: Measures = {check.name: [] for check in checks}
    for start in range(part.start, part.stop, BATCH):
        images = [corpus.read(row) for row in range(start, min(start + BATCH, part.stop))]
        for name, measured in measure_images(checks, images).items():
            found[name] += measured
    return found


def _name(check: Check, part: range) -> str:
    return f"{check.name}-{check.version}/{part.start:09d}.json"


def _held(places: list[Path], check: Check, part: range) -> Path | None:
    return next((file for place in places if (file := place / _name(check, part)).is_file()), None)


def _lacking(places: list[Path], checks: Sequence[Check], parts: list[range]) -> list[tuple[range, list[Check]]]:
    """Parts that no place holds whole, and the checks that are to measure them."""
    todo = [(part, [check for check in checks if _held(places, check, part) is None]) for part in parts]
    return [(part, lacking) for part, lacking in todo if lacking]


def _writable(places: list[Path]) -> Path:
    """The first place in which files can be made; where there is none, the last one's error."""
    for place in places[:-1]:
        with suppress(UnwritableError):
            check_writable(place)
            return place
    check_writable(places[-1])
    return places[-1]


def _joined(places: list[Path], check: Check, parts: list[range]) -> pd.DataFrame:
    measured: list[dict[str, Value]] = []
    for part in parts:
        file = _held(places, check, part) or places[-1] / _name(check, part)
        remedy = f"delete {file.parents[1]} and inspect again"
        held = read_json(file, remedy, sealed=True)["measures"]
        if len(held) != len(part):
            raise RaddinoError(f"{file} holds {len(held)} images instead of {len(part)}: {remedy}")
        measured += held
    return pd.DataFrame(measured)
