"""Keys' cubic convolution, written out."""

import numpy as np


def keys(old: int, new: int, a: float) -> np.ndarray:
    """(new, old) weights of antialiased cubic convolution along one axis."""
    step = old / new
    x = np.abs((np.arange(old) + 0.5 - (np.arange(new)[:, None] + 0.5) * step) / max(step, 1))
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)
