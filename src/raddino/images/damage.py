"""Damage of JPEG and TIFF files that their decoders pass over: checksums, and data that does not fit its picture."""

import io
import zlib

from PIL.TiffImagePlugin import TiffImageFile
from rle.rle import decode_segment

from raddino.images.jpeg import DAMAGED as JPEG_DAMAGED
from raddino.images.jpeg import jpeg_is_sound

TIFF_DAMAGED = "TIFF data looks damaged: part of the picture may be wrong"
BITS, COMPRESSION, STRIPS, ROWS, SIZES, TABLES = 258, 259, 273, 278, 279, 347
JPEG_IN_TIFF, DEFLATE, PACKBITS = 7, (8, 32946), 32773


def damage(data: bytes, kind: str) -> list[str]:
    """Notes on a file that has been decoded.

    What cannot be noticed: altered values in an uncompressed TIFF, and in one compressed by LZW whatever leaves the
    number of values as it is.

    Args:
        data: the whole file.
        kind: ``"JPEG"`` or ``"TIFF"``.
    """
    check, note = {"JPEG": (jpeg_is_sound, JPEG_DAMAGED), "TIFF": (_tiff_is_sound, TIFF_DAMAGED)}[kind]
    try:
        return [] if check(data) else [note]
    except Exception:
        return [note]


def _tiff_is_sound(data: bytes) -> bool:
    """Whether strips by PackBits or Deflate give their rows exactly, and strips by JPEG are sound."""
    with TiffImageFile(io.BytesIO(data)) as image:
        tags, height = image.tag_v2, image.height
        row = (image.width * tags.get(BITS, (1,))[0] + 7) // 8
    compression, tables = tags.get(COMPRESSION), tags.get(TABLES, b"")
    if STRIPS not in tags or len(image.getbands()) > 1:
        return True
    rows = min(int(tags.get(ROWS, height)), height)
    for number, (start, size) in enumerate(zip(tags[STRIPS], tags[SIZES], strict=True)):
        strip, expected = data[start : start + size], row * min(rows, height - number * rows)
        if compression == PACKBITS and len(decode_segment(strip)) != expected:
            return False
        if compression in DEFLATE and not _inflates(strip, expected):
            return False
        if compression == JPEG_IN_TIFF and not jpeg_is_sound(tables[:-2] + strip[2:] if tables else strip):
            return False
    return True


def _inflates(data: bytes, size: int) -> bool:
    """Whether a zlib stream has this size and its checksum."""
    stream = zlib.decompressobj()
    return len(stream.decompress(data, size + 1)) == size and stream.eof
