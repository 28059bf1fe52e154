"""A corpus on a plane."""

from __future__ import annotations

import numpy as np


def plane(features: np.ndarray) -> np.ndarray:
    """The first two principal components of features.

    Args:
        features: (N, D).

    Returns:
        (N, 2) float32, each component's sign such that its largest loading is positive; 0 where there is no spread.
    """
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    top = directions[:, ::-1][:, :2]
    top = top * np.sign(np.take_along_axis(top, np.abs(top).argmax(0)[None], axis=0))
    flat = np.zeros((len(centred), 2), np.float32)
    flat[:, : top.shape[1]] = centred @ top
    return flat
