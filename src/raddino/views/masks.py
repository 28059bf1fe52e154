"""Block-wise masks for masked image modelling (BEiT's, with DINOv2's spread of ratios)."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from pydantic import Field, model_validator

from raddino.config import Config
from raddino.views.randomness import generator

SMALLEST_BLOCK = 4
LOG_ASPECT = -math.log(0.3)
LARGEST_BLOCK_SHARE = 0.5
ATTEMPTS = 10
LOW = 2**32 - 1
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


class Draws(Protocol):
    """What masks ask of a source of randomness, a numpy generator for example."""

    def uniform(self, low: float, high: float, /) -> float:
        """A number from ``low`` to ``high``."""
        ...

    def integers(self, high: int, /) -> int:
        """A whole number from 0 to ``high - 1``."""
        ...


class Ahead:
    """The numbers that a generator over 64-bit Philox is about to give, drawn many at a time: 10 times as fast."""

    def __init__(self, rng: np.random.Generator) -> None:
        state = rng.bit_generator.state
        self._half = int(state["uinteger"]) if state["has_uint32"] else None
        self._next = _pairs(rng).__next__

    def uniform(self, low: float, high: float) -> float:
        """As ``Generator.uniform``."""
        return low + (high - low) * self._next()[1]

    def integers(self, high: int) -> int:
        """As ``Generator.integers`` (Lemire's method on halves of the 64 bits), for ``high`` below 2^32."""
        if high == 1:
            return 0
        while True:
            half, self._half = self._half, None
            if half is None:
                bits = self._next()[0]
                half, self._half = bits & LOW, bits >> 32
            product = half * high
            rest = product & LOW
            if rest >= high or rest >= (LOW + 1 - high) % high:
                return product >> 32


def _pairs(rng: np.random.Generator) -> Iterator[tuple[int, float]]:
    """64 bits and the number in [0, 1) that they make, over and over."""
    while True:
        bits = rng.bit_generator.random_raw(2**10)
        yield from zip(bits.tolist(), ((bits >> np.uint64(11)) * 2.0**-53).tolist(), strict=True)


def block_mask(rng: Draws, grid: tuple[int, int], target: int) -> np.ndarray:
    """A boolean mask (rows, columns) of about ``target`` patches made of random rectangles, never more.

    Areas are drawn from 4 patches to what is missing, at most half the grid, aspects from 0.3 to 1 / 0.3; then sides
    are rounded to whole patches. Blocks are smaller than the grid both ways.
    """
    return _unpacked([_fill(rng, grid, target)], grid[0] * grid[1]).reshape(grid)


def _fill(rng: Draws, grid: tuple[int, int], missing: int, mask: int = 0) -> int:
    """``mask`` with up to ``missing`` more of its bits set: bit r x columns + c is the patch at (r, c)."""
    (rows, columns), ladder = grid, _ladder(*grid)
    uniform, integers, sqrt, exp = rng.uniform, rng.integers, math.sqrt, math.exp
    largest = int(LARGEST_BLOCK_SHARE * rows * columns)
    masked, attempts = mask.bit_count(), 0
    while missing > 0 and attempts < ATTEMPTS:
        attempts += 1
        area = uniform(SMALLEST_BLOCK, max(SMALLEST_BLOCK, missing if missing < largest else largest))
        aspect = exp(uniform(-LOG_ASPECT, LOG_ASPECT))
        height, width = round(sqrt(area * aspect)), round(sqrt(area / aspect))
        if not (0 < height < rows and 0 < width < columns):
            continue
        corner = int(integers(rows - height + 1) * columns + integers(columns - width + 1))
        wider = mask | (ladder[height] * ((1 << width) - 1) << corner)
        if 0 < (new := wider.bit_count() - masked) <= missing:
            mask, masked, missing, attempts = wider, masked + new, missing - new, 0
    return mask


@cache
def _ladder(rows: int, columns: int) -> list[int]:
    """By height, the bits of a block of one column in the corner."""
    return [sum(1 << row * columns for row in range(height)) for height in range(rows + 1)]


def _unpacked(masks: Sequence[int], patches: int) -> np.ndarray:
    """Bits as booleans (masks, patches)."""
    size = -(-patches // 8)
    packed = np.frombuffer(b"".join(mask.to_bytes(size, "little") for mask in masks), dtype=np.uint8)
    bits = np.unpackbits(packed.reshape(len(masks), size), axis=1, count=patches, bitorder="little")
    return bits.astype(bool)


def batch_masks(seed: int, step: int, count: int, grid: tuple[int, int], config: MaskConfig) -> np.ndarray:
    """Masks (count, rows * columns) of one step's global views; which are masked is drawn by (seed, step)."""
    rng = generator(seed, "masks", step)
    masks, patches = [0] * count, grid[0] * grid[1]
    ratios = _ratios(count, config)
    order = rng.permutation(count)[: len(ratios)].tolist()
    draws = Ahead(rng)
    for view, (low, high) in zip(order, ratios, strict=True):
        masks[view] = _fill(draws, grid, int(patches * draws.uniform(low, high)))
    return _unpacked(masks, patches)


def most_masked(count: int, grid: tuple[int, int], config: MaskConfig, own: int | None = None) -> int:
    """The most patches that :func:`batch_masks` ever masks in ``own`` of its ``count`` views together, or in all."""
    patches = grid[0] * grid[1]
    most = [int(patches * (low + (high - low) * LARGEST_DRAW)) for low, high in _ratios(count, config)]
    return sum(sorted(most, reverse=True)[:own])


def _ratios(count: int, config: MaskConfig) -> list[tuple[float, float]]:
    """Smallest and largest share of masked patches of each view that gets a mask."""
    edges = np.linspace(*config.ratio, int(count * config.probability) + 1).tolist()
    return list(pairwise(edges))
