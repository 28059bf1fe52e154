"""PNG, JPEG and TIFF to calibrated grey, by Pillow, the raw files of the JSRT, and mask files."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from raddino.images.damage import damage
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.jpeg import decode_jpeg
from raddino.images.types import Facts, Radiograph

LARGEST_PIXELS = 89_478_485  # Pillow's own default limit
CHANNEL_TOLERANCE = 4
GREY_MODES = {"1": 1, "L": 8, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16, "I": 32, "F": 32}
MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")
COLOUR_MODES = ("P", "PA", "LA", "RGB", "RGBA")
JSRT_SIDE, JSRT_BITS, JSRT_SPACING_MM = 2048, 12, 0.175


def read_raster(data: bytes, kind: str) -> Radiograph:
    """Decode the bytes of one image file.

    Args:
        data: the whole file.
        kind: ``"PNG"``, ``"JPEG"`` or ``"TIFF"``; no other decoder is tried.

    Raises:
        UnreadableImage: damaged, truncated, too large, or CMYK.
        NotARadiograph: colour, or several pages.
    """
    with _guarded(kind):
        image = _open(data, kind)
        notes = ["16-bit colour PNG read at 8 bits"] if kind == "PNG" and data[24] == 16 and data[25] else []
        if getattr(image, "n_frames", 1) > 1:
            raise NotARadiograph(f"{kind} with several pages")
        white_is_zero = image.mode not in ("1", "L") and _tag(image, 262) == 0
        facts = Facts(bits_stored=GREY_MODES.get(image.mode, 8))
        if kind == "JPEG" and image.mode == "L":
            values, damaged = decode_jpeg(data)
            about, image = image.info, Image.fromarray(values)
            image.info = about  # says which side is up
        else:
            damaged = damage(data, kind)
        pixels, valid = _grey(ImageOps.exif_transpose(image), kind)
    finite = np.isfinite(pixels)
    if not finite.all():
        valid = finite if valid is None else valid & finite
        pixels = np.where(finite, pixels, 0)
    return Radiograph(-pixels if white_is_zero else pixels, valid, facts, warnings=(*notes, *damaged))


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
        image = _open(data, kind)
        if kind == "GIF":
            return _gif_greys(image)
        if image.mode not in MASK_MODES:
            raise UnreadableImage("mask is not a single channel of whole numbers")
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
        if damage(data, kind):
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
        raise UnreadableImage(f"{kind} is damaged or truncated") from None


def _open(data: bytes, kind: str) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=[kind])
    if image.width * image.height > LARGEST_PIXELS:
        raise UnreadableImage(f"more than {LARGEST_PIXELS} pixels")
    return image


def _tag(image: Image.Image, number: int) -> object:
    """A TIFF tag's value; None when it is absent, or this is no TIFF."""
    return image.tag_v2.get(number) if isinstance(image, TiffImageFile) else None


def _grey(image: Image.Image, kind: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and, where there is an alpha channel with holes, the mask of what is not transparent."""
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in GREY_MODES:
        return np.asarray(image).astype(np.float32), None
    if image.mode not in COLOUR_MODES:
        raise UnreadableImage(f"{kind} in {image.mode} colours")
    channels = np.asarray(image.convert("RGBA")).astype(np.int16)
    colour, alpha = channels[..., :3], channels[..., 3]
    if np.ptp(colour, axis=-1).max(initial=0) > CHANNEL_TOLERANCE:
        raise NotARadiograph(f"{kind} in colour")
    valid = alpha > 0
    return colour[..., 1].astype(np.float32), None if valid.all() else valid
