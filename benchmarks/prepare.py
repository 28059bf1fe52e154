"""Speed of ``raddino prepare``, beside that of another checkout in the same run.

    python benchmarks/prepare.py [--baseline ../raddino-before] [--images 32] [--size 1536] [--rounds 3] [--workers 2]
                                 [--folder FILES]

Files are drawn phantoms with detector noise, as DICOM (uncompressed 12 bits, JPEG 2000, JPEG-LS, RLE, baseline JPEG),
PNG and JPEG, each kind in a folder of its own (the ``test`` extra compresses them); ``--folder`` adds one of yours.
Each round prepares every folder anew with this checkout and with the baseline's ``src`` first on the path, in
processes of their own, in turn. Printed are images/s by the medians over the rounds and their ratio; the start of
Python is left out, that of the workers is not.
"""

from __future__ import annotations

import argparse
import io
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
RUN = """
import sys, time
from raddino.corpus.prepare import prepare
if __name__ == "__main__":
    images, out, workers = sys.argv[1:]
    start = time.perf_counter()
    corpus = prepare(images, out, workers=int(workers), key="a key for benchmarks")
    print(len(corpus.manifest) / (time.perf_counter() - start))
"""
SYNTAXES = {
    "dicom": None,
    "dicom-jpeg-2000": JPEG2000Lossless,
    "dicom-jpeg-ls": JPEGLSLossless,
    "dicom-rle": RLELossless,
}


def main() -> None:
    """Parse options, make the files, time both sides, print a line a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="a checkout of another commit")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="files of yours")
    options = parser.parse_args()
    sides = {"now": HERE, **({"before": options.baseline} if options.baseline else {})}
    with tempfile.TemporaryDirectory() as scratch:
        folders = make_files(Path(scratch) / "files", options.images, options.size)
        script = Path(scratch) / "run.py"
        script.write_text(RUN, encoding="utf-8")
        for folder in [*folders, *([options.folder] if options.folder else [])]:
            rates: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(options.rounds):
                for side, checkout in sides.items():
                    out = Path(scratch) / "corpora" / f"{folder.name}-{side}-{number}"
                    command = [sys.executable, str(script), str(folder), str(out), str(options.workers)]
                    path = {"PYTHONPATH": str(checkout.resolve() / "src")}
                    done = subprocess.run(command, env={**os.environ, **path}, capture_output=True, check=True)
                    rates[side].append(float(done.stdout))
            medians = {side: statistics.median(values) for side, values in rates.items()}
            line = ", ".join(f"{side} {rate:.1f} images/s" for side, rate in medians.items())
            ratio = f", ratio {medians['now'] / medians['before']:.2f}" if "before" in medians else ""
            print(f"{folder.name}: {line}{ratio}", flush=True)


def make_files(root: Path, number: int, size: int) -> list[Path]:
    """A folder a kind, each with the same pictures."""
    folders = [root / name for name in (*SYNTAXES, "dicom-jpeg", "png", "jpeg")]
    for folder in folders:
        folder.mkdir(parents=True)
    for i in range(number):
        rng = np.random.default_rng(i)
        drawn = render(draw_scene(0, i, size).scene).image
        deep = np.clip(drawn * 3900 + 100 + rng.normal(0, 12, drawn.shape), 0, 4095).astype(np.uint16)
        flat = Image.fromarray((deep >> 4).astype(np.uint8))
        flat.save(root / "png" / f"{i}.png")
        flat.save(root / "jpeg" / f"{i}.jpg", quality=92)
        for name, syntax in SYNTAXES.items():
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
    return folders


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
