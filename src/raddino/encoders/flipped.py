"""Any encoder, with features averaged over an image and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raddino.encoders.base import Encoder, Features

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Flipped:
    """Test-time flips: the mean of the features of each image and of its left-right mirror image.

    Patches of the mirror image are mirrored back before the mean, so that a patch keeps its place. Whatever else
    the encoder offers (text, fitting) is passed through.

    Args:
        encoder: any encoder; its fingerprint with ``+flips`` is this one's.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "fast_encode", "read"):  # while unpickled; ways past the flips
            raise AttributeError(name)
        return getattr(self.encoder, name)

    @property
    def fingerprint(self) -> str:
        """Of weights, preprocessing and flips."""
        return f"{self.encoder.fingerprint}+flips"

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """As the encoder's own."""
        return self.encoder.preprocess(images)

    def encode(self, batch: Tensor) -> Features:
        """Mean features of a preprocessed batch (B, C, H, W) and its mirror image."""
        here, there = self.encoder.encode(batch), self.encoder.encode(batch.flip(-1))
        patches = None
        if here.patches is not None and there.patches is not None:
            patches = (here.patches + there.patches.flip(2)) / 2
        return Features((here.cls + there.cls) / 2, patches)
