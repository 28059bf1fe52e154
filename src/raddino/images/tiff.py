"""TIFF (revision 6) where Pillow reads less than it could, or other numbers than are stored."""

import struct

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
UNSIGNED, SIGNED = 1, 2
BLACK_IS_ZERO = 1
INTEGER_SIZES = {1: 1, 3: 2, 4: 4}
BIG_TIFF = 43


def black_is_zero(data: bytes) -> tuple[bool, bytes]:
    """Whether a TIFF is WhiteIsZero, and the file with a BlackIsZero tag in its place.

    Pillow knows WhiteIsZero for few depths, and turns some of them.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", data, 2)[0] == BIG_TIFF
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    (entries,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, start)
    step, value_at, first = (20, 12, start + 8) if big else (12, 8, start + 2)
    for entry in range(first, min(first + entries * step, len(data) - step + 1), step):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag == PHOTOMETRIC and kind in INTEGER_SIZES:
            place = slice(entry + value_at, entry + value_at + INTEGER_SIZES[kind])
            if any(data[place]):
                break
            changed = bytearray(data)
            changed[place.start if order == "<" else place.stop - 1] = BLACK_IS_ZERO
            return True, bytes(changed)
    return False, data


def as_stored(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Values (H, W) as Pillow gives them for ``image``; those that it takes for the other sign are put right."""
    sign = _tag(image, SAMPLE_FORMAT, UNSIGNED)
    if values.dtype == np.int32 and sign == UNSIGNED and bits_per_sample(image) == 32:
        return values.view(np.uint32)
    if values.dtype == np.uint8 and sign == SIGNED:
        return values.view(np.int8)
    return values


def bits_per_sample(image: Image.Image) -> int:
    """Bits of a channel; 0 where the file does not say, or is no TIFF."""
    return _tag(image, BITS_PER_SAMPLE, 0)


def _tag(image: Image.Image, number: int, default: int) -> int:
    """The first value of a tag; ``default`` where it is absent, or this is no TIFF."""
    value = image.tag_v2.get(number, default) if isinstance(image, TiffImageFile) else default
    return int(value[0] if isinstance(value, tuple) else value)
