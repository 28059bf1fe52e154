"""Compressed streams whose every header field is ours to set, and DICOM files around them."""

import io
import struct
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid

JPEG, JPEG_12, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 70))
JPEG_LS, JPEG_2000, RLE = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


def drawn(bits: int, rows: int = 96, columns: int = 128) -> np.ndarray:
    """A ramp and a disc that use the whole range of ``bits``, (rows, columns) uint8 or uint16."""
    y, x = np.mgrid[:rows, :columns]
    disc = ((y - rows / 2) ** 2 + (x - columns / 2) ** 2) < (rows / 5) ** 2
    picture = (2 * x + y) / (2 * columns + rows) * 0.6 + 0.4 * disc
    scaled = (picture - picture.min()) / np.ptp(picture) * (2**bits - 1)
    return scaled.round().astype(np.uint8 if bits <= 8 else np.uint16)


def dicom(stream: bytes, syntax: str, shape: tuple[int, int], bits: int, **elements: Any) -> bytes:
    """A DX file of one frame of ``bits`` stored; an element given as None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    defaults = {
        "Modality": "DX", "BodyPartExamined": "CHEST", "PatientID": "P-4711", "SamplesPerPixel": 1,
        "Rows": shape[0], "Columns": shape[1], "BitsAllocated": 8 if bits <= 8 else 16, "BitsStored": bits,
        "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2", "PixelData": encapsulate([stream]),
    }  # fmt: skip
    values = {**defaults, **elements}
    for keyword, value in {"HighBit": values["BitsStored"] - 1, **values}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def jpeg_lossless(values: np.ndarray, precision: int, told: int | None = None) -> bytes:
    """JPEG lossless of the left neighbour (ITU-T T.81 Annex H); ``told`` is the precision written in its header."""
    patterns = values.astype(np.int64) & 0xFFFF
    left = np.full_like(patterns, 1 << (precision - 1))
    left[:, 1:] = patterns[:, :-1]
    left[1:, 0] = patterns[:-1, 0]
    bits = _differences(patterns - left, "")
    return _jpeg(0xC3, precision if told is None else told, values.shape, bits, 17, b"\1\0\0")


def jpeg_blocks(means: np.ndarray, precision: int, frame: int = 0xC1) -> bytes:
    """DCT JPEG of constant blocks of 8 x 8, exact (the quantiser of the mean is 8)."""
    levels = means.astype(np.int64).ravel() - (1 << (precision - 1))
    bits = _differences(np.diff(levels, prepend=0), "0")
    return _jpeg(frame, precision, (means.shape[0] * 8, means.shape[1] * 8), bits, 16, b"\0\x3f\0")


def _differences(differences: np.ndarray, after: str) -> str:
    """Bits of Huffman-coded differences, each code of five bits, and ``after`` behind each."""
    parts = []
    for difference in ((differences.ravel() + 32767) % 65536 - 32767).tolist():
        category = abs(difference).bit_length()
        rest = difference if difference > 0 else difference + (1 << category) - 1
        parts.append(f"{category:05b}" + (f"{rest:0{category}b}" if 0 < category < 16 else "") + after)
    return "".join(parts)


def _jpeg(frame: int, precision: int, shape: tuple[int, ...], bits: str, codes: int, scan: bytes) -> bytes:
    bits += "1" * (-len(bits) % 8)
    body = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    means = bytes([0, 0, 0, 0, codes, *[0] * 11]) + bytes(range(codes))
    ends = bytes([1, *[0] * 15]) + b"\0"
    segments = (
        (0xDB, b"\0" + bytes([8] * 64)), (frame, struct.pack(">BHHBBBB", precision, *shape, 1, 1, 0x11, 0)),
        (0xC4, b"\0" + means), (0xC4, b"\x10" + ends), (0xDA, b"\1\1\0" + scan),
    )  # fmt: skip
    head = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    return b"\xff\xd8" + head + body + b"\xff\xd9"
