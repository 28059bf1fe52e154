"""PNG, JPEG, JPEG 2000 and TIFF to calibrated grey, the raw files of the JSRT, and mask files."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from raddino.images.codestream import Codestream, read_codestream
from raddino.images.damage import damage
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.jpeg import decode_jpeg
from raddino.images.openjpeg import decode_jpeg2000
from raddino.images.png import DEPTH, checked, deep, joined
from raddino.images.tiff import as_stored, bits_per_sample, black_is_zero
from raddino.images.types import Facts, Radiograph

LARGEST_PIXELS = 89_478_485  # Pillow's own default limit
CHANNEL_TOLERANCE = 4
GREY_MODES = {"1": 1, "L": 8, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16, "I": 32, "F": 32}
MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")
COLOUR_MODES = ("P", "PA", "LA", "RGB", "RGBA")
FLOAT_EXACT = 2**24
JSRT_SIDE, JSRT_BITS, JSRT_SPACING_MM = 2048, 12, 0.175


def read_raster(data: bytes, kind: str) -> Radiograph:
    """Decode the bytes of one image file.

    Args:
        data: the whole file.
        kind: ``"PNG"``, ``"JPEG"``, ``"JPEG2000"`` or ``"TIFF"``; no other decoder is tried.

    Raises:
        UnreadableImage: damaged, truncated, too large, of a depth that is not read, or CMYK.
        NotARadiograph: colour, or several pages.
    """
    with _guarded(kind):
        white_is_zero, data = black_is_zero(data) if kind == "TIFF" else (False, data)
        image, data, notes = _open(data, kind)
        if getattr(image, "n_frames", 1) > 1:
            raise NotARadiograph(f"{kind} with several pages")
        bits = _bits(image, data, kind)
        component = None
        if kind == "JPEG2000":
            component, bits, notes = _jpeg2000(data)
        if image.mode in GREY_MODES:
            pixels, valid = _grey(image, component)
        elif kind == "PNG" and bits == 16:
            high, low = deep(data)
            channels = joined(_upright(high), low and _upright(low))
            pixels, valid = _equal_channels(channels, 257 * CHANNEL_TOLERANCE, kind)
        elif image.mode in COLOUR_MODES:
            if bits > 8:
                bits = 8
                notes.append(f"{kind} of more than 8 bits in colour was read at 8 bits")
            channels = np.asarray(_upright(image).convert("RGBA"))
            pixels, valid = _equal_channels(channels, CHANNEL_TOLERANCE, kind)
        else:
            raise UnreadableImage(f"{kind} in {image.mode} colours")
    facts = Facts(bits_stored=bits, photometric="MONOCHROME1" if white_is_zero else None)
    return Radiograph(-pixels if white_is_zero else pixels, valid, facts, warnings=tuple(notes))


def is_jsrt(data: bytes) -> bool:
    """Whether a file is a raw image of the JSRT: 2048 x 2048 values of 12 bits in 16, big-endian, and nothing else.

    Any other format has text or numbers in its header that do not fit 12 bits.
    """
    return len(data) == 2 * JSRT_SIDE**2 and int(np.frombuffer(data, ">u2").max()) < 2**JSRT_BITS


def read_jsrt(data: bytes) -> Radiograph:
    """A raw image of the JSRT (:func:`is_jsrt`), which stores bright as low."""
    pixels = np.frombuffer(data, ">u2").reshape(JSRT_SIDE, JSRT_SIDE).astype(np.float32)
    facts = Facts(photometric="MONOCHROME1", bits_stored=JSRT_BITS, spacing_mm=(JSRT_SPACING_MM, JSRT_SPACING_MM))
    return Radiograph(-pixels, facts=facts)


def read_mask(data: bytes, kind: str) -> np.ndarray:
    """A mask's values as stored: (H, W) uint8 (a 1-bit mask gives 0 and 255) or uint16; of a GIF its greys.

    Raises:
        UnreadableImage: damaged, or not one channel of whole numbers.
    """
    with _guarded(kind):
        image, data, notes = _open(data, kind)
        if kind == "GIF":
            return _gif_greys(image)
        if image.mode not in MASK_MODES:
            raise UnreadableImage("mask is not a single channel of whole numbers")
        if kind == "JPEG2000":
            values, _, notes = _jpeg2000(data)
        else:
            values = _values(image, image)
        if notes:
            raise UnreadableImage("mask file is damaged")
    if values.dtype == np.uint8:
        return values
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImage("mask values do not fit 16 bits")
    return values.astype(np.uint16)


def _gif_greys(image: Image.Image) -> np.ndarray:
    if getattr(image, "n_frames", 1) > 1:
        raise UnreadableImage("mask is an animated GIF")
    values = np.asarray(image)
    if image.mode == "L":
        return values
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)[values]
    if np.ptp(colours, axis=-1).any():
        raise UnreadableImage("mask is a GIF in colour")
    return colours[..., 0]


@contextmanager
def _guarded(kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes into one of our errors, and keep its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(f"more than {LARGEST_PIXELS} pixels") from None
    except Exception:
        raise UnreadableImage(f"{kind} is damaged, cut short, or of a kind that is not read") from None


def _open(data: bytes, kind: str) -> tuple[Image.Image, bytes, list[str]]:
    """The image, the data that it is decoded from, and notes on damage that its decoder will not tell."""
    image: Image.Image = Image.open(io.BytesIO(data), formats=[kind])
    if image.width * image.height > LARGEST_PIXELS:
        raise UnreadableImage(f"more than {LARGEST_PIXELS} pixels")
    if kind == "PNG":
        data, notes = checked(data)
        return Image.open(io.BytesIO(data), formats=[kind]), data, notes
    if kind == "JPEG":
        data = _stream(data).data
        if image.mode == "L":
            values, notes = decode_jpeg(data)
            decoded = Image.fromarray(values)
            decoded.info = image.info  # with its EXIF data
            return decoded, data, notes
    return image, data, damage(data, kind) if kind in ("JPEG", "TIFF") else []


def _stream(data: bytes) -> Codestream:
    stream = read_codestream(data)
    if stream is None:
        raise UnreadableImage("no JPEG or JPEG 2000 data")
    return stream


def _bits(image: Image.Image, data: bytes, kind: str) -> int:
    """Bits of a channel as the file says."""
    if kind == "PNG":
        return data[DEPTH]
    return bits_per_sample(image) or GREY_MODES.get(image.mode, 8)


def _jpeg2000(data: bytes) -> tuple[np.ndarray, int, list[str]]:
    """Values (H, W) of the first component, which Pillow would spread over 16 bits, their bits, and notes on damage."""
    stream = _stream(data)
    values, notes = decode_jpeg2000(stream)
    byte = stream.precision <= 8 and not stream.signed
    return values.astype(np.uint8) if byte else values, stream.precision, notes


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF or TIFF orientation says; not at all where that is damaged."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _values(image: Image.Image, turned: Image.Image) -> np.ndarray:
    """(H, W) of one channel as stored in the file of ``image``; 1 bit gives 0 and 255."""
    return as_stored(np.asarray(turned.convert("L") if turned.mode == "1" else turned), image)


def _grey(image: Image.Image, values: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of one channel, by Pillow unless given; and the mask of those that are finite and not of the grey that
    stands for transparent, None where all are.

    Integers too large for float32 are counted from the lowest of them.
    """
    if values is None:
        values = _values(image, _upright(image))
    hidden = image.info.get("transparency")
    valid = np.asarray(values != hidden) if isinstance(hidden, int) else None
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        values, valid = np.where(finite, values, 0), None if finite.all() else finite
    elif values.itemsize == 4 and max(-int(values.min()), int(values.max())) > FLOAT_EXACT:
        values = values.astype(np.int64) - int(values.min())
    return values.astype(np.float32), valid


def _equal_channels(channels: np.ndarray, tolerance: int, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey of (H, W, 2 to 4) channels, the last of 2 or 4 being alpha, and the mask of what is not transparent."""
    colours = 1 if channels.shape[-1] == 2 else 3
    colour, alpha = channels[..., :colours].astype(np.int32), channels[..., colours:]
    if np.ptp(colour, axis=-1).max(initial=0) > tolerance:
        raise NotARadiograph(f"{kind} in colour")
    valid = np.asarray((alpha > 0).all(axis=-1))
    return colour[..., colours // 2].astype(np.float32), None if valid.all() else valid
