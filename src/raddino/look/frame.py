"""Where on an image the patch grid of an encoder lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raddino.encoders.base import Encoder


@dataclass(frozen=True)
class Frame:
    """A rectangle in pixels of the image; parts outside of it are zeros that the encoder was shown."""

    top: float
    left: float
    height: float
    width: float


def frame(encoder: Encoder, shape: tuple[int, int]) -> Frame:
    """What of an image (height, width) the encoder's grid covers, edge to edge.

    An encoder without a preparation squeezes the whole image.
    """
    preparation = getattr(encoder, "preparation", None)
    if preparation is None:
        return Frame(0.0, 0.0, float(shape[0]), float(shape[1]))
    covered = getattr(encoder, "covered", None) or preparation.size
    parts = [
        (start * length / resized, seen * length / resized)
        for length, resized, start, seen in zip(shape, *preparation.placed(shape), covered, strict=True)
    ]
    return Frame(parts[0][0], parts[1][0], parts[0][1], parts[1][1])
