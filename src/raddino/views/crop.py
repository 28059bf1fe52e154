"""Random resized crops as two small matrix products per view."""

import numpy as np
import torch
from torch import Tensor

BICUBIC = -0.5
"""Sharpness of the cubic kernel; -0.5 is what Pillow and antialiased torch resizing use."""


def random_boxes(
    rng: np.random.Generator,
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    attempts: int = 10,
) -> np.ndarray:
    """Boxes of random area and aspect inside an image, as torchvision's RandomResizedCrop draws them.

    Args:
        rng: source of randomness.
        count: number of boxes.
        height, width: image size in pixels.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width / height, drawn evenly on a logarithmic scale.
        attempts: tries per box; when none fits inside, the largest centred box of an allowed aspect is used.

    Returns:
        (count, 4) int64: top, left, height, width in pixels.
    """
    area = height * width * rng.uniform(*scale, size=(count, attempts))
    aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1]), size=(count, attempts)))
    place = rng.random((count, 2))
    widths = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    heights = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.argmax(1)
    rows = np.arange(count)
    limited = np.clip(width / height, *ratio)
    fallback = (min(height, round(width / limited)), min(width, round(height * limited)))
    h = np.where(fits.any(1), heights[rows, first], fallback[0])
    w = np.where(fits.any(1), widths[rows, first], fallback[1])
    top = np.where(fits.any(1), (place[:, 0] * (height - h + 1)).astype(np.int64), (height - h) // 2)
    left = np.where(fits.any(1), (place[:, 1] * (width - w + 1)).astype(np.int64), (width - w) // 2)
    return np.stack([top, left, h, w], axis=1)


def resample_matrix(start: Tensor, length: Tensor, source: int, target: int, flip: Tensor) -> Tensor:
    """Weights that cut ``[start, start + length)`` out of ``source`` pixels and resize it to ``target``.

    Antialiased bicubic: shrinking widens the kernel; no weight falls outside the cut. Multiplying an axis
    with this matrix is torchvision's ``resize(crop(image), antialias=True)`` along that axis.

    Args:
        start, length: (V,) int64, pixels.
        source, target: axis length before and after.
        flip: (V,) boolean, mirror the axis.

    Returns:
        (V, target, source) float32, rows summing to 1.
    """
    start, length = start[:, None, None].float(), length[:, None, None].float()
    out = torch.arange(target, device=start.device).view(1, -1, 1).float()
    out = torch.where(flip[:, None, None], target - 1 - out, out)
    pixel = torch.arange(source, device=start.device).view(1, 1, -1).float()
    step = length / target
    distance = (pixel - start + 0.5 - (out + 0.5) * step).abs() / step.clamp(min=1)
    inside = (pixel >= start) & (pixel < start + length)
    weights = _cubic(distance) * inside
    return weights / weights.sum(-1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    near = ((BICUBIC + 2) * x - (BICUBIC + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * BICUBIC - 4 * BICUBIC
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def crop_and_resize(images: Tensor, boxes: Tensor, flip: Tensor, target: int) -> Tensor:
    """Views (B, V, target, target) of images (B, H, W) for boxes (B, V, 4) and mirrors (B, V)."""
    (batch, count), (height, width) = boxes.shape[:2], images.shape[1:]
    flat = boxes.flatten(0, 1)
    upright = torch.zeros_like(flip).flatten()
    rows = resample_matrix(flat[:, 0], flat[:, 2], height, target, upright).unflatten(0, (batch, count))
    columns = resample_matrix(flat[:, 1], flat[:, 3], width, target, flip.flatten()).unflatten(0, (batch, count))
    squeezed = (rows.flatten(1, 2) @ images).unflatten(1, (count, target))
    return squeezed @ columns.transpose(-1, -2)
