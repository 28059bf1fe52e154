"""PNG files byte by byte (ISO/IEC 15948), for depths and faults that no library writes."""

import struct
import zlib

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def rows(pixels: np.ndarray, filter_type: int = 0) -> bytes:
    """Scan lines (H, W) or (H, W, channels) of 8 or 16 bits, each filtered by 0 none, 1 sub, 2 up."""
    raw = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">"))).view(np.uint8)
    raw = raw.reshape(len(pixels), -1)
    step = raw.shape[1] // pixels.shape[1]
    before = {
        0: np.zeros_like(raw),
        1: np.pad(raw, ((0, 0), (step, 0)))[:, :-step],
        2: np.pad(raw, ((1, 0), (0, 0)))[:-1],
    }
    return b"".join(bytes([filter_type]) + row.tobytes() for row in raw - before[filter_type])


def interlaced(pixels: np.ndarray) -> bytes:
    return b"".join(rows(pixels[y::down, x::right]) for y, x, down, right in ADAM7 if pixels[y::down, x::right].size)


def png(shape: tuple[int, ...], depth: int, colour: int, data: bytes, more: bytes = b"", interlace: int = 0) -> bytes:
    """A file of compressed ``data``, with ``more`` chunks before it."""
    header = struct.pack(">IIBBBBB", shape[1], shape[0], depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")
