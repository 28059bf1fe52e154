"""Whether two pictures are copies of one another, whatever was done to their size, borders, grey values and sides.

A picture is kept as a thumbnail of ranks, which no monotone map of grey values changes. Cosines of it (DCT-II), weighed
so that what all radiographs of a chest have in common counts little, are compared by their products. Mirroring turns
the sign of the odd cosines, inversion that of all, so one comparison covers all four. Borders that were cut off
are looked for: a window of one picture against the whole of the other.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

SIDE = 32
"""Of a thumbnail, pixels."""
COSINES = 8
"""On a side; all but the constant one are compared."""
EMPTY = 0.012
"""Of the range: standard deviation below which a row or column at the edge is trimmed."""
CANDIDATE = 0.70
"""Least likeness at which windows are looked for more closely."""
COPY = 0.96
"""Least likeness of copies; docs/results/duplicates.md has what is found and what is false at it."""
BLOCK = 512
WEIGHTS = Path(__file__).parent / "likeness.npy"
Window = tuple[float, float, float, float]
"""What is cut off at the top, bottom, left and right, as shares of the side."""
WHOLE: Window = (0, 0, 0, 0)
WINDOWS: tuple[Window, ...] = (
    *(WHOLE, (0.05, 0.05, 0.05, 0.05), (0.1, 0.1, 0.1, 0.1), (0.1, 0, 0.05, 0.05), (0, 0.1, 0.05, 0.05)),
    *((0.05, 0.05, 0.1, 0), (0.05, 0.05, 0, 0.1)),
)
"""Compared with the whole of every other picture."""
STEPS = tuple((first, last) for first in np.arange(0, 0.121, 0.02) for last in np.arange(0, 0.121, 0.02))
"""What may be cut off at both ends of an axis when windows are looked for more closely."""
ODD = np.arange(COSINES * COSINES) % 2 == 1
EVEN = ~ODD & (np.arange(COSINES * COSINES) > 0)
HALF = int(EVEN.sum())
"""Of a descriptor's numbers the first, which mirroring leaves."""


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Ranks of a picture reduced to a small square.

    Args:
        image: (H, W) uint8 or uint16.

    Returns:
        (SIDE, SIDE) uint8: of 255, the share of darker pixels and half of the equal ones.
    """
    grey = _trimmed(image.astype(np.float32))
    small = _reduce(grey.shape[0], SIDE) @ grey @ _reduce(grey.shape[1], SIDE).T
    levels = np.round(small / (np.ptp(small) or 1) * 4095).ravel()
    _, place, counts = np.unique(levels, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / levels.size
    return np.round(ranks[place.ravel()] * 255).astype(np.uint8).reshape(SIDE, SIDE)


def to_text(small: np.ndarray) -> str:
    """A thumbnail as base64."""
    return base64.b64encode(small.tobytes()).decode()


def from_text(text: str) -> np.ndarray:
    """:func:`to_text` undone.

    Raises:
        ValueError: not a thumbnail.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), np.uint8).reshape(SIDE, SIDE)


def descriptors(thumbnails: np.ndarray, window: Window = WHOLE) -> np.ndarray:
    """Weighed cosines of windows of thumbnails.

    Args:
        thumbnails: (N, SIDE, SIDE) uint8.
        window: what is cut off.

    Returns:
        (N, COSINES² - 1) float32 of norm 1, or 0 where a window is of one grey; the even ones first.
    """
    rows, columns = _cosines(*window[:2]), _cosines(*window[2:])
    return _weighed(rows @ thumbnails.astype(np.float32) @ columns.T)


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The greatest correlation of descriptors (..., D) over mirroring and inversion: (...), 0 to 1."""
    product = one * other
    return np.abs(product[..., :HALF].sum(-1)) + np.abs(product[..., HALF:].sum(-1))


def find_copies(
    thumbnails: np.ndarray, least: float = COPY, advance: Callable[[int], object] = lambda number: None
) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of copies: of a picture or of a window of it, mirrored, inverted or turned.

    Each is compared with each, so time grows with the square of N, and memory with N and the copies found. A copy of a
    copy belongs to the cluster too. Pictures of one grey have no copies.

    Args:
        thumbnails: (N, SIDE, SIDE) uint8.
        least: likeness.
        advance: called with how many more thumbnails were compared with all.

    Returns:
        (N,) first member of each one's cluster, itself where it has no copies; and (N,) likeness to the member that is
        most like it, 0 where it has no copies.
    """
    flat = thumbnails.reshape(len(thumbnails), SIDE * SIDE)
    _, kept, place = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(kept)
    kept, place = kept[order], np.argsort(order)[place.ravel()]
    distinct = thumbnails[kept]
    whole = descriptors(distinct)
    links = [(np.zeros(0, int), np.zeros(0, int))]
    nearest = np.zeros(len(distinct), np.float32)
    advance(len(thumbnails) - len(distinct))
    for start in range(0, len(distinct), BLOCK):
        here = distinct[start : start + BLOCK]
        for one, other, alike in _copies(here, distinct, whole, start, least):
            links.append((one, other))
            np.maximum.at(nearest, one, alike)
            np.maximum.at(nearest, other, alike)
        advance(len(here))
    first = _joined(len(distinct), *(np.concatenate(ends) for ends in zip(*links, strict=True)))
    blank = (np.abs(whole).sum(1) == 0)[place]
    twice = (np.bincount(place, minlength=len(distinct)) > 1)[place]
    alone = np.arange(len(thumbnails))
    likest = np.where(blank, 0, np.where(twice, 1, nearest[place]))
    return np.where(blank, alone, kept[first][place]), likest


def _joined(number: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(number,) the first member of each one's cluster."""
    links = coo_matrix((np.ones(len(one), bool), (one, other)), (number, number))
    _, cluster = connected_components(links, directed=False)
    _, first = np.unique(cluster, return_index=True)
    return first[cluster]


def _copies(
    here: np.ndarray, everyone: np.ndarray, whole: np.ndarray, start: int, least: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Positions of pictures and of their copies with the likeness.

    Args:
        here: thumbnails from ``start`` on.
        everyone: all thumbnails.
        whole: their descriptors.
        start: position of the first of ``here``.
        least: likeness.
    """
    upside, across = here[:, ::-1], here.swapaxes(1, 2)
    trials = [(here, window) for window in WINDOWS] + [(turned, WHOLE) for turned in (upside, across, across[:, ::-1])]
    for pictures, window in trials:
        for one, other in _candidates(descriptors(pictures, window), whole, start if window == WHOLE else 0):
            later = one + start < other if window == WHOLE else one + start != other
            one, other = one[later], other[later]
            for at in range(0, len(one), BLOCK):
                some, others = one[at : at + BLOCK], other[at : at + BLOCK]
                alike = _closest(pictures[some], everyone[others], window)
                copies = alike >= least
                yield some[copies] + start, others[copies], alike[copies]


def _candidates(some: np.ndarray, whole: np.ndarray, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions in ``some`` and, from ``start`` on, in ``whole`` of descriptors that are alike."""
    for at in range(start, len(whole), BLOCK):
        other = whole[at : at + BLOCK]
        alike = np.abs(some[:, :HALF] @ other[:, :HALF].T)
        alike += np.abs(some[:, HALF:] @ other[:, HALF:].T)
        if alike.max(initial=0) >= CANDIDATE:
            one, two = np.nonzero(alike >= CANDIDATE)
            yield one, two + at


def _closest(thumbnails: np.ndarray, copies: np.ndarray, window: Window) -> np.ndarray:
    """Likeness (P,) of thumbnails with windows of thumbnails, the best near ``window``; axis by axis, twice."""
    small = thumbnails.astype(np.float32)
    whole = _cosines(*WHOLE[:2]) @ copies.astype(np.float32) @ _cosines(*WHOLE[2:]).T
    others = _weighed(whole)
    steps = np.stack([_cosines(*step) for step in STEPS])
    rows, columns = (np.broadcast_to(_cosines(*ends), (len(small), COSINES, SIDE)) for ends in (window[:2], window[2:]))
    for _ in range(2):
        across = small @ columns.swapaxes(1, 2)
        tried = _weighed(np.einsum("gks,psc->pgkc", steps, across, optimize=True))
        scores = likeness(tried, others[:, None])
        rows = steps[scores.argmax(1)]
        down = rows @ small
        tried = _weighed(np.einsum("pks,gcs->pgkc", down, steps, optimize=True))
        scores = likeness(tried, others[:, None])
        columns = steps[scores.argmax(1)]
    return _least_of_turns(rows @ small @ columns.swapaxes(1, 2), whole)


def _least_of_turns(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Likeness (P,) of cosines (P, COSINES, COSINES) where both are turned in one way, the least over the turns.

    The weights know what upright chests have in common. Chests that lie have something else in common, which is not in
    the way once both are turned upright.
    """
    sign = (-1.0) ** np.arange(COSINES)
    product = _weighed(one) * _weighed(other)
    mirrored = product[:, :HALF].sum(1) * product[:, HALF:].sum(1) < 0
    other = np.where(mirrored[:, None, None], other * sign, other)
    alike = likeness(_weighed(one), _weighed(other))
    for turn in (
        lambda cosines: cosines * sign[:, None],
        lambda cosines: cosines.swapaxes(1, 2),
        lambda cosines: cosines.swapaxes(1, 2) * sign[:, None],
    ):
        alike = np.minimum(alike, likeness(_weighed(turn(one)), _weighed(turn(other))))
    return alike


def _weighed(cosines: np.ndarray) -> np.ndarray:
    """Cosines (..., COSINES, COSINES) as descriptors (..., COSINES² - 1) of norm 1."""
    flat = cosines.reshape(*cosines.shape[:-2], COSINES * COSINES)
    even, odd = _weights()
    weighed = np.concatenate([flat[..., EVEN] @ even, flat[..., ODD] @ odd], -1).astype(np.float32)
    length = np.linalg.norm(weighed, axis=-1, keepdims=True)
    return weighed / np.where(length < 1e-3, np.inf, length)


@cache
def _weights() -> tuple[np.ndarray, np.ndarray]:
    """What cosines are multiplied by: inverse square roots of their second moments over real radiographs."""
    both = np.load(WEIGHTS, allow_pickle=False).astype(np.float32)
    return both[0, :HALF, :HALF], both[1]


@lru_cache(1024)
def _cosines(first: float, last: float) -> np.ndarray:
    """(COSINES, SIDE): from one axis of a thumbnail to the cosines of a window of it."""
    angle = np.pi * np.outer(np.arange(COSINES), (np.arange(SIDE) + 0.5) / SIDE)
    return (np.cos(angle) @ _reduce(SIDE, SIDE, first, 1 - last)).astype(np.float32)


def _reduce(size: int, wanted: int, first: float = 0, last: float = 1) -> np.ndarray:
    """(wanted, size): means over equal parts of what lies between two shares of an axis."""
    edges = (first + (last - first) * np.arange(wanted + 1) / wanted) * size
    pixel = np.arange(size)
    cover = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    cover = cover.clip(0).astype(np.float32)
    return cover / cover.sum(1, keepdims=True)


def _trimmed(grey: np.ndarray) -> np.ndarray:
    """Without rows and columns of one grey at the edges; all of it where nothing else is left."""
    least = EMPTY * np.ptp(grey)
    rows, columns = (np.flatnonzero(grey.std(axis=axis) > least) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
