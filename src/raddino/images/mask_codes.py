"""Masks written as text in a manifest: run-lengths and polygons, and the union of several masks.

A cell is ``SCHEME:SIZE:NUMBERS``, with SIZE ``HEIGHTxWIDTH`` or ``image`` (that of the image itself)::

    empty:                            known to hold nothing, at the image's size
    gaps:1024x1024:55 3 9 2           runs down the columns, each as its gap to the run before and its length
    runs:2544x3056:101 5 3160 7       runs along the rows, each as its start, counted from 1, and its length
    polygons:image:9,4 20,4 20.5,9;…  corners x,y of polygons, in pixels from the centre of the top left one
    union:left.png|right.png          of files and of any of the above

``gaps`` is what SIIM-ACR and CANDID-PTX publish, ``runs`` what CheXmask does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from raddino.images.errors import UnreadableImage
from raddino.images.raster import LARGEST_PIXELS
from raddino.storage import join

EMPTY = "empty:"
FOREGROUND = 255
LONGEST_CODE = 2**22
MOST_OUTLINES, MOST_CORNERS = 256, 20_000
OUTSIDE = 0.05
CODE = re.compile(r"(?:empty|gaps|runs|polygons):")
CELL = re.compile(r"(?:empty|gaps|runs|polygons|union):.*|.*\.(?i:png|tiff?|gif)")
"""What a mask cell looks like, so that a column of them is known for one."""
SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
WHOLE_NUMBERS = re.compile(r"\d{1,9}(?: \d{1,9})*")
CORNERS = re.compile(r"-?\d{1,6}(?:\.\d{1,20})?,-?\d{1,6}(?:\.\d{1,20})?")


def is_code(part: str) -> bool:
    """Whether a part of a cell is a mask itself and not the name of a file."""
    return CODE.match(part) is not None


def split_cell(cell: str, folder: str | Path) -> tuple[str, ...]:
    """The parts that a cell unites: codes, and files as locations below ``folder``."""
    parts = cell.removeprefix("union:").split("|") if cell.startswith("union:") else [cell]
    return tuple(part if is_code(part) else join(folder, part) for part in map(str.strip, parts))


def union(parts: Iterable[str]) -> str | None:
    """The cell that unites ``parts``; None where there are none."""
    parts = tuple(parts)
    return f"union:{'|'.join(parts)}" if len(parts) > 1 else next(iter(parts), None)


def polygons(outlines: Iterable[Iterable[tuple[float, float]]]) -> str:
    """The code of outlines, each of corners (x, y) in pixels of the image itself."""
    written = (" ".join(f"{x:.2f},{y:.2f}" for x, y in outline) for outline in outlines)
    return f"polygons:image:{';'.join(written)}"


def decode(code: str, image_shape: tuple[int, ...]) -> np.ndarray:
    """The mask that a code says.

    Args:
        code: one for which :func:`is_code` holds.
        image_shape: (H, W) of the image as it was read.

    Returns:
        (H, W) uint8 of 0 and 255, at the size that the code names.

    Raises:
        UnreadableImage: the code breaks the rules of its scheme, or its mask is too large.
    """
    if len(code) > LONGEST_CODE:
        raise UnreadableImage(f"mask code of more than {LONGEST_CODE} characters")
    scheme, _, rest = code.partition(":")
    if scheme == "empty":
        if rest:
            raise UnreadableImage("empty mask code with numbers")
        return np.zeros(image_shape[:2], dtype=np.uint8)
    size, _, numbers = rest.partition(":")
    return READERS[scheme](numbers, _shape(size, image_shape))


def _shape(size: str, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """(H, W) that a code names."""
    if size == "image":
        return int(image_shape[0]), int(image_shape[1])
    match = SIZE.fullmatch(size)
    if match is None:
        raise UnreadableImage("mask code without a size HEIGHTxWIDTH")
    height, width = int(match[1]), int(match[2])
    if not 0 < height * width <= LARGEST_PIXELS:
        raise UnreadableImage(f"mask code of no pixel, or more than {LARGEST_PIXELS}")
    return height, width


def _read_gaps(numbers: str, shape: tuple[int, int]) -> np.ndarray:
    return _fill(_pairs(numbers), (shape[1], shape[0])).T


def _read_runs(numbers: str, shape: tuple[int, int]) -> np.ndarray:
    pairs = _pairs(numbers)
    ends = np.concatenate([[0], pairs[:-1].sum(axis=1) - 1])
    pairs[:, 0] -= 1 + ends
    if (pairs[:, 0] < 0).any():
        raise UnreadableImage("runs of the mask overlap, are out of order, or start before 1")
    return _fill(pairs, shape)


def _pairs(numbers: str) -> np.ndarray:
    """(N, 2) int64 of the numbers of a run-length code."""
    if WHOLE_NUMBERS.fullmatch(numbers) is None:
        raise UnreadableImage("run-lengths of the mask are not whole numbers with single spaces between them")
    values = np.array(numbers.split(" "), dtype=np.int64)
    if len(values) % 2:
        raise UnreadableImage("odd count of run-length numbers in the mask")
    if not values[1::2].all():
        raise UnreadableImage("run of length 0 in the mask")
    return values.reshape(-1, 2)


def _fill(pairs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Runs of (gap to the run before, length) along the last axis of ``shape``."""
    rest = shape[0] * shape[1] - int(pairs.sum())
    if rest < 0:
        raise UnreadableImage("runs of the mask go beyond its size")
    counts = np.append(pairs.ravel(), rest)
    values = np.resize(np.array([0, FOREGROUND], dtype=np.uint8), len(counts))
    return np.repeat(values, counts).reshape(shape)


def _read_polygons(numbers: str, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie in one of the polygons; one that crosses itself is filled by the even-odd rule."""
    mask = np.zeros(shape, dtype=np.uint8)
    if numbers.count(";") >= MOST_OUTLINES or numbers.count(",") > MOST_CORNERS:
        raise UnreadableImage(f"mask of more than {MOST_OUTLINES} polygons or {MOST_CORNERS} corners")
    for outline in numbers.split(";"):
        words = outline.split(" ")
        if not all(CORNERS.fullmatch(word) for word in words):
            raise UnreadableImage("polygon corners of the mask are not x,y pairs with single spaces between them")
        corners = np.array([word.split(",") for word in words], dtype=np.float64)
        if len(corners) < 3:
            raise UnreadableImage("polygon of the mask has fewer than 3 corners")
        beyond = np.array([shape[1], shape[0]]) * OUTSIDE
        if (corners < -beyond).any() or (corners > np.array([shape[1], shape[0]]) + beyond).any():
            raise UnreadableImage("polygon of the mask lies outside its size")
        mask |= _fill_polygon(corners, shape)
    return mask


def _fill_polygon(corners: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Every edge turns what is right of it in the rows it crosses: inside is what was turned an odd number of times."""
    turned = np.zeros((shape[0], shape[1] + 1), dtype=np.uint8)
    for (x, y), (x_next, y_next) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = np.clip(np.ceil(sorted((y, y_next))), 0, shape[0]).astype(int)
        rows = np.arange(first, last)
        if len(rows):
            crossings = x + (rows - y) * ((x_next - x) / (y_next - y))
            turned[rows, np.clip(np.ceil(crossings), 0, shape[1]).astype(int)] ^= FOREGROUND
    return np.bitwise_xor.accumulate(turned[:, :-1], axis=1)


READERS: dict[str, Callable[[str, tuple[int, int]], np.ndarray]] = {
    "gaps": _read_gaps,
    "runs": _read_runs,
    "polygons": _read_polygons,
}
