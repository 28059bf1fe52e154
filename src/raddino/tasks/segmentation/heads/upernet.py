"""UPerNet (Xiao et al. 2018, arXiv 1807.10221): pyramid pooling on the coarsest map, feature pyramid, fusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from raddino.tasks.segmentation.heads.pyramid import WIDTH, ChannelNorm, ConvBlock, Scales

BINS = (1, 2, 3, 6)


class UperNet(nn.Module):
    """The decoder, from maps of any scales to logits at the finest.

    Args:
        channels: of the maps, finest first.
        classes: channels of the logits.
        width: channels between.
        norm: makes the norm of so many channels.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, width: int, norm: Callable[[int], nn.Module] = ChannelNorm
    ) -> None:
        super().__init__()
        *finer, coarsest = channels
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), ConvBlock(coarsest, width, 1, norm)) for bins in BINS
        )
        self.bottleneck = ConvBlock(coarsest + len(BINS) * width, width, 3, norm)
        self.laterals = nn.ModuleList(ConvBlock(one, width, 1, norm) for one in finer)
        self.smooth = nn.ModuleList(ConvBlock(width, width, 3, norm) for _ in finer)
        self.fused = ConvBlock(len(channels) * width, width, 3, norm)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C_i, h_i, w_i), finest first, to (B, classes, h_0, w_0)."""
        *finer, coarsest = maps
        pooled = [_resized(pool(coarsest), coarsest) for pool in self.pools]
        levels = [self.bottleneck(torch.cat([coarsest, *pooled], dim=1))]
        for lateral, one in zip(reversed(self.laterals), reversed(finer), strict=True):
            inner = lateral(one)
            levels.insert(0, inner + _resized(levels[0], inner))
        finest = maps[0]
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)]
        return self.classifier(self.fused(torch.cat([_resized(one, finest) for one in (*smoothed, levels[-1])], dim=1)))


class UperNetHead(nn.Module):
    """UPerNet on four scales of a vision transformer's features.

    Args:
        dim: D of one depth.
        classes: channels of the logits.
        depths: 1 or 4.
        width: channels between; by default 256, or D where that is less.
    """

    def __init__(self, dim: int, classes: int, depths: int = 1, width: int | None = None) -> None:
        super().__init__()
        self.scales = Scales(dim, depths)
        self.decoder = UperNet(self.scales.channels, classes, width or min(WIDTH, dim))

    def forward(self, patches: Tensor) -> Tensor:
        """(B, H, W, depths * dim) to (B, classes, 4H, 4W)."""
        return self.decoder(self.scales(patches))


def _resized(one: Tensor, like: Tensor) -> Tensor:
    return interpolate(one, like.shape[2:], mode="bilinear")
