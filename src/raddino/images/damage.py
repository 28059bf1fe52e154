"""What the redundancy of a PNG or JPEG file says about damage; Pillow asks it for little."""

import zlib

from raddino.images.codestream import read_codestream
from raddino.images.errors import UnreadableImage
from raddino.images.jpeg import DAMAGED, jpeg_is_sound

CHUNKS_START = 8
INFLATED_PIECE = 2**20
LARGEST_PIXEL_BYTES = 8
CHECKSUM = "PNG is damaged: a checksum is wrong"


def check_png(data: bytes) -> list[str]:
    """Verify every chunk's CRC and the checksum of the compressed data; bytes after the end are no fault.

    Returns:
        a note where the end marker or the last checksum is missing.

    Raises:
        UnreadableImage: a checksum is wrong, or the compressed data breaks its rules.
    """
    view, position, ended = memoryview(data), CHUNKS_START, False
    compressed = []
    while not ended and position + 12 <= len(data):
        name, end = data[position + 4 : position + 8], position + 12 + int.from_bytes(view[position : position + 4])
        if end > len(data):
            break
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise UnreadableImage(CHECKSUM)
        if name == b"IDAT":
            compressed.append(view[position + 8 : end - 4])
        ended, position = name == b"IEND", end
    whole = _inflates(compressed, int.from_bytes(view[16:20]) * int.from_bytes(view[20:24]))
    return [] if ended and whole else ["PNG is cut short behind its last pixel"]


def check_jpeg(data: bytes) -> list[str]:
    """A note where libjpeg-turbo finds the data damaged, which Pillow does not tell; bytes after the end are no fault.

    Raises:
        UnreadableImage: the end marker is missing, or the header is damaged.
    """
    stream = read_codestream(data)
    return [] if stream is not None and jpeg_is_sound(stream.data) else [DAMAGED]


def _inflates(parts: list[memoryview], pixels: int) -> bool:
    """Whether a zlib stream of at most 8 bytes a pixel is there to its end."""
    inflater = zlib.decompressobj()
    room = pixels * LARGEST_PIXEL_BYTES * 2
    try:
        for part in parts:
            rest: bytes | memoryview = part
            while len(rest) and not inflater.eof and room > 0:
                room -= len(inflater.decompress(rest, INFLATED_PIECE))
                rest = inflater.unconsumed_tail
        if room > 0 and not inflater.eof:
            inflater.flush()
    except zlib.error:
        raise UnreadableImage(CHECKSUM) from None
    return inflater.eof
