"""Metrics of predicted numbers (age, weight, BMI), for one weighting of the images or for many at once."""

import numpy as np
from numpy.typing import ArrayLike

from raddino.metrics.ranking import Floats, auroc, ratio


def mae(target: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Mean absolute error in the target's unit; NaN without images.

    Args:
        target, prediction: (N,) finite.
        weights: (..., N) non-negative; None means ones.

    Raises:
        ValueError: shapes differ or a value is not finite.
    """
    y, p, w = _checked(target, prediction, weights)
    return ratio(w @ np.abs(p - y), w.sum(-1))


def r2(target: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Coefficient of determination, at most 1; NaN where the target is constant. Arguments as :func:`mae`."""
    y, p, w = _checked(target, prediction, weights)
    if not len(y):
        return np.full(w.shape[:-1], np.nan)
    y, p = y - y.mean(), p - y.mean()
    total = w.sum(-1)
    spread = w @ y**2 - ratio((w @ y) ** 2, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12 * np.maximum(w @ y**2, 1e-300), 1 - (w @ (p - y) ** 2) / spread, np.nan)


def auroc_binned(
    target: ArrayLike, prediction: ArrayLike, edges: ArrayLike, weights: ArrayLike | None = None
) -> Floats:
    """Mean over ``edges`` of the AUROC with which the prediction tells targets above the edge from the rest.

    Args:
        edges: (E,) in the target's unit, for example quartiles of the training targets; an edge with all
            targets on one side is left out of the mean.
        target, prediction, weights: as :func:`mae`.
    """
    y, p, w = _checked(target, prediction, weights)
    values = np.stack([auroc(y > edge, p, w) for edge in np.asarray(edges, dtype=np.float64)])
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(0) / np.where(defined.any(0), defined.sum(0), np.nan)


def _checked(target: ArrayLike, prediction: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    y, p = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape or w.shape[-1:] != y.shape:
        raise ValueError(f"target {y.shape}, prediction {p.shape} and weights {w.shape} do not belong together")
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise ValueError("a target or a prediction is not finite")
    return y, p, w
