"""Gram anchoring: a student's patches stay as alike to each other as an earlier teacher saw them.

DINOv3's (arXiv 2508.10104, section 4), against patch features that degrade while those of whole images still improve.
"""

from contextlib import nullcontext

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss, normalize

from raddino.config import Config
from raddino.ssl.losses import full
from raddino.vit import VisionTransformer, VitConfig


class GramConfig(Config):
    """When and how strongly patches are anchored.

    Attributes:
        weight: of the loss; 0 is off. DINOv3's is 2.
        start: step from which on; the teacher as it stands then becomes the Gram teacher.
        every: steps after which the teacher becomes the Gram teacher again; None is never.
        size: pixels of the global views that the Gram teacher sees, without jitter, window, blur and solarisation, its
            patches interpolated to the student's grid (DINOv3: twice the student's); None is the student's views.
    """

    weight: float = Field(0.0, ge=0)
    start: int = Field(0, ge=0, le=10**7)
    every: int | None = Field(None, gt=0, le=10**7)
    size: int | None = Field(None, gt=0, le=2**14)

    def begun(self, step: int) -> bool:
        """Whether patches are anchored at a step."""
        return self.weight > 0 and step >= self.start

    def renews(self, step: int) -> bool:
        """Whether the teacher becomes the Gram teacher before a step."""
        since = step - self.start
        return since == 0 or (self.every is not None and since > 0 and since % self.every == 0)

    def size_at(self, step: int) -> int | None:
        """Pixels of the views of its own that the Gram teacher needs at a step."""
        return self.size if self.begun(step) else None


class GramAnchor(nn.Module):
    """The Gram teacher, an earlier teacher's backbone, and its loss."""

    def __init__(self, vit: VitConfig, config: GramConfig) -> None:
        super().__init__()
        self.config = config
        self.teacher = VisionTransformer(vit.model_copy(update={"drop_path": 0.0})).requires_grad_(False)

    @torch.no_grad()
    def renew(self, backbone: VisionTransformer) -> None:
        """Make ``backbone`` as it stands the Gram teacher."""
        for own, other in zip(self.teacher.parameters(), backbone.parameters(), strict=True):
            own.copy_(other)

    def forward(self, patches: Tensor, images: Tensor) -> Tensor:
        """The weighted loss of the student's normed patches (B, N, D), masked ones too, of images (B, C, H, W)."""
        with torch.no_grad():
            seen = self.teacher(images)
            target = seen.patches
            if target.shape[1] != patches.shape[1]:
                grid = full(target).transpose(1, 2).unflatten(2, seen.grid)
                side = round(patches.shape[1] ** 0.5)
                target = interpolate(grid, size=(side, side), mode="bicubic").flatten(2).transpose(1, 2)
        return self.config.weight * gram_loss(patches, target)


def gram_loss(patches: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the cosines between all pairs of an image's patches, (B, N, D) each.

    It is the paper's squared Frobenius norm of Gram matrices over N^2, as DINOv3's program has it. Never computed in
    half precision.
    """
    kind = patches.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        own, earlier = (normalize(full(x), dim=-1) for x in (patches, target))
        return mse_loss(own @ own.mT, earlier @ earlier.mT)
