"""The linear head: what patch features say without any help (Oquab et al. 2024, DINOv2, section 7.4)."""

from __future__ import annotations

from torch import Tensor, nn

from raddino.tasks.segmentation.heads.pyramid import channels_first


class LinearHead(nn.Module):
    """Batch norm and a 1 x 1 convolution on the patch grid.

    The batch norm brings features of any encoder to one scale. Its statistics are those of all patches of a training
    batch; in evaluation they are fixed, so that one image at a time is as good as many.
    """

    def __init__(self, dim: int, classes: int, depths: int = 1) -> None:
        super().__init__()
        self.dim, self.depths = dim, depths
        self.norm = nn.BatchNorm2d(depths * dim)
        self.classifier = nn.Conv2d(depths * dim, classes, 1)

    def forward(self, patches: Tensor) -> Tensor:
        """(B, H, W, depths * dim) to (B, classes, H, W)."""
        return self.classifier(self.norm(channels_first(patches, self.depths * self.dim)))
