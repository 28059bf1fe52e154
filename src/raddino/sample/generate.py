"""``raddino sample``: a folder of synthetic radiographs with exact ground truth."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import raddino
from raddino.cores import usable_cores
from raddino.errors import RaddinoError, counted, did_you_mean
from raddino.files import is_free, write_text, writing
from raddino.progress import track
from raddino.sample.detectors import Planting

FORMATS = {"png": ".png", "dicom": ".dcm"}
STRUCTURES = ("lungs", "zones", "heart", "ribs")
PATIENCE = 2.0
"""Seconds without an image after which it is seen whether the processes live."""
NOTICE = "Synthetic images drawn by raddino. No patient was imaged. Never mix them silently with real data."


def sample(
    out: Path, n: int, *, seed: int = 0, size: int = 518, format: str = "png", workers: int | None = None,
    detectors: int = 1, confound: str | None = None,
) -> Path:  # fmt: skip
    """Draw ``n`` synthetic chest radiographs into a folder.

    Image ``i`` is a pure function of (seed, i), whatever ``n``, the number of workers and the order. A run
    that was interrupted goes on where it stopped, with the same bytes; a larger ``n`` extends a sample.

    Args:
        out: folder to make: ``images/``, ``masks/``, ``manifest.csv``, ``sample.json``.
        n: how many images, at least 1.
        seed: 0 or more.
        size: side of the square images in pixels, at least 32.
        format: ``"png"`` (16 bit) or ``"dicom"`` (12 bits stored, MONOCHROME1 and 2).
        workers: processes; None takes all cores.
        detectors: 2 for studies taken by one of two detectors, which leave fingerprints; named in ``manufacturer`` and
            ``detector``.
        confound: ``FINDING=SHARE`` of the studies with a finding that the second detector took, and of the others that
            the first one took; None where detectors are independent of findings.

    Returns:
        ``out``.

    Raises:
        RaddinoError: an argument out of range, a folder that holds something else or cannot be written, or a process
            that was killed.
    """
    out = Path(out)
    _check(n, seed, size, format, workers)
    planting = Planting.parse(detectors, confound)
    _claim(out, n, seed, size, format, planting)
    for folder in (out / "images", out / "masks"):
        with writing(folder):
            folder.mkdir(exist_ok=True)
    jobs = [(str(out), index, seed, size, format, planting) for index in range(n)]
    count = workers or usable_cores()
    with _mapper(min(count, n)) as run:
        rows = list(track(run(jobs), "draw", total=n))
    _write_manifest(out, rows)
    return out


def _check(n: int, seed: int, size: int, format: str, workers: int | None) -> None:
    if n < 1:
        raise RaddinoError(f"the number of images must be at least 1, got {n}")
    if seed < 0:
        raise RaddinoError(f"seed must be 0 or more, got {seed}")
    if not 32 <= size <= 4096:
        raise RaddinoError(f"size must be 32 to 4096 pixels, got {size}")
    if format not in FORMATS:
        raise RaddinoError(f"unknown format {format!r}.{did_you_mean(format, FORMATS)} Known: {', '.join(FORMATS)}.")
    if workers is not None and workers < 1:
        raise RaddinoError(f"workers must be at least 1, got {workers}")


def _claim(out: Path, n: int, seed: int, size: int, format: str, planting: Planting) -> None:
    """Make the folder ours: write ``sample.json``, or accept one that differs in a smaller ``n`` alone."""
    wanted = {
        "synthetic": True, "notice": NOTICE, "format": 1, "raddino": raddino.__version__,
        "seed": seed, "size": size, "files": format, "n": n,
        **({"planted": asdict(planting)} if planting.detectors > 1 else {}),
    }  # fmt: skip
    file = out / "sample.json"
    if out.exists() and not out.is_dir():
        raise RaddinoError(f"{out} is a file; --out takes a folder")
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            held = int(found["n"])
        except (ValueError, KeyError, TypeError):
            raise RaddinoError(f"{file} cannot be read; remove the folder or choose another") from None
        other = [key for key in {**wanted, **found} if key != "n" and found.get(key) != wanted.get(key)]
        if other:
            key = other[0]
            raise RaddinoError(
                f"{out} holds a sample with {key} {found.get(key)!r}, not {wanted.get(key)!r}; choose another"
            )
        if held > n:
            raise RaddinoError(
                f"{out} holds a sample of {counted(held, 'image')}, more than {n}; choose another folder"
            )
    elif not is_free(out):
        raise RaddinoError(f"{out} is not empty and holds no sample; choose another folder")
    write_text(file, json.dumps(wanted, indent=2) + "\n")


@contextmanager
def workers_heap() -> Iterator[None]:
    """Processes started inside keep freed memory (glibc): page faults are a quarter of the time otherwise."""
    wanted = {name: str(1 << 28) for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")}
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[dict[str, Any]]]]:
    if workers == 1:
        yield lambda jobs: map(make_image, jobs)
        return
    others = set(multiprocessing.active_children())
    with workers_heap():
        pool = multiprocessing.get_context("spawn").Pool(workers)
    members = set(multiprocessing.active_children()) - others
    with pool:
        yield lambda jobs: _watched(pool.imap(make_image, jobs), members)


def _watched(results: Any, members: set[Any]) -> Iterator[dict[str, Any]]:
    """Results of a pool; what a process held when it was killed never comes, and the pool would wait for ever."""
    while True:
        try:
            yield results.next(timeout=PATIENCE)
        except StopIteration:
            return
        except multiprocessing.TimeoutError:
            if not all(member.is_alive() for member in members):
                raise RaddinoError(
                    "a process that draws died (out of memory, or killed): run the same command again to continue, "
                    "perhaps with fewer workers"
                ) from None


def make_image(job: tuple[str, int, int, int, str, Planting]) -> dict[str, Any]:
    """Draw one image unless it is there, masks first, and return its manifest row."""
    from raddino.sample.scene import render
    from raddino.sample.studies import draw_scene
    from raddino.sample.write import write_dicom, write_png

    folder, index, seed, size, format, planting = job
    out = Path(folder)
    image = draw_scene(seed, index, size, planting)
    row = manifest_row(image, format)
    if not (out / row["path"]).is_file():
        rendering = render(image.scene)
        for name, mask in rendering.masks.items():
            write_png(out / row[f"mask_{name}"], mask)
        if format == "dicom":
            write_dicom(out / row["path"], rendering.image, image)
        else:
            write_png(out / row["path"], np.round(rendering.image * 65535).astype(np.uint16))
    return row


def manifest_row(image: Any, format: str) -> dict[str, Any]:
    """One row of ``manifest.csv``, from the scene alone; a mask that is not drawn is an empty cell."""
    from raddino.sample.text import report

    patient, scene = image.patient, image.scene
    labels = {**scene.findings.labels, **scene.devices.labels}
    stem = f"{image.index:06d}"
    drawn = {name: True for name in STRUCTURES} | {"zones": scene.view != "LATERAL"} | labels
    return {
        "id": f"synthetic-{patient.seed}-{stem}",
        "path": f"images/{stem}{FORMATS[format]}",
        "source": "synthetic",
        "patient_id": f"S{patient.seed}P{patient.index:06d}",
        "study_id": f"S{patient.seed}P{patient.index:06d}E{image.study}",
        "split": image.split,
        "view": scene.view,
        "sex": patient.sex,
        "age": patient.age,
        "weight": patient.weight,
        "bmi": patient.bmi,
        **({"manufacturer": by.manufacturer, "detector": by.kind} if (by := image.detector) else {}),
        **{f"label_{name}": value for name, value in labels.items()},
        "report": report(patient, image.study, scene.findings, scene.devices, scene.view),
        **{f"mask_{name}": f"masks/{stem}_{name}.png" if there else "" for name, there in drawn.items()},
        "synthetic": True,
    }


def _write_manifest(out: Path, rows: list[dict[str, Any]]) -> None:
    import pandas as pd

    write_text(out / "manifest.csv", pd.DataFrame(rows).to_csv(index=False))
