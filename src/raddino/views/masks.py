"""Block-wise masks for masked image modelling (BEiT's, with DINOv2's spread of ratios)."""

import math

import numpy as np
from pydantic import Field, model_validator

from raddino.config import Config
from raddino.views.randomness import generator

SMALLEST_BLOCK = 4
BLOCK_ASPECT = 0.3
LARGEST_BLOCK_SHARE = 0.5
ATTEMPTS = 10


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


def block_mask(rng: np.random.Generator, grid: tuple[int, int], target: int) -> np.ndarray:
    """A boolean mask (rows, columns) of about ``target`` patches made of random rectangles, never more.

    Areas are drawn from 4 patches to what is missing, at most half the grid, aspects from 0.3 to 1 / 0.3; then sides
    are rounded to whole patches. Blocks are smaller than the grid both ways.
    """
    rows, columns = grid
    mask = np.zeros(grid, dtype=bool)
    missing = target
    while missing > 0 and (added := _add_block(rng, mask, missing, int(LARGEST_BLOCK_SHARE * rows * columns))):
        missing -= added
    return mask


def _add_block(rng: np.random.Generator, mask: np.ndarray, missing: int, largest: int) -> int:
    rows, columns = mask.shape
    for _ in range(ATTEMPTS):
        area = rng.uniform(SMALLEST_BLOCK, max(SMALLEST_BLOCK, min(missing, largest)))
        aspect = math.exp(rng.uniform(math.log(BLOCK_ASPECT), -math.log(BLOCK_ASPECT)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < height < rows and 0 < width < columns):
            continue
        top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        block = mask[top : top + height, left : left + width]
        if 0 < (new := block.size - int(block.sum())) <= missing:
            block[:] = True
            return new
    return 0


def batch_masks(seed: int, step: int, count: int, grid: tuple[int, int], config: MaskConfig) -> np.ndarray:
    """Masks (count, rows * columns) of one step's global views; which are masked is drawn by (seed, step)."""
    rng = generator(seed, "masks", step)
    masks = np.zeros((count, grid[0] * grid[1]), dtype=bool)
    masked = int(count * config.probability)
    edges = np.linspace(*config.ratio, masked + 1)
    for view, low, high in zip(rng.permutation(count)[:masked], edges[:-1], edges[1:], strict=True):
        masks[view] = block_mask(rng, grid, int(grid[0] * grid[1] * rng.uniform(low, high))).ravel()
    return masks
