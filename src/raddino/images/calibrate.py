"""Stored DICOM values to brightness: modality and VOI LUT (PS3.3 C.11), polarity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.images.elements import LARGEST_NUMBER, number, text, told, values
from raddino.images.errors import UnreadableImage
from raddino.images.facts import plausible

if TYPE_CHECKING:
    from pydicom import Dataset

WORD = 2**16
FLOAT_EXACT = 2**24
"""Up to here float32 holds all whole numbers."""


def calibrate(stored: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, list[str]]:
    """Apply what the header says, and tell where it turns bright and dark beyond the photometric interpretation.

    Args:
        stored: integers (H, W).
        dataset: its photometric interpretation in standard form.

    Returns:
        float32 (H, W), higher = brighter; and notes.

    Raises:
        UnreadableImage: a lookup table is damaged; RescaleSlope or RescaleIntercept is there and no single finite
            number, or the slope is 0. A slope is never guessed: its sign turns the picture.
    """
    notes = []
    if dataset.get("ModalityLUTSequence"):
        pixels, falls = _look_up(stored.astype(np.float64), dataset.ModalityLUTSequence[0], dataset)
        notes += [_turning("ModalityLUTSequence")] * falls
    else:
        slope = _one_number(dataset, "RescaleSlope", 1.0)
        if slope == 0:
            raise UnreadableImage("RescaleSlope is 0")
        if "RescaleSlope" in dataset and not told(dataset, "RescaleSlope"):
            notes.append("RescaleSlope is empty and was taken as 1")
        notes += [_turning("negative RescaleSlope")] * (slope < 0)
        pixels = _scaled(stored, slope, _one_number(dataset, "RescaleIntercept", 0.0))
    function = text(dataset, "VOILUTFunction").upper()
    if dataset.get("VOILUTSequence"):
        pixels, falls = _look_up(pixels, dataset.VOILUTSequence[0], dataset)
        notes += [_turning("VOILUTSequence")] * falls
    elif function == "SIGMOID":
        center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
        if center is not None and width and width > 0:
            with np.errstate(over="ignore"):
                pixels = 1 / (1 + np.exp(-4 * (pixels.astype(np.float64) - center) / width))
        else:
            notes.append("sigmoid window cannot be read and was not applied")
    elif function not in ("", "LINEAR", "LINEAR_EXACT"):
        notes.append("VOILUTFunction is not known and was not applied")
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        pixels = -pixels
    return pixels.astype(np.float32, copy=False), notes


def _scaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """``stored * slope + intercept``: float32 where all of it is whole numbers that float32 holds, else float64."""
    largest = max(-int(stored.min()), int(stored.max())) * abs(slope) + abs(intercept)
    whole = slope.is_integer() and intercept.is_integer() and largest <= FLOAT_EXACT
    pixels: Any = stored.astype(np.float32 if whole else np.float64)
    if (slope, intercept) != (1, 0):
        pixels *= slope
        pixels += intercept
    return pixels


def _turning(what: str) -> str:
    return f"{what} turns bright and dark once more"


def _one_number(dataset: Dataset, keyword: str, default: float) -> float:
    """The number that all values of an element are; ``default`` where it is missing or empty."""
    if not told(dataset, keyword):
        return default
    numbers = {plausible(value, -LARGEST_NUMBER, LARGEST_NUMBER) for value in values(dataset, keyword)}
    found = numbers.pop() if len(numbers) == 1 else None
    if found is None:
        raise UnreadableImage(f"{keyword} cannot be read as a number")
    return found


def _look_up(pixels: np.ndarray, item: Dataset, dataset: Dataset) -> tuple[np.ndarray, bool]:
    """Apply one LUT item (PS3.3 C.11.1.1): beyond its first and last entry, values take that entry.

    Entries are unsigned whatever their representation. A first mapped value of 32768 or more is a negative one where
    the table could not be met otherwise.

    Returns:
        pixels, and whether the table falls from its first to its last entry.
    """
    try:
        entries, start, bits = (int(value) for value in item.LUTDescriptor)
        entries = entries % WORD or WORD
        raw = item.LUTData
        if isinstance(raw, bytes):
            order = ">" if not dataset.original_encoding[1] else "<"
            table = np.frombuffer(raw, np.uint8 if bits <= 8 and len(raw) < 2 * entries else f"{order}u2")
        else:
            table = np.atleast_1d(np.asarray(raw, dtype=np.int64)) % WORD
    except Exception:
        raise UnreadableImage("lookup table is damaged") from None
    if len(table) < entries:
        raise UnreadableImage("lookup table is shorter than its descriptor says")
    if start >= WORD // 2 and (pixels.min() < 0 or pixels.max() < start):
        start -= WORD
    table = table[:entries].astype(np.float64)
    return np.interp(pixels, start + np.arange(entries), table), bool(table[-1] < table[0])
