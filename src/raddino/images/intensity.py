"""Calibrated pixels to the grey form of a corpus: square pixels, shorter side, min-max; never clipped."""

import numpy as np

from raddino.images.errors import UnreadableImage
from raddino.images.types import Radiograph

LARGEST_PIXEL_RATIO = 4.0


def to_grey(radiograph: Radiograph, shorter_side: int | None = None, bits: int = 8) -> np.ndarray:
    """RAD-DINO's preparation but for the kernel: resize, then min-max over valid pixels.

    Where RAD-DINO resized by B-splines, this is antialiased bicubic, a = -0.5 (:data:`raddino.views.crop.BICUBIC`).

    Args:
        radiograph: a read image (H, W).
        shorter_side: target of the shorter side in pixels; an image is never enlarged. None keeps the size.
        bits: 8 or 16.

    Returns:
        (H', W') uint8 or uint16; the darkest valid pixel is 0, the brightest ``2**bits - 1``, padding is 0.

    Raises:
        UnreadableImage: all valid pixels are equal, or none is valid.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, not {bits}")
    pixels, valid = radiograph.pixels, radiograph.valid
    shape = target_shape(pixels.shape, radiograph.facts.spacing_mm, shorter_side)
    if valid is not None and not valid.any():
        raise UnreadableImage("every pixel is padding")
    if shape != pixels.shape:
        if valid is not None:
            pixels = np.where(valid, pixels, pixels[valid].min())
            valid = resize_nearest(valid, shape)
        pixels = _resize_bicubic(pixels, shape)
    seen = pixels if valid is None else pixels[valid]
    low, high = float(seen.min()), float(seen.max())
    if low == high:
        raise UnreadableImage("constant image: all pixels are equal")
    top = 2**bits - 1
    scaled = (pixels.astype(np.float64) - low) * top / (high - low)
    # Ties round the same way in stored polarity: MONOCHROME1 is then the exact inverse of MONOCHROME2.
    inverted = radiograph.facts.photometric == "MONOCHROME1"
    grey = np.ceil(scaled - 0.5) if inverted else np.floor(scaled + 0.5)
    if valid is not None:
        grey[~valid] = 0
    return grey.astype(np.uint8 if bits == 8 else np.uint16)


def target_shape(
    shape: tuple[int, ...], spacing_mm: tuple[float, float] | None, shorter_side: int | None
) -> tuple[int, int]:
    """(H', W') with square pixels and the shorter side at most ``shorter_side``; no axis grows.

    A spacing whose ratio exceeds 4 is taken for a mistake and left alone.
    """
    height, width = float(shape[0]), float(shape[1])
    if spacing_mm is not None:
        coarse, fine = max(spacing_mm), min(spacing_mm)
        if coarse / fine <= LARGEST_PIXEL_RATIO:
            height, width = height * spacing_mm[0] / coarse, width * spacing_mm[1] / coarse
    if shorter_side is not None and min(height, width) > shorter_side:
        scale = shorter_side / min(height, width)
        height, width = height * scale, width * scale
    return max(1, round(height)), max(1, round(width))


def resize_nearest(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) to ``shape`` by the value at each new pixel's centre; keeps masks and bit fields exact."""
    sizes = zip(shape, array.shape, strict=True)
    rows, columns = (((np.arange(new) + 0.5) * (old / new)).astype(int) for new, old in sizes)
    return array[np.ix_(rows, columns)]


def _resize_bicubic(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Antialiased bicubic, Keys' cubic convolution with a = -0.5 that widens with the reduction; float32, unclipped."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))
