"""Random resized crops: along each axis every pixel is a sum of the few that its kernel touches."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BOX_ASPECT, BOX_ATTEMPTS = (3 / 4, 4 / 3), 10
BOX_DRAWS = 2 * BOX_ATTEMPTS + 2
BICUBIC = -0.5
"""Sharpness of the cubic kernel; -0.5 is what Pillow and antialiased torch resizing use."""


def random_boxes(
    rng: np.random.Generator,
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
) -> np.ndarray:
    """Boxes of random area and aspect inside an image, as torchvision's RandomResizedCrop draws them.

    Args:
        rng: source of randomness.
        count: number of boxes.
        height, width: image size in pixels.
        scale: smallest and largest share of the image's area.

    Returns:
        (count, 4) int64: top, left, height, width in pixels.
    """
    return place_boxes(*box_draws(rng.random(count * BOX_DRAWS)), height, width, *scale)


def box_draws(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers in [0, 1) for the areas (V, attempts), aspects (V, attempts) and places (V, 2) of V boxes."""
    count = len(draws) // BOX_DRAWS
    tries = count * BOX_ATTEMPTS
    area, aspect, place = draws[:tries], draws[tries : 2 * tries], draws[2 * tries :]
    return area.reshape(count, BOX_ATTEMPTS), aspect.reshape(count, BOX_ATTEMPTS), place.reshape(count, 2)


def place_boxes(
    area: np.ndarray,
    aspect: np.ndarray,
    place: np.ndarray,
    height: int,
    width: int,
    smallest: np.ndarray | float,
    largest: np.ndarray | float,
) -> np.ndarray:
    """Boxes (V, 4) from numbers in [0, 1): the first attempt that fits, else the largest centred box allowed.

    ``smallest`` and ``largest`` are shares of the image's area, one for all or (V, 1); aspects, width / height, are
    even on a logarithmic scale.
    """
    low, high = BOX_ASPECT
    areas = height * width * (smallest + (largest - smallest) * area)
    ratios = np.exp(math.log(low) + (math.log(high) - math.log(low)) * aspect)
    widths, heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first, rows = fits.argmax(1), np.arange(len(area))
    h, w = heights[rows, first], widths[rows, first]
    boxes = np.stack([place[:, 0] * (height - h + 1), place[:, 1] * (width - w + 1), h, w], axis=1).astype(np.int64)
    if not (fitting := fits[rows, first]).all():
        limited = min(max(width / height, low), high)
        h, w = min(height, round(width / limited)), min(width, round(height * limited))
        boxes[~fitting] = (height - h) // 2, (width - w) // 2, h, w
    return boxes


def cubic_taps(start: Tensor, length: Tensor, target: int, flip: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which pixels make each pixel of an axis cut to ``[start, start + length)`` and resized, and how much of each.

    Antialiased bicubic: shrinking widens the kernel; no weight falls outside the cut. It is torchvision's
    ``resize(crop(image), antialias=True)`` along that axis.

    Args:
        start, length: (V,) int64, pixels.
        target: axis length after.
        flip: (V,) boolean, mirror the axis.
        count: K, pixels that the kernel may touch, at least 4 max(1, length / target).

    Returns:
        (K, V, target) int32 pixels of the source and float32 weights, which sum to 1 over K.
    """
    start, length, flip = start[:, None].int(), length[:, None].float(), flip[:, None]
    out, step = torch.arange(target, device=start.device), length / target
    reach = step.clamp(min=1)
    middle = (torch.where(flip, target - 1 - out, out) + 0.5) * step
    pixel = (middle - 2 * reach + 0.5).floor() + torch.arange(count, device=start.device)[:, None, None]
    weights = _cubic((pixel + 0.5).sub_(middle).abs_().div_(reach))
    nearest = torch.minimum(pixel.clamp(min=0), length - 1)
    weights *= nearest == pixel
    weights /= weights.sum(0)
    return nearest.int().add_(start), weights


def _cubic(x: Tensor) -> Tensor:
    near = ((BICUBIC + 2) * x).sub_(BICUBIC + 3).mul_(x).mul_(x).add_(1)
    far = (2 - x).clamp_(min=0).square_().mul_(x - 1).mul_(BICUBIC)
    return torch.where(x < 1, near, far)


class Taps(NamedTuple):
    """How each pixel of an axis of some views is made of K pixels of the images.

    Attributes:
        places: (..., T, K) int32, pixels of the image.
        weights: (..., T, K) float32.
    """

    places: Tensor
    weights: Tensor

    def part(self, index: tuple[slice, ...]) -> Taps:
        """The taps of a part of the views."""
        return Taps(self.places[index], self.weights[index])


def crop_taps(boxes: Tensor, flip: Tensor, target: int, gain: Tensor, longest: int) -> tuple[Taps, Taps]:
    """Taps across and down of square crops.

    Args:
        boxes: (..., 4) int64, top, left, height, width in pixels.
        flip: (...) boolean, mirror left and right.
        target: side of the views in pixels.
        gain: (...) float32 factors of grey values.
        longest: side of the boxes in pixels, at least.
    """
    top, left, height, width = boxes.flatten(0, -2).T
    mirrored = flip.flatten()
    places, weights = cubic_taps(
        torch.cat([left, top]), torch.cat([width, height]), target,
        torch.cat([mirrored, torch.zeros_like(mirrored)]), math.ceil(4 * max(1, longest / target)),
    )  # fmt: skip
    weights[:, flip.numel() :] *= gain.view(-1, 1)
    places, weights = (x.movedim(0, -1).contiguous().unflatten(0, (2, *flip.shape)) for x in (places, weights))
    return Taps(places[0], weights[0]), Taps(places[1], weights[1])


def resample(tables: Tensor, across: Taps, down: Taps) -> Tensor:
    """Views by their taps, one axis after the other.

    Args:
        tables: (B, W, H) float32, images with their axes exchanged.
        across, down: (V, B, T, K) taps.

    Returns:
        (V, B, T, T) float32.
    """
    narrowed = _mix_rows(tables, across).flatten(0, 1).transpose(1, 2).contiguous()
    one_each = Taps(*(x.flatten(0, 1)[None] for x in down))
    return _mix_rows(narrowed, one_each)[0].unflatten(0, down.places.shape[:2])


def _mix_rows(tables: Tensor, taps: Taps) -> Tensor:
    """Sums (V, N, T, M) of the rows of tables (N, L, M) by taps (V, N, T, K)."""
    count, height = tables.shape[:2]
    first = torch.arange(0, count * height, height, device=tables.device, dtype=torch.int32)
    mixed = functional.embedding_bag(
        (taps.places + first[:, None, None]).flatten(0, 2), tables.flatten(0, 1), mode="sum",
        per_sample_weights=taps.weights.flatten(0, 2),
    )  # fmt: skip
    return mixed.view(*taps.places.shape[:3], -1)
