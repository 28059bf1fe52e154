"""Tests of the difference of two models on the same images, and the correction for making many."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from raddino.metrics.ranking import Floats, checked

CHUNK_CELLS = 4_000_000


def paired_randomisation_p(
    metric: Callable[[Floats], Floats], patients: ArrayLike, resamples: int = 1000, seed: int = 0
) -> float:
    """Two-sided p of "the two systems are exchangeable" by paired approximate randomisation (Noreen 1989).

    In each of the resamples the two systems change places on half of the patients, drawn at random. (k + 1) / (B + 1),
    where k counts differences at least as large as the observed one; undefined ones are left out.

    Args:
        metric: from weights (..., 2 N) of the images of the first system, then of the second, to values (...).
        patients: (N,) of each image.
        resamples: B.
        seed: of the draw.

    Returns:
        NaN where the metric is not defined on the images as they are, or on none of the resamples.
    """
    _, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    first = np.random.default_rng([seed, len(member)]).random((resamples, member.max(initial=-1) + 1)) < 0.5
    kept = np.concatenate([np.ones((1, first.shape[1]), bool), first])
    rows = max(1, CHUNK_CELLS // max(1, 2 * len(member)))
    observed, *drawn = np.concatenate([_exchanged(metric, kept[at : at + rows][:, member])
                                       for at in range(0, len(kept), rows)])  # fmt: skip
    defined = np.array(drawn)[np.isfinite(drawn)]
    if not np.isfinite(observed) or not len(defined):
        return float("nan")
    extreme = np.abs(defined) >= abs(observed) - 1e-12
    return float((extreme.sum() + 1) / (len(defined) + 1))


def unpaired_interval(
    value: float, bounds: tuple[float, float], other: float, other_bounds: tuple[float, float]
) -> tuple[float, float]:
    """Interval of ``value - other``, two numbers of different patients, from the interval of each.

    The distances that matter on either side are added as squares (Zou and Donner 2008, MOVER), so that neither has to
    be symmetric; NaN where a bound is.
    """
    (low, high), (other_low, other_high) = bounds, other_bounds
    below = np.hypot(value - low, other_high - other)
    above = np.hypot(high - value, other - other_low)
    return float(value - other - below), float(value - other + above)


def delong_p(target: ArrayLike, score: ArrayLike, other: ArrayLike, patients: ArrayLike) -> float:
    """Two-sided p of equal AUROC of two scores on the same images, several images a patient allowed.

    DeLong et al. 1988 with the variance for clustered data of Obuchowski 1997, which is DeLong's own where
    every patient has one image. 1 when the scores rank alike. NaN with fewer than two patients in a class, and
    where the areas differ but nothing varies (one score perfect, the other constant, say).
    """
    y, a, _ = checked(target, score, None)
    _, b, _ = checked(target, other, None)
    positive = y == 1
    _, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    count = member.max(initial=-1) + 1
    effect = _placements(positive, a) - _placements(positive, b)
    difference = effect[positive].mean() if positive.any() else np.nan

    spread, sizes, groups = [], [], []
    for chosen in (positive, ~positive):
        n = np.bincount(member[chosen], minlength=count)
        spread.append(np.bincount(member[chosen], effect[chosen], count) - n * difference)
        sizes.append(chosen.sum())
        groups.append((n > 0).sum())
    if min(groups) < 2:
        return float("nan")
    variance = sum(
        g / (g - 1) * (s**2).sum() / size**2 for s, size, g in zip(spread, sizes, groups, strict=True)
    ) + 2 * count / (count - 1) * (spread[0] * spread[1]).sum() / (sizes[0] * sizes[1])
    if variance <= 1e-18:
        return 1.0 if abs(difference) < 1e-12 else float("nan")
    return float(2 * norm.sf(abs(difference) / np.sqrt(variance)))


def holm(p: ArrayLike) -> Floats:
    """Holm-adjusted p-values of a family, in the given order; NaN entries stay NaN and do not count."""
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(values, np.nan)
    order = np.argsort(values)[: np.isfinite(values).sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1)
    return adjusted


def _placements(positive: np.ndarray, score: Floats) -> Floats:
    """Share of the other class below each positive, above each negative; ties count one half."""
    overall = rankdata(score)
    result = np.empty(len(score))
    for chosen in (positive, ~positive):
        others = len(score) - chosen.sum()
        beaten = (overall[chosen] - rankdata(score[chosen])) / max(others, 1)
        result[chosen] = beaten if chosen is positive else 1 - beaten
    return result


def _exchanged(metric: Callable[[Floats], Floats], kept: np.ndarray) -> Floats:
    """(r,) differences where the systems keep their places on some images (r, N) and change them on the others."""
    weights = np.concatenate([kept, ~kept], axis=1).astype(np.float64)
    return metric(weights) - metric(1 - weights)
