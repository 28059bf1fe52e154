"""Pictures of which no two are alike."""

import numpy as np
from scipy.ndimage import gaussian_filter


def picture(seed: int, shape: tuple[int, int] = (240, 200)) -> np.ndarray:
    """Smooth clouds and grain (H, W) uint8."""
    rng = np.random.default_rng(seed)
    clouds = gaussian_filter(rng.normal(size=shape), min(shape) / 17) * min(shape) / 5 + rng.normal(0, 0.05, shape)
    return np.round(255 * (clouds - clouds.min()) / np.ptp(clouds)).astype(np.uint8)
