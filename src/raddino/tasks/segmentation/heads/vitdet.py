"""The ViTDet head: a simple feature pyramid, fused at its finest scale (Li et al. 2022, arXiv 2203.16527)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from raddino.tasks.segmentation.heads.pyramid import WIDTH, ConvBlock, Scales

CONVOLUTIONS = 4


class VitDetHead(nn.Module):
    """Four scales, each through a 1 x 1 and a 3 x 3 convolution, summed on the finest; 4 convolutions, then 1 x 1.

    Args:
        dim: D of one depth.
        classes: channels of the logits.
        depths: 1 or 4.
        width: channels between; by default 256, or D where that is less.
    """

    def __init__(self, dim: int, classes: int, depths: int = 1, width: int | None = None) -> None:
        super().__init__()
        width = width or min(WIDTH, dim)
        self.scales = Scales(dim, depths)
        self.laterals = nn.ModuleList(
            nn.Sequential(ConvBlock(channels, width, 1, relu=False), ConvBlock(width, width, 3, relu=False))
            for channels in self.scales.channels
        )
        self.fused = nn.Sequential(*(ConvBlock(width, width, 3) for _ in range(CONVOLUTIONS)))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, H, W, depths * dim) to (B, classes, 4H, 4W)."""
        finest, *coarser = (lateral(one) for lateral, one in zip(self.laterals, self.scales(patches), strict=True))
        for one in coarser:
            finest = finest + interpolate(one, finest.shape[2:], mode="bilinear")
        return self.classifier(self.fused(finest))
