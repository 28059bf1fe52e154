"""Crops of a patient who stands a little turned, or beside the middle: black where there is no image."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from raddino.views.crop import BOX_ASPECT

MARGIN = 3
"""Pixels of a view around what it shows: the cubic kernel touches two."""


def frames(
    boxes: np.ndarray, turn: np.ndarray, shift: np.ndarray, sizes: np.ndarray, height: int, width: int
) -> np.ndarray:
    """The parts of an image, upright boxes (V, 4), from which turned and shifted crops are made.

    Args:
        boxes: (V, 4) int64, top, left, height, width in pixels.
        turn: (V,) degrees clockwise, of the box about its centre.
        shift: (V, 2) down and right, in sides of the box, each below a half.
        sizes: (V,) pixels of the views' sides.
        height, width: of the image in pixels.
    """
    sides, angle = boxes[:, 2:], np.radians(turn)
    cosine, sine = np.abs(np.cos(angle))[:, None], np.abs(np.sin(angle))[:, None]
    reach = (sides * cosine + sides[:, ::-1] * sine) / 2 + MARGIN * sides / sizes[:, None]
    centre = boxes[:, :2] + (0.5 + shift) * sides
    low = np.floor(centre - reach).clip(0, np.array([height, width]) - 1)
    high = np.ceil(centre + reach).clip(low + 1, [height, width])
    return np.concatenate([low, high - low], axis=1).astype(np.int64)


def frame_size(size: int, rotate: float) -> int:
    """Side in pixels at which the frame of a view of ``size`` pixels is made, turned by up to ``rotate`` degrees.

    So many that its pixels are no larger than the view's.
    """
    angle = math.radians(rotate)
    return math.ceil(size * (math.cos(angle) + BOX_ASPECT[1] * math.sin(angle))) + 2 * MARGIN


def placements(boxes: Tensor, frames: Tensor, turn: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Where a view's pixels lie in its frame: (..., 2, 3) float32 for ``affine_grid``, fields of a plan (...)."""
    half, frame_half = boxes[..., 2:].float() / 2, frames[..., 2:].float() / 2
    offset = (boxes[..., :2] - frames[..., :2]) + half * (1 + 2 * shift) - frame_half
    angle = turn.deg2rad()
    cosine, sine, mirror = angle.cos(), angle.sin(), 1 - 2 * flip.float()
    (h, w), (frame_h, frame_w), (down, right) = half.unbind(-1), frame_half.unbind(-1), offset.unbind(-1)
    x = torch.stack([mirror * w * cosine / frame_w, -h * sine / frame_w, right / frame_w], dim=-1)
    y = torch.stack([mirror * w * sine / frame_h, h * cosine / frame_h, down / frame_h], dim=-1)
    return torch.stack([x, y], dim=-2)


def place(framed: Tensor, placement: Tensor, size: int) -> Tensor:
    """Views (V, B, size, size) from their frames (V, B, F, F), bicubic; 0 where there is no image."""
    grid = affine_grid(placement.flatten(0, 1), [placement[..., 0, 0].numel(), 1, size, size], align_corners=False)
    views = grid_sample(framed.flatten(0, 1)[:, None], grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return views[:, 0].unflatten(0, framed.shape[:2])
