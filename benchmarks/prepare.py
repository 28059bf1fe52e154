"""Speed of ``raddino prepare`` beside other ways to read the same files, and of reading what it packed.

    python benchmarks/prepare.py [--images 32] [--copies 8] [--size 2048] [--rounds 3] [--workers 2]
                                 [--kinds dicom,png] [--peers plain,xrv,monai,radreader] [--path FOLDER]
                                 [--baseline ../raddino-before] [--folder FILES]

Files are drawn phantoms with detector noise, as DICOM (uncompressed 12 bits, JPEG 2000, JPEG-LS, RLE, baseline JPEG),
PNG and JPEG, each kind in a folder of its own (the ``test`` extra compresses them); ``--folder`` adds one of yours.
Each file stands there ``--copies`` times, so that the start of the workers, half a second of processor time each,
weighs as little as in a corpus.

* ``now``, ``before``: ``prepare`` of this checkout and of the baseline's, which decodes in ``--workers`` processes.
* ``plain``: one process that loops over pydicom's (or Pillow's) pixels, applies slope, intercept and polarity, takes
  the range to 0..255, reduces the shorter side to 518 by Pillow's bicubic and writes PNG files, compressed as ours are.
* ``xrv``, ``monai``, ``radreader``: the same loop, files read by torchxrayvision, MONAI and radreader (``--path``:
  where the last is installed, for it is no extra of ours). One that does not read a kind is said to refuse it.
* ``open``: the plain loop without reduction and PNG files. ``packed``: every image of the corpus of ``now``, read.

In each round every side runs in a process of its own, in turn. Printed are images/s by the wall clock and, for a busy
machine, processor milliseconds an image with those of all children, both medians over the rounds; the start of Python
and imports are left out, that of the workers is not.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless, generate_uid

from raddino.sample.scene import render
from raddino.sample.studies import draw_scene

HERE = Path(__file__).resolve().parents[1]
START = """
import json, os, sys, time
import numpy as np
from PIL import Image

def told(begun, count):
    used = os.times()
    wall = time.perf_counter() - begun[0]
    print(json.dumps([count / wall, 1000 * (sum(used[:4]) - begun[1]) / count]))

def begin():
    return time.perf_counter(), sum(os.times()[:4])
"""
PREPARE = """
from raddino.corpus.prepare import prepare
if __name__ == "__main__":
    images, out, workers = sys.argv[1:]
    begun = begin()
    corpus = prepare(images, out, workers=int(workers), key="a key for benchmarks")
    told(begun, len(corpus.manifest))
"""
PACKED = """
from raddino.corpus.dataset import Corpus
corpus = Corpus.open(sys.argv[2])
begun = begin()
for row in range(len(corpus)):
    corpus.read(row)
told(begun, len(corpus))
"""
LOOP = """
files = sorted(os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1]))
os.makedirs(sys.argv[2], exist_ok=True)
read(files[0])
begun = begin()
for number, file in enumerate(files):
    values = np.asarray(read(file), dtype=np.float32)
    values = np.squeeze(values)
    low, high = values.min(), values.max()
    grey = ((values - low) * (255 / max(high - low, 1e-9))).round().astype(np.uint8)
    if WRITE:
        image = Image.fromarray(grey)
        share = min(1, 518 / min(image.size))
        image = image.resize([round(side * share) for side in image.size], Image.Resampling.BICUBIC)
        image.save(os.path.join(sys.argv[2], f"{number}.png"), compress_level=2)
told(begun, len(files))
"""
PLAIN = """
import pydicom
def read(file):
    if not file.endswith(".dcm"):
        return Image.open(file)
    held = pydicom.dcmread(file)
    values = held.pixel_array * float(held.get("RescaleSlope", 1)) + float(held.get("RescaleIntercept", 0))
    return -values if held.PhotometricInterpretation == "MONOCHROME1" else values
"""
XRV = """
import torchxrayvision as xrv
from skimage.io import imread
def read(file):
    return xrv.utils.read_xray_dcm(file) if file.endswith(".dcm") else xrv.utils.load_image(file)[0]
"""
MONAI = """
from monai.transforms import LoadImage
of = {True: LoadImage(reader="PydicomReader", image_only=True), False: LoadImage(reader="PILReader", image_only=True)}
def read(file):
    return np.squeeze(np.asarray(of[file.endswith(".dcm")](file))).T
"""
RADREADER = """
import radreader
def read(file):
    return radreader.read(file).pixels
"""
PEERS = {"plain": PLAIN, "xrv": XRV, "monai": MONAI, "radreader": RADREADER}
SYNTAXES = {
    "dicom": None,
    "dicom-jpeg-2000": JPEG2000Lossless,
    "dicom-jpeg-ls": JPEGLSLossless,
    "dicom-rle": RLELossless,
}


def main() -> None:
    """Parse options, make the files, time every side, print a line a side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="a checkout of another commit")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="files of yours")
    parser.add_argument("--kinds", default=",".join((*SYNTAXES, "dicom-jpeg", "png", "jpeg")))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--path", default="", help="folder that holds radreader")
    options = parser.parse_args()
    peers = [name for name in options.peers.split(",") if name]
    with tempfile.TemporaryDirectory() as scratch:
        folders = make_files(Path(scratch) / "files", options.images, options.size, options.kinds.split(","))
        for file in [file for folder in folders for file in folder.iterdir()]:
            for number in range(1, options.copies):
                os.link(file, file.with_stem(f"{file.stem}-{number}"))
        for folder in [*folders, *([options.folder] if options.folder else [])]:
            measured: dict[str, list[tuple[float, float]]] = {}
            for number in range(options.rounds):
                for side, code, checkout in sides(peers, options.baseline):
                    out = Path(scratch) / "out" / f"{folder.name}-{'now' if side == 'packed' else side}-{number}"
                    if (
                        found := run(code, [folder, out, options.workers], [checkout / "src", options.path])
                    ) is not None:
                        measured.setdefault(side, []).append(found)
            show(folder.name, measured, [*peers, "now"])


def sides(peers: list[str], baseline: Path | None) -> list[tuple[str, str, Path]]:
    """Name, code and checkout of what is run."""
    prepared = [("now", PREPARE, HERE), *([("before", PREPARE, baseline)] if baseline else [])]
    loops = [(name, f"WRITE = True\n{PEERS[name]}{LOOP}", HERE) for name in peers]
    return [*prepared, *loops, ("open", f"WRITE = False\n{PLAIN}{LOOP}", HERE), ("packed", PACKED, HERE)]


def run(code: str, arguments: list[object], path: list[object]) -> tuple[float, float] | None:
    """Images/s and processor milliseconds an image; None where it fails."""
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "run.py"
        script.write_text(START + code, encoding="utf-8")
        found = os.pathsep.join(str(one) for one in path if one)
        command = [sys.executable, str(script), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode and len(arguments) and code.endswith(PREPARE):
        raise SystemExit(done.stderr)
    return None if done.returncode else tuple(json.loads(done.stdout.splitlines()[-1]))


def show(name: str, measured: dict[str, list[tuple[float, float]]], asked: list[str]) -> None:
    """A line a side, with how many times as fast as it ``prepare`` is."""
    medians = {side: tuple(map(statistics.median, zip(*found, strict=True))) for side, found in measured.items()}
    print(f"{name}:")
    for side, (rate, spent) in medians.items():
        beside = {"packed": "open"}.get(side, side)
        ratio = medians["packed" if side == "packed" else "now"][0] / medians[beside][0]
        words = (
            "" if side in ("now", "open") else f"  {ratio:.2f} x " + ("open" if side == "packed" else "as fast is now")
        )
        print(f"  {side:10}{rate:8.1f} images/s {spent:8.1f} CPU ms an image{words}", flush=True)
    for side in (side for side in asked if side not in medians):
        print(f"  {side:10}refuses these files, or is not installed", flush=True)


def make_files(root: Path, number: int, size: int, kinds: list[str]) -> list[Path]:
    """A folder a kind, each with the same pictures."""
    for name in (*SYNTAXES, "dicom-jpeg", "png", "jpeg"):
        (root / name).mkdir(parents=True)
    for i in range(number):
        rng = np.random.default_rng(i)
        drawn = render(draw_scene(0, i, size).scene).image
        deep = np.clip(drawn * 3900 + 100 + rng.normal(0, 12, drawn.shape), 0, 4095).astype(np.uint16)
        flat = Image.fromarray((deep >> 4).astype(np.uint8))
        flat.save(root / "png" / f"{i}.png")
        flat.save(root / "jpeg" / f"{i}.jpg", quality=92)
        for name, syntax in SYNTAXES.items():
            if name not in kinds:
                continue
            dataset = header(deep, 12)
            if syntax:
                dataset.compress(syntax)
            dataset.save_as(root / name / f"{i}.dcm", enforce_file_format=True)
        buffer = io.BytesIO()
        flat.save(buffer, "JPEG", quality=92)
        dataset = header(np.asarray(flat), 8)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([buffer.getvalue()])
        dataset.save_as(root / "dicom-jpeg" / f"{i}.dcm", enforce_file_format=True)
    return [root / name for name in kinds]


def header(values: np.ndarray, stored: int) -> Dataset:
    """An uncompressed DX data set of ``values`` (H, W)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    dataset.Modality, dataset.BodyPartExamined, dataset.PatientID = "DX", "CHEST", generate_uid()
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = values.itemsize * 8, stored, stored - 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = values.tobytes()
    return dataset


if __name__ == "__main__":
    main()
