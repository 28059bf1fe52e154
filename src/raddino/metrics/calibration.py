"""How far predicted probabilities can be taken at their word."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit, logsumexp

from raddino.metrics.ranking import Floats, checked, ratio

BINS = 15


def brier(target: ArrayLike, probability: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Mean squared distance of probability and outcome, 0..1, lower is better; NaN without images.

    Arguments as :func:`raddino.metrics.ranking.auroc`, with probabilities for scores.
    """
    y, p, w = checked_probability(target, probability, weights)
    return ratio(w @ (p - y) ** 2, w.sum(-1))


def expected_calibration_error(
    target: ArrayLike, probability: ArrayLike, weights: ArrayLike | None = None, bins: int = BINS
) -> Floats:
    """ECE, 0..1, over equal-width bins (lo, hi] of the positive class (Guo et al. 2017, eq. 3); NaN without images."""
    y, p, w = checked_probability(target, probability, weights)
    member = np.eye(bins)[_bin(p, bins)]  # (N, bins)
    return ratio(np.abs((w * (y - p)) @ member).sum(-1), w.sum(-1))


def reliability(target: ArrayLike, probability: ArrayLike, bins: int = BINS) -> dict[str, list[float]]:
    """Points of a reliability diagram, empty bins left out.

    Returns:
        ``probability`` (mean predicted), ``frequency`` (observed share of positives), ``n``, one entry a bin.
    """
    y, p, _ = checked_probability(target, probability, None)
    index = _bin(p, bins)
    n = np.bincount(index, minlength=bins)
    kept = n > 0
    return {
        "probability": (np.bincount(index, p, bins)[kept] / n[kept]).tolist(),
        "frequency": (np.bincount(index, y, bins)[kept] / n[kept]).tolist(),
        "n": n[kept].astype(float).tolist(),
    }


def fit_temperature(target: ArrayLike, logit: ArrayLike) -> float:
    """The T in 0.01..100 that minimises the log loss of ``expit(logit / T)`` (Guo et al. 2017, 4.2).

    Fit it on validation images only.
    """
    y, z, _ = checked(target, logit, None)

    def log_loss(log_temperature: float) -> float:
        scaled = z / np.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - y * scaled))

    span = np.log(100.0)
    return float(np.exp(minimize_scalar(log_loss, bounds=(-span, span), method="bounded").x))


def fit_softmax_temperature(target: ArrayLike, outputs: ArrayLike) -> float:
    """As :func:`fit_temperature`, of ``softmax(outputs / T)`` for positions ``target`` (N,) and outputs (N, K)."""
    z = np.asarray(outputs, dtype=np.float64)
    y = np.asarray(target, dtype=np.int64)

    def log_loss(log_temperature: float) -> float:
        scaled = z / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(y)), y]))

    span = np.log(100.0)
    return float(np.exp(minimize_scalar(log_loss, bounds=(-span, span), method="bounded").x))


def apply_temperature(logit: ArrayLike, temperature: float) -> Floats:
    """Probabilities ``expit(logit / temperature)``."""
    return expit(np.asarray(logit, dtype=np.float64) / temperature)


def _bin(probability: Floats, bins: int) -> np.ndarray:
    return np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)


def checked_probability(
    target: ArrayLike, probability: ArrayLike, weights: ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    """As :func:`raddino.metrics.ranking.checked`; ValueError where a probability lies outside 0..1."""
    y, p, w = checked(target, probability, weights)
    if len(p) and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError("a probability lies outside 0..1")
    return y, p, w
