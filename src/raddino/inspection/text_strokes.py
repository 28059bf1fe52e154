"""Thin strokes of an image: white and black top-hats in 8 bits, and the cells of 4 by 4 pixels that hold any.

A stroke is what an opening (bright) or a closing (dark) with a square of ``WINDOW`` pixels takes away, so steps and
slopes as ribs, heart and collimation edges make them do not count (Serra, Image Analysis and Mathematical Morphology,
1982).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WINDOW = 9
CELL = 4
CONTRAST = 14
NEIGHBOURHOOD = 17
SOFT = 12.0


@dataclass(frozen=True)
class Strokes:
    """Strokes of one image.

    Attributes:
        bright, dark: (H, W) float32 in [0, 1), relative to the strongest stroke near by.
        contrast: (H, W) uint8, grey levels.
        cells: (H / 4, W / 4) bool, where a stroke stands out or is a neighbour of one that does.
    """

    bright: np.ndarray
    dark: np.ndarray
    contrast: np.ndarray
    cells: np.ndarray


def grey_bytes(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of an image of uint8 or uint16; the range of a uint16 image is spread from its least value to its
    greatest."""
    if image.dtype == np.uint8:
        return image
    low, high = int(image.min()), int(image.max())
    return ((image.astype(np.float32) - low) * (255.0 / max(high - low, 1))).astype(np.uint8)


def _along(image: np.ndarray, size: int, axis: int, pick: Callable[..., np.ndarray]) -> np.ndarray:
    before = (size - 1) // 2
    pad = [(0, 0), (0, 0)]
    pad[axis] = (before, size - 1 - before)
    wide = np.pad(image, pad, mode="edge")
    length, reach = image.shape[axis], 1
    part = (lambda a, start, stop: a[start:stop]) if axis == 0 else (lambda a, start, stop: a[:, start:stop])
    while reach < size:
        step = min(reach, size - reach)
        n = wide.shape[axis] - step
        wide = pick(part(wide, 0, n), part(wide, step, step + n))
        reach += step
    return part(wide, 0, length)


def square(image: np.ndarray, size: int, pick: Callable[..., np.ndarray]) -> np.ndarray:
    """The greatest or least value (``pick``: ``np.maximum`` or ``np.minimum``) in a square, edges repeated."""
    return _along(_along(image, size, 0, pick), size, 1, pick)


def strokes(grey: np.ndarray) -> Strokes:
    """Strokes of a uint8 image whose sides are multiples of 4."""
    opened = square(square(grey, WINDOW, np.minimum), WINDOW, np.maximum)
    closed = square(square(grey, WINDOW, np.maximum), WINDOW, np.minimum)
    white, black = grey - opened, closed - grey
    contrast = np.maximum(white, black)
    near = square(contrast, NEIGHBOURHOOD, np.maximum)
    scale = np.float32(1.0) / (near.astype(np.float32) + np.float32(SOFT))
    rows, columns = grey.shape
    cells = contrast.reshape(rows // CELL, CELL, columns // CELL, CELL).max(axis=(1, 3)) >= CONTRAST
    return Strokes(white * scale, black * scale, contrast, square(cells, 3, np.maximum))


def padded(grey: np.ndarray) -> np.ndarray:
    """``grey`` with edges repeated until both sides are multiples of 4."""
    rows, columns = grey.shape
    return np.pad(grey, ((0, -rows % CELL), (0, -columns % CELL)), mode="edge")


def halved(grey: np.ndarray) -> np.ndarray:
    """Means of 2 by 2 pixels, (H // 2, W // 2) uint8."""
    rows, columns = grey.shape[0] // 2 * 2, grey.shape[1] // 2 * 2
    wide = grey[:rows, :columns].astype(np.uint16)
    return ((wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)
