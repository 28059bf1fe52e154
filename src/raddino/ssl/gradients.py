"""Patches say the oriented gradients of what they show: masked feature prediction with HOG as the target.

MaskFeat's (Wei et al. 2022, arXiv 2112.09133), whose target here is told by seen patches as well as by masked ones.
"""

from contextlib import nullcontext

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, mse_loss, pad

from raddino.config import Config
from raddino.ssl.losses import full

CELLS = 2
"""Cells along a patch's side."""
FLOOR = 0.02
"""Added to a block's norm, in units of the image's values: noise in flat background is no direction."""


class GradientsConfig(Config):
    """Whether and how strongly patches are asked for their gradients.

    Attributes:
        weight: of the loss; 0 is off.
        orientations: unsigned directions of a histogram, over 180 degrees.
    """

    weight: float = Field(0.0, ge=0)
    orientations: int = Field(9, ge=2, le=64)


class OrientedGradients(nn.Module):
    """A linear layer from normed patches to their histograms, and its loss."""

    def __init__(self, dim: int, patch_size: int, config: GradientsConfig) -> None:
        super().__init__()
        self.config, self.patch_size = config, patch_size
        self.head = nn.Linear(dim, CELLS * CELLS * config.orientations)

    def init_weights(self, generator: torch.Generator | None = None) -> "OrientedGradients":
        """Normal weights with SD 0.02, zero biases."""
        nn.init.trunc_normal_(self.head.weight, std=0.02, generator=generator)
        nn.init.zeros_(self.head.bias)
        return self

    def forward(self, patches: Tensor, images: Tensor) -> Tensor:
        """The weighted loss of normed patches (B, N, D) of images (B, C, H, W) as the student saw them."""
        kind = patches.device.type
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            target = histograms(full(images), self.patch_size, self.config.orientations)
            told = nn.functional.linear(full(patches), self.head.weight, self.head.bias)
            return self.config.weight * mse_loss(told, target)


@torch.no_grad()
def histograms(images: Tensor, patch_size: int, orientations: int) -> Tensor:
    """Histograms of oriented gradients of each patch's 2 x 2 cells, at mean square 1 in each block of 3 x 3 cells.

    Args:
        images: (B, C, H, W), of which the mean over C is looked at.
        patch_size: pixels, even.
        orientations: number of directions.

    Returns:
        (B, N, 4 * orientations), patches row by row.
    """
    grey = images.mean(1, keepdim=True)
    wide = pad(grey, (1, 1, 1, 1), mode="replicate")
    right = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2
    down = (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
    size = torch.hypot(right, down)
    place = torch.atan2(down, right).remainder(torch.pi) / torch.pi * orientations
    bins = torch.arange(orientations, device=images.device).view(1, -1, 1, 1)
    away = (place - bins).remainder(orientations)
    share = (1 - torch.minimum(away, orientations - away)).clamp(min=0) * size
    cell = patch_size // CELLS
    cells = avg_pool2d(share, cell)
    energy = cells.square().sum(1, keepdim=True)
    block = 9 * avg_pool2d(pad(energy, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    cells = cells * (9 * orientations) ** 0.5 / (block.sqrt() + FLOOR)
    rows, columns = cells.shape[2] // CELLS, cells.shape[3] // CELLS
    split = cells.view(len(images), orientations, rows, CELLS, columns, CELLS)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(len(images), rows * columns, -1)
