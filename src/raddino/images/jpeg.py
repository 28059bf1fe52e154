"""JPEG, and whether its data holds together: by libjpeg-turbo, which says when entropy-coded data does not fit."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image

from raddino.images.codestream import JPEG_END, METHODS, jpeg_segments

DAMAGED = "JPEG data looks damaged: part of the picture may be wrong"
QUANTIZATION, TABLE = 0xDB, 65
BLOCK, MIDDLE = 8, 128
DIMMED, SLACK = 4, 2


def decode_jpeg(data: bytes) -> tuple[np.ndarray, list[str]]:
    """A grey picture of 8 bits, (H, W) uint8, and a note where it looks damaged.

    Raises:
        Exception: of many kinds, where Pillow gives no picture.
    """
    values = np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("L"))
    return values, [] if jpeg_is_sound(data) else [DAMAGED]


def jpeg_is_sound(data: bytes) -> bool:
    """Whether a JPEG file's entropy-coded data fits its picture.

    Altered bytes set the Huffman decoder off its track, mostly for a few codes; blocks are then lost or gained, or keep
    a wrong mean to the end. So libjpeg-turbo must decode the data without a warning, it must miss the last byte when
    that is taken away (else the picture was complete before), and no block's mean may lie outside the range of a pixel.
    A wrong mean within the range, and anything within one block, cannot be noticed.
    """
    data = data[: data.rfind(JPEG_END)]
    body = data.rstrip(b"\xff")
    shorter = body[:-2] if body.endswith(b"\xff\x00") else body[:-1]
    copy, share = _dimmed(data + JPEG_END)
    means = _means(copy)
    if means is None or _means(shorter + JPEG_END) is not None:
        return False
    return share == 1 or bool(np.abs(means.astype(np.int16) - MIDDLE).max() <= MIDDLE * share + SLACK)


def _means(data: bytes) -> np.ndarray | None:
    """The mean of each block (H / 8, W / 8) uint8; None when libjpeg-turbo complains."""
    try:
        return simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=BLOCK)
    except ValueError:
        return None


def _dimmed(data: bytes) -> tuple[bytes, float]:
    """A copy whose blocks have a fraction of their mean, and the fraction: means beyond the range are not clipped."""
    segments = list(jpeg_segments(data))
    used = next((data[at + 8] for marker, at in segments if marker in METHODS and at + 9 <= len(data)), None)
    copy, share = bytearray(data), 1.0
    for marker, at in segments:
        end = min(at - 2 + int.from_bytes(data[at - 2 : at], "big"), len(data))
        while marker == QUANTIZATION and at + TABLE <= end and data[at] < 16:
            if data[at] == used and data[at + 1] > 0:
                copy[at + 1] = max(1, data[at + 1] // DIMMED)
                share = copy[at + 1] / data[at + 1]
            at += TABLE
    return bytes(copy), share
