"""PNG (ISO/IEC 15948) where Pillow checks less than it could, or gives fewer bits than are stored."""

import io
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from raddino.images.errors import UnreadableImage

START, DEPTH, COLOUR, HEADER_END = 8, 24, 25, 33
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
GREY_ALPHA, RGBA = 4, 6
LOW_BYTES = {"RGB": "RGB;16L", "RGBA": "RGBA;16L"}
CUT = "PNG is cut short behind its last pixel"
EXCESS = "PNG holds more data than its picture: part of the picture may be wrong"


def checked(data: bytes) -> tuple[bytes, list[str]]:
    """Verify the checksums of all chunks and of the compressed data, which Pillow does not; bytes behind the end are
    no fault.

    Returns:
        the file with its data stored uncompressed, so that nothing is inflated twice, or as it came where it holds
        less or more than its picture; and notes where the end marker or the last checksum is missing, or data is left.

    Raises:
        UnreadableImage: a checksum is wrong.
    """
    chunks = list(_chunks(data))
    parts = [(start, end) for name, start, end in chunks if name == b"IDAT"]
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    row = (width * data[DEPTH] * CHANNELS.get(data[COLOUR], 4) + 7) // 8
    inflater = zlib.decompressobj()
    try:
        pixels = inflater.decompress(b"".join(data[start + 8 : end - 4] for start, end in parts), height * (row + 8))
    except zlib.error:
        raise UnreadableImage("PNG is damaged: a checksum is wrong") from None
    left = bool(inflater.unconsumed_tail)
    notes = [EXCESS] * left
    if chunks[-1][0] != b"IEND" or not (inflater.eof or left):
        notes.append(CUT)
    if not inflater.eof:
        return data, notes
    whole = (data[: parts[0][0]], *_chunk(b"IDAT", zlib.compress(pixels, 0)), data[parts[-1][1] :])
    return b"".join(whole), notes


def deep(data: bytes) -> tuple[Image.Image, Image.Image | None]:
    """What a 16-bit PNG in colour or with alpha is read from, where Pillow keeps 8 bits: see :func:`joined`.

    Grey with alpha has the same bytes as 8-bit RGBA, so it is read as that. RGB is read twice, the second time as if
    its bytes were swapped.
    """
    if data[COLOUR] == GREY_ALPHA:
        header = data[16:DEPTH] + bytes([8, RGBA]) + data[26:29]
        data = b"".join((data[:START], *_chunk(b"IHDR", header), data[HEADER_END:]))
        return Image.open(io.BytesIO(data), formats=["PNG"]), None
    high, low = (Image.open(io.BytesIO(data), formats=["PNG"]) for _ in range(2))
    low.tile = [tile._replace(args=LOW_BYTES[low.mode]) for tile in low.tile]
    return high, low


def joined(high: Image.Image, low: Image.Image | None) -> np.ndarray:
    """(H, W, channels) uint16 of the images of :func:`deep`, decoded and turned as they may be."""
    if low is None:
        return np.ascontiguousarray(high).view(">u2")
    return np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each whole chunk, up to the end marker's."""
    view, start, name = memoryview(data), START, b""
    while name != b"IEND" and start + 12 <= len(data):
        name, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(view[start : start + 4])
        if end > len(data):
            return
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise UnreadableImage("PNG is damaged: a checksum is wrong")
        yield name, start, end
        start = end


def _chunk(name: bytes, body: bytes) -> tuple[bytes, ...]:
    """Parts of a chunk, to be joined."""
    return len(body).to_bytes(4), name, body, zlib.crc32(body, zlib.crc32(name)).to_bytes(4)
