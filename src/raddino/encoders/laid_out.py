"""Any encoder with a grid of patches, its image embedding laid out: where in the image something is stays told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.nn.functional import adaptive_avg_pool2d

from raddino.encoders.base import Encoder, Features
from raddino.encoders.flipped import Flipped

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SIDE = 4


class LaidOut:
    """Patch features (B, H, W, D) averaged within a grid of 4 x 4 and set side by side as ``cls`` (B, 16 D).

    Rows first, then columns, each with its D features; a grid of fewer patches than 4 along a side stays as it is.
    Windows are those of adaptive average pooling. Whatever else the encoder offers is passed through.

    Args:
        encoder: one with patches; its fingerprint with ``+grid4`` is this one's.
    """

    grid: tuple[int, int] | None = None

    def __init__(self, encoder: Encoder) -> None:
        assert encoder.grid is not None
        rows, columns = self._shape(*encoder.grid)
        self.encoder, self.dim = encoder, rows * columns * encoder.dim

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "fast_encode", "read"):  # while unpickled; ways past the layout
            raise AttributeError(name)
        return getattr(self.encoder, name)

    @property
    def fingerprint(self) -> str:
        """Of weights, preprocessing and layout."""
        return f"{self.encoder.fingerprint}+grid{SIDE}"

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """As the encoder's own."""
        return self.encoder.preprocess(images)

    def encode(self, batch: Tensor) -> Features:
        """Laid out features of a preprocessed batch (B, C, H, W)."""
        patches = self.encoder.encode(batch).patches
        assert patches is not None
        pooled = adaptive_avg_pool2d(patches.movedim(-1, 1), self._shape(*patches.shape[1:3]))
        return Features(pooled.movedim(1, -1).flatten(1), None)

    @staticmethod
    def _shape(rows: int, columns: int) -> tuple[int, int]:
        return min(SIDE, rows), min(SIDE, columns)


def as_read(encoder: Encoder, features: str, flips: bool) -> Encoder:
    """The encoder as a probe reads it: averaged with its mirror image, laid out, or as it is."""
    if flips:
        encoder = Flipped(encoder)
    return LaidOut(encoder) if features == "grid" and encoder.grid is not None else encoder
