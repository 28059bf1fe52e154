"""Makes small images and tables in the layouts in which data sets are distributed."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare


@pytest.fixture
def draw() -> Callable[..., Path]:
    """Write a random picture of 30 x 26: DICOM, 8-bit JPEG or PNG, or (``deep``) 16-bit PNG, by its suffix."""

    def write(path: Path, deep: bool = False, **header) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(list(path.name.encode()))
        if path.suffix in (".png", ".jpg", ".jpeg"):
            dtype = np.uint16 if deep else np.uint8
            Image.fromarray(rng.integers(0, np.iinfo(dtype).max, (30, 26)).astype(dtype)).save(path)
            return path
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
        facts = {
            "Modality": "CR", "BodyPartExamined": "CHEST", "PhotometricInterpretation": "MONOCHROME2",
            "SamplesPerPixel": 1, "Rows": 30, "Columns": 26, "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
            "PixelRepresentation": 0, "PixelData": rng.integers(0, 4096, 780).astype("<u2").tobytes(),
        }  # fmt: skip
        for keyword, value in {**facts, **header}.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def square() -> dict[str, object]:
    """Elements that make :func:`draw` write DICOM of 32 x 32."""
    pixels = np.random.default_rng(0).integers(0, 4096, 1024).astype("<u2")
    return {"Rows": 32, "Columns": 32, "PixelData": pixels.tobytes()}


@pytest.fixture
def packed(tmp_path) -> Callable[..., Corpus]:
    """``prepare`` a data set and check that every image came through and nobody stands in two splits."""

    def pack(spec: str, images: int, /, shape: tuple[int, int] = (30, 26), **options) -> Corpus:
        corpus = prepare(spec, tmp_path / "corpus", source_options=options, workers=1)
        assert corpus.info["skipped"] == {}
        assert len(corpus) == images
        assert corpus.manifest.groupby("patient")["split"].nunique().max() == 1
        assert corpus.read(0).shape == shape
        return corpus

    return pack


def write_csv(path: Path, rows: list[dict] | pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def table() -> Callable[..., Path]:
    """Write rows as CSV (``.csv.gz`` is compressed)."""
    return write_csv


@pytest.fixture
def without() -> Callable[[Path, str], None]:
    """Take one column out of a CSV file."""

    def drop(path: Path, column: str) -> None:
        pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=column).to_csv(path, index=False)

    return drop


@pytest.fixture
def published() -> Path:
    """Tables as their publishers distribute them, which torchxrayvision carries."""
    found = find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision is not installed")
    return Path(found.submodule_search_locations[0]) / "data"
