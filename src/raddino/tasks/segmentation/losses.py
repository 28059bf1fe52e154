"""Soft Dice with cross-entropy or focal loss, for classes that exclude each other and for those that overlap."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from raddino.tasks.segmentation.targets import IGNORE

SMOOTH = 1.0
FOCUS = 2


def segmentation_loss(
    logits: Tensor, bits: Tensor, exclusive: bool, kind: Literal["dice_ce", "dice_focal"] = "dice_ce"
) -> Tensor:
    """Dice loss plus the mean cross-entropy, or focal loss, of the pixels that are not ignored.

    Logits of another size than the target's are brought to it bilinearly: what is judged is the mask, not the grid.

    Args:
        logits: (B, C, h, w); exclusive classes have a channel more, background, which comes first.
        bits: (B, H, W) int32, see :mod:`raddino.tasks.segmentation.targets`.
        exclusive: softmax over the channels, else one sigmoid each.
        kind: ``"dice_ce"`` or ``"dice_focal"``.

    Returns:
        A float32 scalar; 0 where every pixel is ignored, without gradient there.
    """
    logits = logits.float()
    if logits.shape[-2:] != bits.shape[-2:]:
        logits = F.interpolate(logits, size=bits.shape[-2:], mode="bilinear", align_corners=False)
    target, counted = one_hot(bits, logits.shape[1] - exclusive), bits & IGNORE == 0
    if exclusive:
        probability = logits.softmax(1)[:, 1:]
        position = target * torch.arange(1, target.shape[1] + 1, device=bits.device)[:, None, None]
        entropy = F.cross_entropy(logits, position.amax(1), reduction="none")[:, None]
    else:
        probability = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    if kind == "dice_focal":
        entropy = (1 - torch.exp(-entropy)) ** FOCUS * entropy
    pixels = counted.sum().clamp(min=1) * entropy.shape[1]
    return dice_loss(probability, target, counted) + (entropy * counted[:, None]).sum() / pixels


def dice_loss(probability: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """1 - soft Dice of the batch as one image, the mean over the classes that occur in it.

    A class without a pixel in the batch has no Dice to raise (its gradient would vanish as false alarms grow); the
    cross-entropy beside this loss teaches where it is not. Sums carry :data:`SMOOTH` pixels above and below.

    Args:
        probability: (B, C, H, W) in 0..1.
        target: (B, C, H, W) bool.
        counted: (B, H, W) bool, pixels that are not ignored.

    Returns:
        A scalar in 0..1; 0 where no class occurs.
    """
    probability, target = probability * counted[:, None], target & counted[:, None]
    true = target.sum((0, 2, 3))
    overlap = (probability * target).sum((0, 2, 3))
    score = (2 * overlap + SMOOTH) / (probability.sum((0, 2, 3)) + true + SMOOTH)
    present = true > 0
    return ((1 - score) * present).sum() / present.sum().clamp(min=1)


def one_hot(bits: Tensor, classes: int) -> Tensor:
    """(B, C, H, W) bool from bits (B, H, W)."""
    position = torch.arange(classes, device=bits.device, dtype=bits.dtype)[:, None, None]
    return (bits[:, None] >> position & 1).bool()
