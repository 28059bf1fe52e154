"""Text drawn into pictures, for the tests of text in pixels."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

DEJAVU = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def chestlike(side: int = 400, seed: int = 0) -> np.ndarray:
    """Two dark fields with bright bands, a bright middle, dark edges and grain: (side, side) uint8."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    grey = 150 + 60 * np.exp(-((x / 0.25) ** 2)) - 90 * np.exp(-(((np.abs(x) - 0.5) / 0.25) ** 2) - (y / 0.6) ** 2)
    grey += 12 * np.sin(22 * (y + 0.3 * x**2)) * (np.abs(x) < 0.8)
    grey[np.abs(x) > 0.93] = 8
    grey += np.random.default_rng(seed).normal(0, 3, grey.shape)
    return grey.clip(0, 255).astype(np.uint8)


def drawn(
    image: np.ndarray,
    text: str,
    at: tuple[int, int],
    size: int = 18,
    ink: int = 250,
    box: int | None = None,
    turns: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The picture with ``text`` from ``at`` (row, column) downwards, and where its ink lies, (H, W) bool."""
    font = ImageFont.truetype(str(DEJAVU), size)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    canvas = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(canvas).text((-left, -top), text, fill=255, font=font)
    mask = np.rot90(np.asarray(canvas, dtype=float) / 255, turns)
    out, inked = image.astype(float), np.zeros(image.shape, dtype=bool)
    rows, columns = slice(at[0], at[0] + mask.shape[0]), slice(at[1], at[1] + mask.shape[1])
    if box is not None:
        out[at[0] - 4 : rows.stop + 4, at[1] - 4 : columns.stop + 4] = box
    out[rows, columns] += mask * (ink - out[rows, columns])
    inked[rows, columns] = mask > 0.5
    return out.round().astype(image.dtype), inked
