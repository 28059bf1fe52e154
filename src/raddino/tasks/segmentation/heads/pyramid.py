"""Maps of four scales from a vision transformer's one (Li et al. 2022, arXiv 2203.16527, section 3)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import layer_norm

from raddino.errors import ConfigError, RaddinoError

LEVELS = 4
WIDTH = 256
"""Channels of both pyramids' decoders, as in the two papers; no more than the encoder has."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of a map, as in ViTDet.

    Neither the batch nor the surroundings of a place matter, so that it works with one image, and beside black borders.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        last = input.permute(0, 2, 3, 1)
        return layer_norm(last, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class ConvBlock(nn.Sequential):
    """A convolution that keeps the size, a norm, and ReLU unless told otherwise."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: Callable[[int], nn.Module] = ChannelNorm, relu: bool = True
    ) -> None:
        layers = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), norm(outputs)]
        super().__init__(*layers, *([nn.ReLU()] if relu else []))


class Scales(nn.Module):
    """The simple feature pyramid: scales 4, 2, 1 and 1/2 of the patch grid by (transposed) convolutions and pooling.

    With features of four depths each scale is made from its own, the finest from the earliest.

    Args:
        dim: D of one depth.
        depths: 1 or 4.

    Attributes:
        channels: of the four maps, finest first: D/4, D/2, D, D.

    Raises:
        ConfigError: another number of depths.
    """

    def __init__(self, dim: int, depths: int = 1) -> None:
        super().__init__()
        if depths not in (1, LEVELS):
            raise ConfigError(f"a pyramid of four scales takes features of 1 or {LEVELS} depths, got {depths}")
        half, quarter = max(1, dim // 2), max(1, dim // 4)
        self.dim, self.depths, self.channels = dim, depths, (quarter, half, dim, dim)
        finest = [
            nn.ConvTranspose2d(dim, half, 2, 2),
            ChannelNorm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, 2),
        ]
        self.scales = nn.ModuleList(
            [
                nn.Sequential(*finest),
                nn.ConvTranspose2d(dim, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, patches: Tensor) -> list[Tensor]:
        """(B, H, W, depths * D) to maps (B, C_i, h_i, w_i), finest first; the coarsest of an odd grid is rounded up."""
        maps = channels_first(patches, self.depths * self.dim).chunk(self.depths, dim=1)
        return [scale(maps[level % self.depths]) for level, scale in enumerate(self.scales)]


def channels_first(patches: Tensor, width: int) -> Tensor:
    """(B, H, W, D) to (B, D, H, W).

    Raises:
        RaddinoError: other axes, or another width than the head was made for.
    """
    if patches.ndim != 4 or patches.shape[-1] != width:
        raise RaddinoError(f"this head takes patch features (B, H, W, {width}), got {tuple(patches.shape)}")
    return patches.permute(0, 3, 1, 2)
