"""Calibration in the large, Cox's calibration intercept and slope, and what recalibrates at a new site."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from raddino.metrics.ranking import Floats, checked, ratio

STEPS = 100
TOLERANCE = 1e-10
FOLDS = 5
"""Of the cross-fitted recalibration: four fifths of the patients recalibrate the other fifth."""

Recalibrate = Callable[[Floats, Floats], tuple[float, float]]
"""From targets and logits to the intercept and slope of a map of logits."""


def in_the_large(target: ArrayLike, probability: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Observed share of positives minus mean probability, -1..1, 0 where the mean risk is right; NaN without images.

    Arguments as :func:`raddino.metrics.ranking.auroc`, with probabilities for scores.
    """
    y, p, w = checked(target, probability, weights)
    return ratio(w @ (y - p), w.sum(-1))


def calibration_intercept(target: ArrayLike, logit: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The a of ``P(y) = expit(a + logit)`` by maximum likelihood (Cox 1958; Van Calster et al. 2019).

    0 where the mean risk is right, below 0 where risks are too high. NaN without both classes.

    Arguments as :func:`raddino.metrics.ranking.auroc`.
    """
    y, z, w = checked(target, logit, weights)
    positives, all_of = w @ y, w.sum(-1)
    defined = (positives > 0) & (positives < all_of)
    reach = np.abs(z).max(initial=0) + 40
    low, high = (np.full(w.shape[:-1], side) for side in (-reach, reach))
    a = np.zeros(w.shape[:-1])
    for _ in range(STEPS):
        p = expit(a[..., None] + z)
        excess = positives - (w * p).sum(-1)
        low, high = np.where(excess > 0, a, low), np.where(excess > 0, high, a)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = a + excess / (w * p * (1 - p)).sum(-1)
        inside = (low < step) & (step < high)
        following = np.where(inside, step, (low + high) / 2)
        moved, a = np.abs(following - a), following
        if (moved[defined] < TOLERANCE).all():
            break
    return np.where(defined, a, np.nan)


def calibration_slope(target: ArrayLike, logit: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The b of ``P(y) = expit(a + b logit)`` by maximum likelihood (Cox 1958; Van Calster et al. 2019).

    1 where risks spread as they should, below 1 where they are too extreme. NaN where the logits separate the classes
    or a class is missing: no finite slope is the likeliest then.

    Arguments as :func:`raddino.metrics.ranking.auroc`.
    """
    y, z, w = checked(target, logit, weights)
    drawn = [(w > 0) & (y == one) for one in (0, 1)]
    least, most = ([pick(one) for one in drawn] for pick in (
        lambda one: np.where(one, z, np.inf).min(-1, initial=np.inf),
        lambda one: np.where(one, z, -np.inf).max(-1, initial=-np.inf),
    ))  # fmt: skip
    overlap = (least[1] < most[0]) & (least[0] < most[1])
    slope = np.full(overlap.shape, np.nan)
    if overlap.any():
        slope[overlap] = _fit(y, z, w[overlap])[1]
    return slope


def fit_intercept(target: Floats, logit: Floats) -> tuple[float, float]:
    """Intercept that makes the mean risk right, and the slope 1; of one class, by half an image of the other."""
    y = np.asarray(target, dtype=np.float64)
    if len(np.unique(y)) > 1:
        return float(calibration_intercept(y, logit)), 1.0
    z = np.asarray(logit, dtype=np.float64)
    given = np.append(y, 1 - y[0]), np.append(z, np.median(z)), np.append(np.ones(len(y)), 0.5)
    return float(calibration_intercept(*given)), 1.0


def fit_platt(target: Floats, logit: Floats) -> tuple[float, float]:
    """Intercept and slope of Platt (1999), whose targets (n + 1) / (n + 2) and 1 / (n + 2) keep the slope finite.

    Where all logits are equal the slope is 1, and the intercept alone is fitted.
    """
    y, z, w = checked(target, logit, None)
    if not np.ptp(z):
        return fit_intercept(y, z)
    positives, negatives = y.sum(), (1 - y).sum()
    smooth = np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    a, b = _fit(smooth, z, w)
    return float(a), float(b)


def cross_fitted(target: ArrayLike, logit: ArrayLike, patients: ArrayLike, fit: Recalibrate, seed: int = 0) -> Floats:
    """(N,) logits recalibrated by the other patients of the same site, so that no image recalibrates itself.

    Patients are dealt out, in the order of a hash of seed and patient, into :data:`FOLDS` parts; the map that each
    part goes through is fitted on the others.

    Args:
        target: (N,) of 0 and 1.
        logit: (N,).
        patients: (N,) of each image.
        fit: :func:`fit_intercept` or :func:`fit_platt`.
        seed: of the deal.

    Raises:
        ValueError: fewer than :data:`FOLDS` patients.
    """
    y, z, _ = checked(target, logit, None)
    names, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    if len(names) < FOLDS:
        raise ValueError(f"{len(names)} patients cannot be dealt out into {FOLDS} parts")
    keys = [hashlib.sha256(f"recalibration/{seed}/{name}".encode()).digest() for name in names]
    fold = np.empty(len(names), np.int64)
    fold[sorted(range(len(names)), key=keys.__getitem__)] = np.arange(len(names)) % FOLDS
    fold, found = fold[member], np.empty(len(z))
    for part in range(FOLDS):
        intercept, slope = fit(y[fold != part], z[fold != part])
        found[fold == part] = intercept + slope * z[fold == part]
    return found


def _fit(y: Floats, z: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Intercept and slope (...) of the logistic regression of ``y`` (N,) in 0..1 on ``z`` (N,) under ``w`` (..., N).

    Newton's method on standardised logits, its steps cut to a length of 1.
    """
    centre, spread = z.mean(), z.std() or 1.0
    x = (z - centre) / spread
    a, b = np.zeros(w.shape[:-1]), np.zeros(w.shape[:-1])
    for _ in range(STEPS):
        p = expit(a[..., None] + b[..., None] * x)
        lack, curve = w * (y - p), w * p * (1 - p)
        up, tilt = lack.sum(-1), lack @ x
        flat, lean, steep = curve.sum(-1), curve @ x, curve @ x**2
        determinant = flat * steep - lean**2
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.stack([steep * up - lean * tilt, flat * tilt - lean * up]) / determinant
        step = np.nan_to_num(step, posinf=0, neginf=0)
        length = np.maximum(np.abs(step).max(0), 1)
        a, b = a + step[0] / length, b + step[1] / length
        if np.abs(step).max(initial=0) < TOLERANCE:
            break
    slope = b / spread
    return a - slope * centre, slope
