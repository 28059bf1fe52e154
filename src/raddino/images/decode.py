"""Stored pixel values of a DICOM data set, decoded once its sizes have been checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.images.codestream import jpeg2000_is_sound, jpeg2000_shape, jpeg_shape
from raddino.images.errors import UnreadableImage
from raddino.images.raster import LARGEST_PIXELS

if TYPE_CHECKING:
    from pydicom import Dataset

JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
JPEG = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
)


def stored_values(dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """Decode the pixel data with pydicom, bits above BitsStored dropped.

    Args:
        dataset: with its file meta.

    Returns:
        integers (H, W), or (frames, H, W) and (H, W, samples) where there are several; and warnings.

    Raises:
        UnreadableImage: an element is missing or out of range, the picture is too large, cut short or of an
            unknown transfer syntax, or no decoder accepts it.
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    if "PixelData" not in dataset:
        raise UnreadableImage("no pixel data, or pixel data cut short")
    shape = check_sizes(dataset)
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_transfer_syntax:
        raise UnreadableImage("unknown transfer syntax")
    warnings = []
    if syntax.is_encapsulated:
        warnings = check_stream(dataset, syntax, shape)
    elif len(dataset.PixelData) * 8 < math.prod(_sizes(dataset)) * whole(dataset, "BitsAllocated"):
        raise UnreadableImage("pixel data cut short")
    try:
        values = pixel_array(dataset)
    except Exception:
        raise UnreadableImage(f"pixel data cannot be decoded ({syntax.name})") from None
    if values.size != math.prod(_sizes(dataset)):
        raise UnreadableImage("decoded picture has another size than Rows and Columns")
    return values, warnings


def check_sizes(dataset: Dataset) -> tuple[int, int]:
    """(Rows, Columns), once rows x columns x frames x samples and bits are known to be within limits.

    Raises:
        UnreadableImage: they are not, or are missing.
    """
    sizes = _sizes(dataset)
    allocated, stored = whole(dataset, "BitsAllocated"), whole(dataset, "BitsStored")
    if min(sizes) < 1:
        raise UnreadableImage("Rows, Columns, NumberOfFrames or SamplesPerPixel is not positive")
    if math.prod(sizes) > LARGEST_PIXELS:
        raise UnreadableImage(f"more than {LARGEST_PIXELS} pixels")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise UnreadableImage("BitsAllocated and BitsStored are not those of an 8- or 16-bit picture")
    if whole(dataset, "HighBit", stored - 1) != stored - 1:
        raise UnreadableImage("HighBit is not BitsStored - 1")
    return sizes[0], sizes[1]


def check_stream(dataset: Dataset, syntax: str, shape: tuple[int, int]) -> list[str]:
    """Check the first compressed frame against ``shape``; returns warnings.

    Raises:
        UnreadableImage: no frame, cut short, or of another size.
    """
    from pydicom.encaps import generate_frames

    frames = whole(dataset, "NumberOfFrames", 1)
    try:
        stream = next(generate_frames(dataset.PixelData, number_of_frames=frames))
    except Exception:
        raise UnreadableImage("compressed pixel data is damaged") from None
    if syntax in JPEG_2000:
        found = jpeg2000_shape(stream)
    elif syntax in JPEG:
        found = jpeg_shape(stream)
    else:
        return []
    if found != shape:
        raise UnreadableImage("compressed picture has another size than Rows and Columns")
    sound = jpeg2000_is_sound(stream) if syntax in JPEG_2000 else True
    if sound is None:
        return ["JPEG 2000 data could not be checked for damage on this platform"]
    return [] if sound else ["JPEG 2000 data looks damaged: part of the picture may be wrong"]


def _sizes(dataset: Dataset) -> tuple[int, int, int, int]:
    """Rows, Columns, frames, samples."""
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    return rows, columns, whole(dataset, "NumberOfFrames", 1), whole(dataset, "SamplesPerPixel", 1)


def whole(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """An element as an integer; missing or empty gives ``default``.

    Raises:
        UnreadableImage: no integer, and no default.
    """
    value: Any = default
    try:
        found = dataset.get(keyword)
        value = default if found in (None, "") else int(found)
    except Exception:
        value = None
    if value is None:
        raise UnreadableImage(f"{keyword} is missing or not a number")
    return value
