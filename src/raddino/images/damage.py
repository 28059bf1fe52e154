"""What the redundancy of a PNG, JPEG or JPEG 2000 file says about damage; Pillow asks it for little."""

import zlib

from raddino.images.codestream import jpeg2000_is_sound, jpeg2000_shape
from raddino.images.errors import UnreadableImage

CHUNKS_START = 8
INFLATED_PIECE = 2**20
LARGEST_PIXEL_BYTES = 8
DAMAGED = "{} data looks damaged: part of the picture may be wrong"
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
    """A note where libjpeg warns on decoding, which Pillow does not hear."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True)
    except ValueError:
        return [DAMAGED.format("JPEG")]
    return []


def check_jpeg2000(data: bytes) -> list[str]:
    """A note where the coding passes do not use up their bytes, or that cannot be told.

    Raises:
        UnreadableImage: the codestream has no header, or ends early.
    """
    jpeg2000_shape(data)
    sound = jpeg2000_is_sound(data)
    if sound is None:
        return ["JPEG 2000 data could not be checked for damage on this platform"]
    return [] if sound else [DAMAGED.format("JPEG 2000")]


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
