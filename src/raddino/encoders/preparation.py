"""Grey radiographs to what a foreign network was trained on: size, interpolation, value range, channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from raddino.encoders.base import check_batch
from raddino.errors import RaddinoError

PIL_MODES = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LARGEST = 4096
"""Pixels; no published network takes an input near it."""
OVERSHOOT = 0.3
"""Share of the value range by which antialiased bicubic interpolation (a = -0.5) in floats may leave it: 2 * 1.125 *
0.125."""


@dataclass(frozen=True)
class Preparation:
    """Steps that every family's own code takes, in this order: resize, centre crop, scale, normalise, repeat.

    Attributes:
        resize: pixels of the shorter side, or (height, width) where the aspect ratio is given up.
        crop: side of the centre crop, or None. An image smaller than the crop is padded with zeros.
        mean, std: per channel, in units of ``maximum``.
        interpolation: ``"bilinear"`` or ``"bicubic"`` (a = -0.5 in both backends), antialiased.
        backend: ``"pil"`` or ``"tensor"`` (torchvision); 8-bit results of the two differ by a grey level or so.
        maximum: what a white pixel becomes before normalisation; 1 for most, 255 for some.
        crop_start: where the crop begins when the border is odd: ``"nearest"`` rounds half to even as torchvision
            does, ``"down"`` as Transformers' processors do.
        float_resize: resize 8-bit images in float32 too, without rounding to grey levels (DINOv3).

    Raises:
        RaddinoError: a side outside 1..4096 px, an SD or maximum that is not above 0, other numbers not finite.
    """

    resize: int | tuple[int, int]
    crop: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    backend: Literal["pil", "tensor"] = "tensor"
    maximum: float = 1.0
    crop_start: Literal["nearest", "down"] = "nearest"
    float_resize: bool = False

    def __post_init__(self) -> None:
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        for side in (*sides, *(() if self.crop is None else (self.crop,))):
            if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= LARGEST:
                raise RaddinoError(f"images are resized and cropped to 1..{LARGEST} px, got {side!r}")
        if len(self.mean) != len(self.std) or not all(isfinite(value) for value in (*self.mean, *self.std)):
            raise RaddinoError(f"mean and SD must be as many finite numbers, got {self.mean} and {self.std}")
        if min(self.std, default=0) <= 0 or self.maximum <= 0:
            raise RaddinoError(f"SD and maximum must be above 0, got {self.std} and {self.maximum}")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what comes out; the crop's, or the fixed size."""
        if self.crop is not None:
            return self.crop, self.crop
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    def border(self, covered: tuple[int, int]) -> tuple[float, float]:
        """What a square image loses before (top, left) and after what is seen of it, in units of the seen side.

        Negative where the crop is larger than the resized image, so that zeros are seen around it.

        Args:
            covered: (rows, columns) of pixels from the top left of the prepared image that are seen.

        Raises:
            RaddinoError: rows and columns lose different shares.
        """
        resized = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        lost = []
        for whole, kept, seen in zip(resized, self.size, covered, strict=True):
            start = self._start(whole - kept)
            lost.append((start / seen, (whole - start) / seen - 1))
        if not np.allclose(lost[0], lost[1], atol=1e-6):
            raise RaddinoError(f"a square image resized to {resized} and seen in {covered} px loses unequal borders")
        return lost[0]

    def placed(self, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size (rows, columns) to which an image (height, width) is resized, and where in it the prepared one begins.

        The beginning is negative where zeros are put around a small image.
        """
        resized = self._target(*shape)
        if self.crop is None:
            return resized, (0, 0)
        top, left = (self._start(length - self.crop) for length in resized)
        return resized, (top, left)

    def __call__(self, name: str, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, to (B, C, h, w) float32; ``name`` is for errors.

        8-bit images are resized in 8 bits unless ``float_resize``; 16-bit ones in float32.

        Raises:
            RaddinoError: no image, or one that is not grey uint8 or uint16.
        """
        if not len(images):
            raise RaddinoError(f"{name} got no image to prepare")
        grey = torch.stack([self._one(name, image) for image in images])
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (grey * self.maximum - mean) / std

    def check(self, name: str, batch: Tensor) -> None:
        """Refuse a batch (B, C, H, W) that cannot have come from here, see :func:`check_batch`."""
        slack = OVERSHOOT * self.maximum if self.float_resize and self.interpolation == "bicubic" else 0.0
        pairs = list(zip(self.mean, self.std, strict=True))
        low = min((-slack - mean) / std for mean, std in pairs)
        high = max((self.maximum + slack - mean) / std for mean, std in pairs)
        check_batch(name, batch, len(self.mean), low, high)

    def _one(self, name: str, image: np.ndarray) -> Tensor:
        """(1, h, w) in [0, 1]."""
        check_grey(name, image)
        scale = float(np.iinfo(image.dtype).max)
        as_float = self.float_resize or image.dtype != np.uint8
        pixels = self._resized(np.require(image, np.float32 if as_float else np.uint8, ["C", "W"]))
        if self.crop is not None:
            pixels = self._cropped(pixels, self.crop)
        pixels = pixels.float() / scale
        return pixels if self.float_resize else pixels.clamp_(0, 1)

    def _resized(self, image: np.ndarray) -> Tensor:
        if self.backend == "tensor":
            from torchvision.transforms.v2.functional import InterpolationMode, resize

            size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
            mode = InterpolationMode[self.interpolation.upper()]
            return resize(torch.from_numpy(image)[None], size, interpolation=mode, antialias=True)
        height, width = self._target(*image.shape)
        small = Image.fromarray(image).resize((width, height), PIL_MODES[self.interpolation])
        return torch.from_numpy(np.array(small))[None]

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.resize, int):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def _cropped(self, pixels: Tensor, side: int) -> Tensor:
        short = [max(side - length, 0) for length in pixels.shape[-2:]]
        if any(short):
            top, left = (missing // 2 for missing in short)
            pixels = pad(pixels, (left, short[1] - left, top, short[0] - top))
        top, left = (self._start(length - side) for length in pixels.shape[-2:])
        return pixels[..., top : top + side, left : left + side]

    def _start(self, border: int) -> int:
        """Where a crop begins in an image that is longer by ``border``; below 0 in a shorter one."""
        if border < 0:
            return -(-border // 2)
        return border // 2 if self.crop_start == "down" else round(border / 2)


def check_grey(name: str, image: np.ndarray) -> None:
    """Refuse an image that is not grey (H, W) of uint8 or uint16; ``name`` is for the error.

    Raises:
        RaddinoError: another shape or type, or no pixel.
    """
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or not image.size:
        raise RaddinoError(f"{name} takes grey (H, W) uint8 or uint16 images, got {image.dtype} of shape {image.shape}")
