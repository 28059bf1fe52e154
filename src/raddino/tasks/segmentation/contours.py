"""Outlines of masks drawn on their image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion

PALETTE = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (255, 255, 255),
)  # fmt: skip
"""RGB, told apart by colour-blind eyes (Okabe and Ito 2008), with white for its black; used in turn."""
THICKNESS = 1 / 300
"""Of the shorter side; at least one pixel."""


def draw_contours(image: np.ndarray, bits: np.ndarray, classes: int) -> np.ndarray:
    """The image with the inner border of every class, in the colour of its position in :data:`PALETTE`.

    Args:
        image: grey (H, W), uint8 or uint16.
        bits: (H, W), bit c for class c.
        classes: how many.

    Returns:
        (H, W, 3) uint8.
    """
    grey = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    drawn = np.repeat(grey[..., None], 3, axis=2)
    width = max(1, round(THICKNESS * min(image.shape)))
    for position in range(classes):
        mask = (bits >> position & 1).astype(bool)
        drawn[mask & ~binary_erosion(mask, iterations=width)] = PALETTE[position % len(PALETTE)]
    return drawn
