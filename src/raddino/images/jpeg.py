"""JPEG, and whether its data holds together: by libjpeg-turbo, which says when entropy-coded data does not fit."""

from __future__ import annotations

import io
import struct

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
    try:
        values = simplejpeg.decode_jpeg(data, "GRAY")[..., 0]
    except ValueError:
        return np.asarray(Image.open(io.BytesIO(data), formats=["JPEG"]).convert("L")), [DAMAGED]
    return values, [] if _fits(data) else [DAMAGED]


def jpeg_is_sound(data: bytes) -> bool:
    """Whether libjpeg-turbo decodes a JPEG file without a warning, and its entropy-coded data fits its picture.

    Altered bytes set the Huffman decoder off its track, mostly for a few codes; blocks are then lost or gained, or keep
    a wrong mean to the end. A wrong mean within the range of a pixel, and anything within one block, cannot be noticed.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=BLOCK)
    except ValueError:
        return False
    return _fits(data)


def _fits(data: bytes) -> bool:
    """Whether the last byte is missed when it is taken away, and no block's mean lies outside the range of a pixel.

    libjpeg-turbo never says that it did not need the last eight bytes: the picture was then complete before.
    """
    data, share = _dimmed(data[: data.rfind(JPEG_END)].rstrip(b"\xff"))
    shorter = data[:-2] if data.endswith(b"\xff\x00") else data[:-1]
    rows, columns = next(
        struct.unpack(">HH", data[at + 1 : at + 5]) for marker, at in jpeg_segments(data) if marker in METHODS
    )
    means = np.full((-(-rows // BLOCK), -(-columns // BLOCK)), MIDDLE, np.uint8)
    try:
        simplejpeg.decode_jpeg(
            shorter + JPEG_END, "GRAY", min_height=1, min_width=1, min_factor=BLOCK, buffer=means.reshape(-1)
        )
    except ValueError:
        means[-2:, -4:] = MIDDLE  # blocks that the last byte may have held
        return share == 1 or bool(np.abs(means.astype(np.int16) - MIDDLE).max() <= MIDDLE * share + SLACK)
    return False


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
