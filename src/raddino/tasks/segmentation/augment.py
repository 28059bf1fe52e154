"""Images and masks moved, mirrored and lit together while a head trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from raddino.tasks.segmentation.targets import IGNORE
from raddino.views.photometric import jitter
from raddino.views.randomness import generator

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Strength:
    """How far an image is changed at most, evenly to either side; 0 leaves it as it is.

    Attributes:
        rotation: degrees.
        scale: factor 1 + scale, or its inverse.
        shift: along each axis, share of the side.
        brightness, contrast: factor 1 +- this.
        gamma: exponent 1 + gamma, or its inverse.
        mirror: probability of the mirror image, where it is allowed.
    """

    rotation: float = 10.0
    scale: float = 0.15
    shift: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.2
    gamma: float = 0.2
    mirror: float = 0.5


DEFAULT = Strength()


def augment(
    images: Tensor, bits: Tensor, seeds: Iterable[int], mirror: Pairs | None, strength: Strength = DEFAULT
) -> tuple[Tensor, Tensor]:
    """Change each image and its mask alike, as its seed alone decides.

    Args:
        images: (B, 1, S, S) float in 0..1.
        bits: (B, s, s) int32 over the same square, see :mod:`raddino.tasks.segmentation.targets`; s may differ from S.
        seeds: (B,) non-negative, one a sample and step.
        mirror: pairs of classes that change places in the mirror image; None forbids flips.
        strength: of the changes.

    Returns:
        The same shapes. What moves in from outside the square is 0 in the image (bilinear) and ignored in the mask
        (nearest).
    """
    drawn = np.stack([generator(int(seed), "views").uniform(-1, 1, size=9) for seed in seeds])
    turn, zoom, right, down, bright, contrast, gamma, order, flip = torch.from_numpy(drawn).float().to(images.device).T
    if mirror is not None:
        chosen = (flip + 1) / 2 < strength.mirror
        images = torch.where(chosen[:, None, None, None], images.flip(-1), images)
        bits = torch.where(chosen[:, None, None], swap_bits(bits.flip(-1), mirror), bits)
    lit = images[:, 0].clamp(0, 1) ** (_factor(gamma, strength.gamma)[:, None, None])
    lit = jitter(lit, 1 + strength.brightness * bright, 1 + strength.contrast * contrast, order > 0)
    place = _backward(
        turn * math.radians(strength.rotation),
        _factor(zoom, strength.scale),
        2 * strength.shift * torch.stack([right, down], dim=1),
    )
    return _move_images(lit[:, None], place), _move_bits(bits, place)


def swap_bits(bits: Tensor, pairs: Pairs) -> Tensor:
    """``bits`` with the two classes of each pair in each other's place."""
    for a, b in pairs:
        differ = (bits >> a ^ bits >> b) & 1
        bits = bits ^ (differ << a) ^ (differ << b)
    return bits


def mirror_logits(logits: Tensor, pairs: Pairs, exclusive: bool) -> Tensor:
    """What logits (..., C, h, w) of a mirror image say of the image itself; exclusive ones have background first."""
    order = list(range(logits.shape[-3]))
    for a, b in pairs:
        order[a + exclusive], order[b + exclusive] = b + exclusive, a + exclusive
    return logits.flip(-1)[..., order, :, :]


def _factor(drawn: Tensor, strength: float) -> Tensor:
    return torch.exp(drawn * math.log1p(strength))


def _backward(angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """(B, 2, 3): from a place in the result to the one in the source, (x, y) in -1..1 over the square."""
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    turn = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], dim=1)
    return torch.cat([turn, -turn @ shift[:, :, None]], dim=2)


def _grid(place: Tensor, side: int) -> Tensor:
    return F.affine_grid(place, [len(place), 1, side, side], align_corners=False)


def _move_images(images: Tensor, place: Tensor) -> Tensor:
    grid = _grid(place, images.shape[-1]).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _move_bits(bits: Tensor, place: Tensor) -> Tensor:
    """By index: int32 with :data:`IGNORE` does not fit the floats that ``grid_sample`` wants."""
    side = bits.shape[-1]
    at = (((_grid(place, side) + 1) * side - 1) / 2).round().long()
    inside = ((at >= 0) & (at < side)).all(-1)
    x, y = at.clamp(0, side - 1).unbind(-1)
    moved = bits.flatten(1).gather(1, (y * side + x).flatten(1)).view_as(bits)
    return torch.where(inside, moved, torch.full_like(moved, IGNORE))
