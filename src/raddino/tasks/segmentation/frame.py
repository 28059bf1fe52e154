"""The frame that images, masks and patch grids share: the smallest square around an image, with its centre."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raddino.encoders.base import Encoder, Features
from raddino.errors import RaddinoError
from raddino.tasks.segmentation.targets import IGNORE

Margin = float | tuple[float, float]
"""What an encoder's preparation crops away of a square: a factor (1.14 where 1 of 1.14 is kept), or the borders before
(top, left) and after (bottom, right) in units of the side that is kept."""


class Squared:
    """An encoder that sees the whole of every image in the middle of a square, surrounded with black.

    The patch grid then lies on that square from edge to edge, for every family: the square is enlarged by what the
    encoder's own preparation crops away, and by the rows and columns that fill no patch. Whatever else the encoder
    offers is passed through.

    Args:
        encoder: any encoder; its fingerprint with ``+square`` is this one's.

    Attributes:
        margin: for :func:`square_bits` and :func:`unsquare`.

    Raises:
        RaddinoError: the encoder sees a part of a square image that is no square.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        preparation = getattr(encoder, "preparation", None)
        covered = getattr(encoder, "covered", None) or getattr(preparation, "size", None)
        self.margin: tuple[float, float] = (0.0, 0.0) if preparation is None else preparation.border(covered)

    def __getattr__(self, name: str) -> Any:
        if name == "encoder":  # while unpickled
            raise AttributeError(name)
        return getattr(self.encoder, name)

    @property
    def fingerprint(self) -> str:
        """Of weights, preprocessing and frame."""
        return f"{self.encoder.fingerprint}+square"

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, to one batch (B, C, S, S), through the encoder's own preparation."""
        return self.encoder.preprocess([square(image, self.margin) for image in images])

    def encode(self, batch: Tensor) -> Features:
        """As the encoder's own."""
        return self.encoder.encode(batch)


def square(image: np.ndarray, margin: Margin = 1.0) -> np.ndarray:
    """The image (H, W) in the middle of zeros, as a square; its type stays.

    Args:
        image: grey or mask, any type.
        margin: see :data:`Margin`; borders are rounded to whole pixels, which :func:`unsquare` knows.

    Raises:
        RaddinoError: not (H, W), or a margin that is no share.
    """
    if image.ndim != 2 or not image.size:
        raise RaddinoError(f"only an image (H, W) has a square around it, got shape {image.shape}")
    side = max(image.shape)
    low, high = _padding(side, margin)
    widths = [(low + (side - length) // 2, high + -((length - side) // 2)) for length in image.shape]
    return np.pad(image, widths) if any(map(any, widths)) else image


def square_bits(bits: np.ndarray, side: int, margin: Margin = 1.0) -> np.ndarray:
    """Bits (H, W) as an encoder behind :class:`Squared` sees them, (side, side) int32, nearest to each pixel's centre.

    What lies outside the image is to be ignored.
    """
    height, width = bits.shape
    places = []
    for length in (height, width):
        start, extent = _seen(length, max(height, width), margin)
        places.append(np.floor(start + (np.arange(side) + 0.5) / side * extent).astype(np.int64))
    rows, columns = places
    seen = bits[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)].astype(np.int32)
    seen[(rows < 0) | (rows >= height)] = IGNORE
    seen[:, (columns < 0) | (columns >= width)] = IGNORE
    return seen


def unsquare(logits: Tensor, height: int, width: int, margin: Margin = 1.0) -> Tensor:
    """Values (C, h, w) on what an encoder sees, to the pixels (C, height, width) of the image inside, bilinearly.

    As ``interpolate(align_corners=False)`` of the whole square would have them, but nothing outside the image is
    computed: memory is that of the result and of two of its channels.
    """
    side, axes = max(height, width), []
    for length, cells in zip((height, width), logits.shape[-2:], strict=True):
        start, extent = _seen(length, side, margin)
        centres = torch.arange(length, dtype=torch.float64) + 0.5
        at = ((centres - start) / extent * cells - 0.5).clamp(0, cells - 1)
        first = at.floor().long()
        share = (at - first).to(logits.device, logits.dtype)
        axes.append((first.to(logits.device), (first + 1).clamp(max=cells - 1).to(logits.device), share))
    (top, bottom, down), (left, right, across) = axes
    found = logits.new_empty((*logits.shape[:-2], height, width))
    for channel, values in enumerate(logits):
        rows = torch.lerp(values[top], values[bottom], down[:, None])
        found[channel] = torch.lerp(rows[:, left], rows[:, right], across)
    return found


def _borders(margin: Margin) -> tuple[float, float]:
    before, after = margin if isinstance(margin, tuple) else ((margin - 1) / 2,) * 2
    if not (isfinite(before) and isfinite(after) and min(before, after) > -0.5):
        raise RaddinoError(f"a margin is a factor above 0, or two borders above -0.5, got {margin}")
    return before, after


def _padding(side: int, margin: Margin) -> tuple[int, int]:
    """Pixels added before and after a square."""
    before, after = _borders(margin)
    return max(0, round(before * side)), max(0, round(after * side))


def _seen(length: int, side: int, margin: Margin) -> tuple[float, float]:
    """Start and extent of what is seen along one axis, in pixels from the image's own edge."""
    before, after = _borders(margin)
    low, high = _padding(side, margin)
    extent = (side + low + high) / (1 + before + after)
    return extent * before - low - (side - length) // 2, extent
