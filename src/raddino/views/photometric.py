"""Changes of grey values: brightness, contrast, blur, solarisation."""

import torch
from torch import Tensor

BLUR_RADIUS = 4
"""Pixels each side of DINOv2's 9-tap Gaussian."""


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor, contrast_first: Tensor) -> Tensor:
    """Brightness and contrast of (V, H, W) images in [0, 1], in either order, clamped after each.

    A factor (V,) of 1 changes nothing; contrast is scaled about the image's mean, as torchvision does for grey.
    """
    brightness, contrast = brightness[:, None, None], contrast[:, None, None]

    def stretched(x: Tensor) -> Tensor:
        mean = x.mean((1, 2), keepdim=True)
        return ((x - mean) * contrast + mean).clamp(0, 1)

    bright_first = stretched((images * brightness).clamp(0, 1))
    contrast_then = (stretched(images) * brightness).clamp(0, 1)
    return torch.where(contrast_first[:, None, None], contrast_then, bright_first)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of square images (V, S, S), 9 taps, mirrored edges; ``sigma`` (V,) in pixels, > 0."""
    size = images.shape[-1]
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    taps = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    taps = taps / taps.sum(1, keepdim=True)
    place = torch.arange(size, device=images.device)[:, None] + offsets
    place = (size - 1) - ((size - 1) - place.abs()).abs()
    matrix = torch.zeros(len(images), size, size, device=images.device)
    matrix.scatter_add_(2, place.expand(len(images), -1, -1), taps[:, None].expand(-1, size, -1).contiguous())
    return matrix @ images @ matrix.transpose(1, 2)


def solarize(images: Tensor) -> Tensor:
    """Invert what is brighter than one half, for images in [0, 1]."""
    return torch.where(images >= 0.5, 1 - images, images)
