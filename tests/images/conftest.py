"""A DICOM file in memory, with any element changed or left out."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

NUMBERS = {
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "FieldOfViewRotation", "PatientWeight",
    "PatientSize", "PixelSpacing", "ImagerPixelSpacing", "KVP", "ExposureIndex",
}  # fmt: skip


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
        if isinstance(value, DataElement):
            dataset.add(value)
        elif value is not None:
            setattr(dataset, keyword, value)
    return dataset


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def make_dicom() -> Callable[..., bytes]:
    """``make_dicom(values, **elements)`` gives the bytes of a file."""

    def make(values: np.ndarray, **elements: Any) -> bytes:
        return _bytes(dicom_dataset(values, **elements))

    return make


@pytest.fixture
def make_dicom_unchecked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """The same, where the texts of numeric elements need not be numbers."""

    def make(values: np.ndarray, **elements: Any) -> bytes:
        dataset = dicom_dataset(values, **{name: value for name, value in elements.items() if name not in NUMBERS})
        for name in NUMBERS & elements.keys():
            if elements[name] is not None:
                dataset.add_new(name, "LO", str(elements[name]).split("\\"))
        data = _bytes(dataset)
        for name in NUMBERS & elements.keys():
            tag = tag_for_keyword(name)
            start = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
            data = data.replace(start + b"LO", start + b"DS")
        return data

    return make


@pytest.fixture
def make_dicom_as() -> Callable[..., bytes]:
    """``make_dicom_as(syntax, values, **elements)``: in another uncompressed transfer syntax."""

    def make(syntax: str, values: np.ndarray, **elements: Any) -> bytes:
        big = syntax == ExplicitVRBigEndian
        stored = values.astype(values.dtype.newbyteorder(">" if big else "<"))
        dataset = dicom_dataset(stored, **elements)
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        return _bytes(dataset)

    return make


@pytest.fixture
def make_dicom_with() -> Callable[..., bytes]:
    """``make_dicom_with(more, values, **elements)``: with elements that have no keyword of their own."""

    def make(more: list[DataElement], values: np.ndarray, **elements: Any) -> bytes:
        dataset = dicom_dataset(values, **elements)
        for element in more:
            dataset.add(element)
        return _bytes(dataset)

    return make


@pytest.fixture
def ramp() -> np.ndarray:
    """(24, 40) uint16, every value different."""
    return np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 40 + 100
