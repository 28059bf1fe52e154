"""Which stored values are no picture: padding, and bits above BitsStored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raddino.images.decode import whole
from raddino.images.elements import told, values
from raddino.images.errors import UnreadableImage
from raddino.images.phi import OVERLAY_BIT_POSITIONS

if TYPE_CHECKING:
    from pydicom import Dataset

WORD = 2**16
OUTSIDE = "PixelPaddingValue lies outside BitsStored and was found nowhere"


def find_padding(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray | None, list[str]]:
    """Mark PixelPaddingValue and the range up to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2).

    For signed pixels both may be written unsigned, in 16 bits or in BitsStored. A padding value that BitsStored
    cannot hold is looked for among the words of uncompressed pixel data, unused bits included.

    Args:
        stored: (H, W) integers within BitsStored.
        dataset: the header, and the pixel data as it came.

    Returns:
        (H, W) bool, False on padding, or None where there is none; and notes.
    """
    if not told(dataset, "PixelPaddingValue"):
        return None, []
    bits, signed = whole(dataset, "BitsStored"), whole(dataset, "PixelRepresentation", 0) == 1
    try:
        first = whole(dataset, "PixelPaddingValue")
        last = whole(dataset, "PixelPaddingRangeLimit", first)
    except UnreadableImage:
        return None, ["PixelPaddingValue or PixelPaddingRangeLimit cannot be read"]
    low, high = sorted(_as_pixel(value, bits, signed) for value in (first, last))
    smallest = -(2 ** (bits - 1)) if signed else 0
    held = smallest <= low and high < smallest + 2**bits
    pixels = stored if held else _words(dataset)
    if pixels is None:
        return None, [OUTSIDE]
    if not held and signed:
        pixels = pixels.astype(f"i{pixels.itemsize}")
    valid = (pixels < low) | (pixels > high)
    if valid.all():
        return None, [] if held else [OUTSIDE]
    return valid, []


def stray_bits(dataset: Dataset, valid: np.ndarray | None) -> list[str]:
    """A note where bits above BitsStored are set that neither an overlay (PS3.5 8.1.2) nor the sign explains.

    Args:
        dataset: the header, and the pixel data as it came; compressed data has no such bits to look at.
        valid: (H, W) False on padding, which may use those bits.
    """
    bits, allocated = whole(dataset, "BitsStored"), whole(dataset, "BitsAllocated")
    words = None if bits == allocated else _words(dataset)
    if words is None or not int(np.bitwise_or.reduce(words, axis=None)) >> bits:
        return []
    unused = 2**allocated - 2**bits
    for position in overlay_bits(dataset):
        unused &= ~(1 << position)
    found = (words if valid is None else words[valid]).astype(np.int64)
    stray = found & unused
    if whole(dataset, "PixelRepresentation", 0) == 1:
        stray[(found >> (bits - 1) & 1 == 1) & (stray == unused)] = 0
    return ["bits above BitsStored are set that no overlay owns: they were dropped"] if stray.any() else []


def overlay_bits(dataset: Dataset) -> list[int]:
    """OverlayBitPosition of each overlay plane, groups 6000 to 601E."""
    found = [position for tag in OVERLAY_BIT_POSITIONS for position in values(dataset, tag)]
    return [position for position in found if isinstance(position, int) and 0 < position < 16]


def _as_pixel(value: int, bits: int, signed: bool) -> int:
    """A padding value as the pixel it stands for."""
    if not signed:
        return value % WORD
    if value >= WORD // 2:
        return value - WORD
    return value - 2**bits if 2 ** (bits - 1) <= value < 2**bits else value


def _words(dataset: Dataset) -> np.ndarray | None:
    """(H, W) unsigned words of uncompressed pixel data, no bit dropped; None where it is compressed."""
    from pydicom.uid import UID

    if UID(str(dataset.file_meta.TransferSyntaxUID)).is_encapsulated:
        return None
    rows, columns = whole(dataset, "Rows"), whole(dataset, "Columns")
    order = "<" if dataset.original_encoding[1] else ">"
    dtype = f"{order}u{whole(dataset, 'BitsAllocated') // 8}"
    return np.frombuffer(dataset.PixelData, dtype, count=rows * columns).reshape(rows, columns)
