"""What patches say: principal components as colours, similarity to a point, attention of the class token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from raddino.encoders.base import Encoder


@dataclass(frozen=True)
class Seen:
    """What an encoder makes of B images.

    Attributes:
        batch: (B, C, S, S), as it was preprocessed.
        cls: (B, D) float32.
        patches: (B, H, W, D) float32; None where the encoder has none.
    """

    batch: Tensor
    cls: np.ndarray
    patches: np.ndarray | None


def see(encoder: Encoder, images: Sequence[np.ndarray]) -> Seen:
    """Features of grey images (H, W), uint8 or uint16, of any sizes, in one call of the encoder."""
    batch = encoder.preprocess(images)
    features = encoder.encode(batch)
    patches = None if features.patches is None else features.patches.float().cpu().numpy()
    return Seen(batch, features.cls.float().cpu().numpy(), patches)


def attention(encoder: Encoder, batch: Tensor) -> np.ndarray | None:
    """Class token's attention to the patches in the last block, (B, heads, H, W) float32.

    None where the encoder does not tell, or has no patches.
    """
    look = getattr(encoder, "attention", None)
    return None if look is None or encoder.grid is None else np.asarray(look(batch).float().cpu())


@dataclass(frozen=True)
class Components:
    """The first three principal components of patch features, fewer where there are fewer features.

    Attributes:
        mean: (D,) float64.
        directions: (D, C), each of unit length, its sign such that its largest loading is positive.
        low, high: (C,) 1st and 99th percentile of each component over the patches it was fitted on.
    """

    mean: np.ndarray
    directions: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def fit(cls, patches: np.ndarray) -> Components:
        """Of patches (B, H, W, D), all of them together."""
        flat = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
        mean = flat.mean(0)
        flat = flat - mean
        _, directions = np.linalg.eigh(flat.T @ flat)
        top = directions[:, ::-1][:, :3]
        top = top * np.sign(np.take_along_axis(top, np.abs(top).argmax(0)[None], axis=0))
        return cls(mean, top, *np.percentile(flat @ top, [1, 99], axis=0))

    def colours(self, patches: np.ndarray) -> np.ndarray:
        """Patches (B, H, W, D) to (B, H, W, 3) uint8; each component spans 0..255 between its percentiles."""
        flat = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
        parts = (flat - self.mean) @ self.directions
        scaled = np.clip((parts - self.low) / np.maximum(self.high - self.low, 1e-12), 0, 1) * 255
        colours = np.zeros((len(flat), 3), dtype=np.uint8)
        colours[:, : scaled.shape[1]] = scaled.round()
        return colours.reshape(*patches.shape[:3], 3)


def pca_rgb(patches: np.ndarray) -> np.ndarray:
    """Patches (B, H, W, D) to colours (B, H, W, 3) uint8 of their own :class:`Components`.

    The components are those of all B images together, so that a colour means the same in each.
    """
    return Components.fit(patches).colours(patches)


def unit(patches: np.ndarray) -> np.ndarray:
    """Vectors (…, D) scaled to length 1, float32; zeros stay."""
    patches = np.asarray(patches, np.float32)
    return patches / np.maximum(np.linalg.norm(patches, axis=-1, keepdims=True), 1e-12)


def similarity(point: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Cosine of one patch with every patch.

    Args:
        point: (D,) of :func:`unit` length.
        patches: (…, D) of :func:`unit` length.

    Returns:
        (…) float32 in -1..1.
    """
    return np.clip(patches @ point, -1, 1)
