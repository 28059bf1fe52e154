"""A DICOM file in memory, with any element changed or left out."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def dicom_dataset(values: np.ndarray, **elements: Any) -> Dataset:
    """A valid DX chest radiograph of ``values`` (H, W) uint16; an element given as None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    defaults = {
        "Modality": "DX", "BodyPartExamined": "CHEST", "PatientName": "Doe^Jane", "PatientID": "P-4711",
        "Rows": values.shape[0], "Columns": values.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": values.tobytes(),
    }  # fmt: skip
    for keyword, value in {**defaults, **elements}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def make_dicom() -> Callable[..., bytes]:
    """``make_dicom(values, **elements)`` gives the bytes of a file."""

    def make(values: np.ndarray, **elements: Any) -> bytes:
        buffer = BytesIO()
        dicom_dataset(values, **elements).save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return make


@pytest.fixture
def ramp() -> np.ndarray:
    """(24, 40) uint16, every value different."""
    return np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 40 + 100
