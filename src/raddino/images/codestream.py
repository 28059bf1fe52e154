"""What a compressed picture inside DICOM says of itself, read before a decoder sees it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from raddino.images.errors import UnreadableImage

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
J2K_START, JP2_START = b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
J2K_TILE_PART, J2K_END = 0xFF90, 0xFFD9
METHODS = {0xC0: "jpeg", 0xC1: "jpeg", 0xC2: "jpeg", 0xC3: "jpeg-lossless", 0xF7: "jpeg-ls"}
OTHER_FRAMES = (*range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # hierarchical, arithmetic
SCAN = 0xDA
RLE_HEADER = 64


@dataclass(frozen=True)
class Codestream:
    """A compressed picture and what its header says.

    Attributes:
        data: the stream itself, without a wrapping and without bytes after its end.
        method: ``"jpeg"`` (DCT), ``"jpeg-lossless"``, ``"jpeg-ls"`` or ``"jpeg-2000"``.
        rows: height in pixels.
        columns: width in pixels.
        components: 1 for grey.
        precision: bits of a value.
        signed: whether values are; None where the method does not say.
    """

    data: bytes
    method: str
    rows: int
    columns: int
    components: int
    precision: int
    signed: bool | None = None


def read_codestream(stream: bytes) -> Codestream | None:
    """The header of a JPEG, JPEG-LS or JPEG 2000 stream (also one wrapped as JP2); None where it is another thing.

    Raises:
        UnreadableImage: its header is damaged, its end is missing, or its kind of JPEG is decoded nowhere.
    """
    if stream.startswith(JPEG_START):
        return _jpeg(stream)
    if stream.startswith((J2K_START, JP2_START)):
        return _jpeg2000(stream[max(stream.find(J2K_START), 0) :])
    return None


def _jpeg(stream: bytes) -> Codestream:
    """ITU-T T.81 Annex B and T.87 Annex C: segments up to the first scan, and an end marker after it."""
    frame: tuple[int, int, int, int, int] | None = None
    position = 0
    for marker, position in jpeg_segments(stream):
        if marker in OTHER_FRAMES:
            raise UnreadableImage("hierarchical or arithmetic JPEG")
        if marker in METHODS and frame is None and position + 6 <= len(stream):
            frame = (marker, *struct.unpack(">BHHB", stream[position : position + 6]))
    if frame is None:
        raise UnreadableImage("JPEG stream has no frame header")
    end = stream.find(JPEG_END, position)
    if end < 0:
        raise UnreadableImage("JPEG stream is cut short")
    marker, precision, rows, columns, components = frame
    return Codestream(stream[: end + 2], METHODS[marker], rows, columns, components, precision)


def jpeg_segments(stream: bytes) -> Iterator[tuple[int, int]]:
    """Marker and position of the content of each segment, to the first scan's."""
    position, marker = 2, 0
    while position + 4 <= len(stream) and stream[position] == 0xFF and marker != SCAN:
        marker, length = stream[position + 1], int.from_bytes(stream[position + 2 : position + 4], "big")
        if marker != 0xFF:
            yield marker, position + 4
        position += 1 if marker == 0xFF else 2 + length


def _jpeg2000(stream: bytes) -> Codestream:
    """ISO 15444-1 Annex A, every tile part of which is there."""
    if not stream.startswith(J2K_START) or len(stream) < 48:
        raise UnreadableImage("JPEG 2000 stream has no header")
    right, bottom, left, top = struct.unpack(">4I", stream[8:24])
    (components,) = struct.unpack(">H", stream[40:42])
    depth, *steps = stream[42:45]
    position = find_segment(stream, J2K_TILE_PART)
    while stream[position : position + 2] == struct.pack(">H", J2K_TILE_PART):
        (length,) = struct.unpack(">I", stream[position + 6 : position + 10].rjust(4, b"\0"))
        position = position + length if length else stream.rfind(JPEG_END)
    if stream[position : position + 2] != struct.pack(">H", J2K_END):
        raise UnreadableImage("JPEG 2000 stream is cut short")
    if steps != [1, 1]:
        raise UnreadableImage("JPEG 2000 stream of spread samples")
    data, rows, columns = stream[: position + 2], bottom - top, right - left
    return Codestream(data, "jpeg-2000", rows, columns, components, (depth & 0x7F) + 1, signed=depth > 0x7F)


def find_segment(stream: bytes, marker: int) -> int:
    """Position of a marker segment in a JPEG 2000 main header, stepping over the segments before it.

    Raises:
        UnreadableImage: there is none.
    """
    position = 2
    while position + 4 <= len(stream):
        found, length = struct.unpack(">HH", stream[position : position + 4])
        if found == marker:
            return position
        if found == J2K_TILE_PART or found < 0xFF00 or length < 2:
            break
        position += 2 + length
    raise UnreadableImage("JPEG 2000 header is damaged")


def rle_segments(stream: bytes, count: int) -> list[bytes]:
    """The segments of an RLE frame (PS3.5 Annex G): one a byte of a value, the highest byte first.

    Raises:
        UnreadableImage: another number of segments, or places that are not in order inside the frame.
    """
    if len(stream) <= RLE_HEADER:
        raise UnreadableImage("RLE frame is cut short")
    segments, *places = (int(value) for value in np.frombuffer(stream[:RLE_HEADER], "<u4"))
    if segments != count:
        raise UnreadableImage("RLE frame has another number of segments than its values have bytes")
    bounds = [*places[:count], len(stream)]
    if bounds[0] != RLE_HEADER or any(first >= last for first, last in pairwise(bounds)):
        raise UnreadableImage("RLE header is damaged")
    return [stream[first:last] for first, last in pairwise(bounds)]
