"""From path integrals to a picture: scatter, blur, quantum noise, logarithm, tone, blades and markers."""

from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from scipy.fft import irfft2
from scipy.ndimage import gaussian_filter

from raddino.sample.projection import Array

LINE_PERIOD = 2.0


@dataclass(frozen=True)
class Exposure:
    """Technique and processing of one image.

    Args:
        scatter: strength of scattered radiation that passes the grid.
        photons: photons per cm^2 of open beam for a patient who lets 15 % through.
        blur: focal spot and detector unsharpness, sigma in cm.
        lung, mediastinum: grey levels (0 to 1) at which both are shown.
        equalise: share of the large-scale contrast that processing takes out.
        sharpen: share of fine detail that processing adds.
        black: share of the open air's grey level that is subtracted.
        collimation: left, top, right, bottom borders as shares of the image.
        tilt: rotation of the collimator, radians.
        marker: letters of the side marker.
        marker_at: its centre as shares (x, y) of the image.
        note: a second line, such as PORTABLE.
        seed: of the noise.
        gamma: exponent of the grey levels.
        lines: amplitude of horizontal lines that the read-out leaves, as a share of the grey level.
    """

    scatter: float
    photons: float
    blur: float
    lung: float
    mediastinum: float
    equalise: float
    sharpen: float
    black: float
    collimation: tuple[float, float, float, float]
    tilt: float
    marker: str
    marker_at: tuple[float, float]
    note: str
    seed: tuple[int, ...]
    gamma: float = 1.0
    lines: float = 0.0


def cloud(size: int, power: float, rng: np.random.Generator, cut: float = 0.0) -> Array:
    """Unit-variance random field (size, size); its power falls as frequency^-power above ``cut`` cycles.

    Drawn at half the resolution: there is next to nothing in the upper octave.
    """
    half = -(-size // 2)
    fy, fx = np.fft.fftfreq(half, 1 / half), np.fft.rfftfreq(half, 1 / half)
    f2 = (fy[:, None] ** 2 + fx[None] ** 2 + 1.0 + cut * cut).astype(np.float32)
    shape = f2 ** np.float32(-power / 4)
    shape[0, 0] = 0
    wave = rng.standard_normal((2, *shape.shape), dtype=np.float32) * shape
    field = irfft2(wave[0] + 1j * wave[1], s=(half, half)).astype(np.float32)
    field /= field.std()
    return np.asarray(Picture.fromarray(field).resize((size, size), Picture.Resampling.BICUBIC))


def low_pass(image: Array, sigma: float) -> Array:
    """Gaussian blur by ``sigma`` pixels, computed on a coarser grid where it is wide."""
    height, width = image.shape
    step = max(1, min(min(image.shape) // 16, int(sigma / 1.6)))
    if step == 1:
        return gaussian_filter(image, sigma, mode="nearest", truncate=3)
    coarse = (-(-width // step), -(-height // step))
    small = np.asarray(Picture.fromarray(image).resize(coarse, Picture.Resampling.BOX))
    small = gaussian_filter(small, sigma * coarse[0] / width, mode="nearest", truncate=3)
    return np.asarray(Picture.fromarray(small).resize((width, height), Picture.Resampling.BICUBIC))


def expose(path: Array, exposure: Exposure, pitch: float) -> Array:
    """Attenuation as the detector sees it, -log of the relative signal (H, W).

    Quantum noise arises before the scintillator's blur, which correlates it. Automatic exposure control gives
    dense patients more radiation, up to eightfold.

    Args:
        path: line integral of attenuation along each ray (H, W).
        exposure: technique.
        pitch: pixel, cm.
    """
    rng = np.random.default_rng(exposure.seed)
    primary = np.exp(-path)
    scattered = low_pass(primary * (1 - np.exp(-3 * path)), 4.5 / pitch)
    signal = primary + np.float32(exposure.scatter) * np.maximum(scattered, 0)
    middle = signal[_inner(signal)]
    photons = exposure.photons * pitch * pitch * min(8.0, 0.15 / float(middle.mean()))
    noise = rng.standard_normal(path.shape, dtype=np.float32)
    signal += noise * np.sqrt(signal / np.float32(photons))
    signal = gaussian_filter(signal, exposure.blur / pitch, mode="nearest", truncate=3)
    return -np.log(np.maximum(signal, 2e-4))


def _inner(image: Array) -> tuple[slice, slice]:
    """Every third pixel of the middle of an image, where exposure and window are measured."""
    size = image.shape[0]
    part = slice(int(0.15 * size), int(0.85 * size), 3)
    return part, part


def tone(seen: Array, exposure: Exposure, pitch: float) -> Array:
    """Grey levels (H, W) in [0, 1]: equalisation, sharpening and a sigmoid window (PS3.3 C.11.2.1.3.1)."""
    clear, dense = np.percentile(seen[_inner(seen)], [14, 80]).tolist()
    wide = low_pass(seen, 3.0 / pitch)
    fine = seen - low_pass(seen, 0.25 / pitch)
    middle = (clear + dense) / 2
    seen = seen + np.float32(exposure.sharpen) * fine - np.float32(exposure.equalise) * (wide - np.float32(middle))
    contrast = 1 - exposure.equalise * 0.6
    low, high = (np.log(level / (1 - level)) for level in (exposure.lung, exposure.mediastinum))
    slope = (high - low) / max((dense - clear) * contrast, 0.2)
    grey = 1 / (1 + np.exp(np.float32(slope * middle - (low + high) / 2) - np.float32(slope) * seen))
    air = 1 / (1 + np.exp(slope * (middle + 0.3) - (low + high) / 2))
    floor = float(exposure.black * air)
    return np.clip((grey - floor) / (0.97 - floor), 0, 1).astype(np.float32)


def read_out(grey: Array, exposure: Exposure, pitch: float) -> Array:
    """Grey levels with the detector's gamma and lines, which are :data:`LINE_PERIOD` cm apart."""
    if exposure.gamma != 1:
        grey = grey ** np.float32(exposure.gamma)
    if exposure.lines:
        y = np.arange(grey.shape[0], dtype=np.float32)[:, None] * np.float32(pitch)
        grey = grey * (1 + np.float32(exposure.lines) * np.sin(2 * np.pi * y / np.float32(LINE_PERIOD)))
    return np.clip(grey, 0, 1)


def collimate(grey: Array, exposure: Exposure) -> Array:
    """Black out what the collimator's blades cover."""
    if max(exposure.collimation) <= 0:
        return grey
    size = grey.shape[0]
    at = np.linspace(0, 1, size, dtype=np.float32)
    x, y = at[None] + exposure.tilt * (at[:, None] - 0.5), at[:, None] - exposure.tilt * (at[None] - 0.5)
    left, top, right, bottom = exposure.collimation
    edge = np.float32(size / 3)
    inside = np.minimum(np.minimum(x - left, 1 - right - x), np.minimum(y - top, 1 - bottom - y))
    return grey * np.clip(inside * edge + 1, 0.02, 1)


def mark(grey: Array, exposure: Exposure) -> Array:
    """Lay the side marker and the note over the picture, as lead letters and burnt-in text."""
    size = grey.shape[0]
    layer = Picture.new("L", (size, size))
    pen = ImageDraw.Draw(layer)
    x, y = exposure.marker_at[0] * size, exposure.marker_at[1] * size
    for dy, text, height in ((0.0, exposure.marker, 0.055), (0.05 * size, exposure.note, 0.021)):
        font = ImageFont.load_default(max(6.0, height * size))
        pen.text((x, y + dy), text, fill=245, anchor="mm", font=font)
    return np.maximum(grey, np.asarray(layer, dtype=np.float32) / 255 * 0.98)
