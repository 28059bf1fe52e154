"""Block-wise masks for masked image modelling (BEiT's, with DINOv2's spread of ratios)."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from raddino.config import Config
from raddino.views.randomness import generator

SMALLEST_BLOCK = 4
LOG_ASPECT = -math.log(0.3)
LARGEST_BLOCK_SHARE = 0.5
ATTEMPTS = 10
LOW = SURE = 2**32 - 1
AHEAD = 48
"""64-bit words drawn at once for each mask: a little more than one of 37 x 37 patches takes on average."""
TAKEN = 3 * ATTEMPTS
"""Words that a block takes at most."""
LARGEST_DRAW = 1 - 2.0**-53


class MaskConfig(Config):
    """Which global views are masked, and how much of them.

    Attributes:
        probability: share of the global views that get a mask.
        ratio: smallest and largest share of masked patches, spread evenly over the masked views.
    """

    probability: float = Field(0.5, ge=0, le=1)
    ratio: tuple[float, float] = (0.1, 0.5)

    @model_validator(mode="after")
    def _ordered(self) -> "MaskConfig":
        low, high = self.ratio
        if not 0 <= low <= high <= 1:
            raise ValueError(f"ratio must hold 0 <= low <= high <= 1, got {low}, {high}")
        return self


def batch_masks(seed: int, step: int, count: int, grid: tuple[int, int], config: MaskConfig) -> np.ndarray:
    """Masks (count, rows * columns) of one step's global views; which are masked is drawn by (seed, step).

    A mask is made of random rectangles and covers about its share of the patches, never more. Areas are drawn from 4
    patches to what is missing, at most half the grid, aspects from 0.3 to 1 / 0.3; then sides are rounded to whole
    patches. Blocks are smaller than the grid both ways.
    """
    rng = generator(seed, "masks", step)
    shares = _shares(count, config)
    order = rng.permutation(count)[: len(shares)].tolist()
    masks = [0] * count
    for view, mask in zip(order, _block_masks(rng, grid, shares), strict=True):
        masks[view] = mask
    return _unpacked(masks, grid[0] * grid[1])


def most_masked(count: int, grid: tuple[int, int], config: MaskConfig, own: int | None = None) -> int:
    """The most patches that :func:`batch_masks` ever masks in ``own`` of its ``count`` views together, or in all."""
    patches = grid[0] * grid[1]
    most = [int(patches * (low + (high - low) * LARGEST_DRAW)) for low, high in _shares(count, config)]
    return sum(sorted(most, reverse=True)[:own])


def _shares(count: int, config: MaskConfig) -> list[tuple[float, float]]:
    """Smallest and largest share of masked patches of each view that gets a mask."""
    edges = np.linspace(*config.ratio, int(count * config.probability) + 1).tolist()
    return list(pairwise(edges))


def _block_masks(
    rng: np.random.Generator, grid: tuple[int, int], shares: Sequence[tuple[float, float]]
) -> Iterator[int]:
    """Masks of shares of the patches between two bounds: bit r x columns + c is the patch at (r, c).

    Numbers are those of ``rng.uniform`` and ``rng.integers`` (Lemire's method on halves of 64 bits), made from the bits
    here because calls would take most of the time. Where ``rng.integers`` might reject a half, it is asked.
    """
    (rows, columns), ladder, patches, source = grid, _ladder(*grid), grid[0] * grid[1], rng.bit_generator
    largest, sqrt, exp = int(LARGEST_BLOCK_SHARE * patches), math.sqrt, math.exp
    smallest, lowest, spread = float(SMALLEST_BLOCK), -LOG_ASPECT, 2 * LOG_ASPECT
    sure = SURE << max(grid).bit_length() & LOW
    most = AHEAD * len(shares)
    begun, half, words, units = _ahead(source, most)
    at = 0
    for low, high in shares:
        mask, missing = 0, None
        while missing != 0:
            if at > most - TAKEN:
                begun, half, words, units = _ahead(_wound(source, begun, at, half), most)
                at = 0
            if missing is None:
                missing = int(patches * (low + (high - low) * units[at]))
                at += 1
                continue
            span = max(smallest, float(missing if missing < largest else largest)) - smallest
            for _ in range(ATTEMPTS):
                area = smallest + span * units[at]
                aspect = exp(lowest + spread * units[at + 1])
                at += 2
                height, width = round(sqrt(area * aspect)), round(sqrt(area / aspect))
                if height >= rows or width >= columns:
                    continue
                word, tops, lefts = words[at], rows - height + 1, columns - width + 1
                if half is None:
                    top, left, rest = (word & LOW) * tops, (word >> 32) * lefts, None
                else:
                    top, left, rest = half * tops, (word & LOW) * lefts, word >> 32
                if top & sure and left & sure:
                    corner, half = (top >> 32) * columns + (left >> 32), rest
                    at += 1
                else:
                    _wound(source, begun, at, half)
                    corner = int(rng.integers(tops)) * columns + int(rng.integers(lefts))
                    begun, half, words, units = _ahead(source, most)
                    at = 0
                block = ladder[height] * ((1 << width) - 1)
                new = height * width - (mask >> corner & block).bit_count()
                if 0 < new <= missing:
                    mask |= block << corner
                    missing -= new
                    break
            else:
                break
        yield mask


def _ahead(source: Any, count: int) -> tuple[Any, int | None, memoryview, list[float]]:
    """Of 64-bit Philox its state, the half of the last word that is left, the next words and as numbers in [0, 1)."""
    state = source.state
    bits = source.random_raw(count)
    half = state["uinteger"] if state["has_uint32"] else None
    return state, half, memoryview(bits), ((bits >> np.uint64(11)) * 2.0**-53).tolist()


def _wound(source: Any, begun: Any, taken: int, half: int | None) -> Any:
    """The source where it is when so many words were taken since ``begun`` and ``half`` is left of the last."""
    source.state = begun
    source.random_raw(taken)
    source.state = source.state | {"has_uint32": int(half is not None), "uinteger": half or 0}
    return source


@cache
def _ladder(rows: int, columns: int) -> list[int]:
    """By height, the bits of a block of one column in the corner."""
    return [sum(1 << row * columns for row in range(height)) for height in range(rows + 1)]


def _unpacked(masks: Sequence[int], patches: int) -> np.ndarray:
    """Bits as booleans (masks, patches)."""
    size = -(-patches // 8)
    packed = np.frombuffer(b"".join([mask.to_bytes(size, "little") for mask in masks]), dtype=np.uint8)
    return np.unpackbits(packed.reshape(-1, size), axis=1, count=patches, bitorder="little").view(bool)
