"""What ``prepare`` costs before its first image: processor seconds and memory to read and plan a manifest.

Run ``python benchmarks/plan.py [-n 1000000] [--labels 14] [--reports] [--archive zip]``. The manifest has as many rows,
four to a patient, all of which point to a few small files; a process of its own reads and plans it and stops where
packing would begin. Its start and imports are measured apart. With ``--archive`` (``zip``, ``tar`` or ``tgz``) the rows
name as many members of one archive, and the archive is then listed without a manifest, too. Linux only: the peak is the
kernel's ``VmHWM``.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

FILES = 8
CHILD = """
import json, re, sys, time
from pathlib import Path
from raddino.corpus import prepare as module

class Planned(Exception):
    pass

def stop(*_):
    raise Planned

def used():
    peak = re.search("VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
    return time.process_time(), int(peak[1]) * 1024 / 1e6

module.pack_all = stop
before = used()
try:
    module.prepare(sys.argv[1], sys.argv[2], key="the key of a benchmark")
except Planned:
    print(json.dumps([before, used()]))
"""


def write_archive(path: Path, rows: int) -> list[str]:
    """An archive of ``rows`` small members in a thousand folders; returns their names."""
    names = [f"{n % 1000:03}/image{n:08}.png" for n in range(rows)]
    data = (path.parent / "0.png").read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as made:
            for name in names:
                made.writestr(zipfile.ZipInfo(name), data)
        return names
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as made:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
            made.members = []
    return names


def write_manifest(folder: Path, rows: int, labels: int, reports: bool, archive: str | None) -> Path:
    """A CSV file of ``rows`` rows with facts and 0/1/empty labels."""
    for n in range(FILES):
        Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * (n + 1)).save(folder / f"{n}.png")
    places = np.array([f"{n}.png" for n in range(FILES)])[np.arange(rows) % FILES]
    if archive:
        places = np.array([f"x.{archive}::{name}" for name in write_archive(folder / f"x.{archive}", rows)])
    row, rng = np.arange(rows), np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "path": places,
            "id": [f"image{n:08}" for n in row],
            "patient_id": [f"P{n:07}" for n in row // 4],
            "study_id": [f"S{n:07}" for n in row // 2],
            "view": np.array(["PA", "AP", "LATERAL"])[row % 3],
            "sex": np.array(["F", "M"])[row // 4 % 2],
            "age": 20 + row // 4 % 70,
            **{f"label_finding{n}": rng.choice([0, 1, np.nan], rows) for n in range(labels)},
        }
    )
    if reports:
        table["report"] = [f"Study {n}: heart and lungs as before. " * 10 for n in row // 2]
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1_000_000, help="rows")
    parser.add_argument("--labels", type=int, default=14)
    parser.add_argument("--reports", action="store_true", help="a report of 400 characters in each row")
    parser.add_argument("--archive", choices=["zip", "tar", "tgz"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), options.n, options.labels, options.reports, options.archive)
        for images in [manifest, *([manifest.parent / f"x.{options.archive}"] if options.archive else [])]:
            start = time.perf_counter()
            child = subprocess.run(
                [sys.executable, "-c", CHILD, str(images), f"{folder}/corpus-{images.name}"],
                capture_output=True,
                encoding="utf-8",
                check=True,
            )
            wall, size = time.perf_counter() - start, images.stat().st_size / 1e6
            (idle, small), (busy, large) = json.loads(child.stdout)
            print(
                f"{images.name}, {options.n} rows, {size:.0f} MB: {busy - idle:.1f} CPU s, {wall:.1f} s in all, ",
                end="",
            )
            print(f"peak {large:.0f} MB; before: imports {idle:.1f} CPU s, {small:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
