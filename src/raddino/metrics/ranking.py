"""Ranking metrics of binary targets, exact under ties, for one weighting of the images or many at once.

Every metric takes ``weights`` of shape (..., N): bootstrap counts (R, N) give R values in one pass, equal to
scikit-learn on each resample. Where a metric is undefined (a class is missing) its value is NaN.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def auroc(target: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Area under the ROC curve; ties count one half.

    Args:
        target: (N,) of 0 and 1.
        score: (N,) finite, higher = more likely positive.
        weights: (..., N) non-negative; None means ones.

    Returns:
        (...) in 0..1, NaN without both classes.

    Raises:
        ValueError: shapes differ, a target is neither 0 nor 1, or a score is not finite.
    """
    true, false = cumulative_counts(*checked(target, score, weights))
    area = np.diff(false, axis=-1) * (true[..., 1:] + true[..., :-1]) / 2
    return ratio(area.sum(-1), true[..., -1] * false[..., -1])


def stratified_auroc(
    target: ArrayLike, score: ArrayLike, strata: np.ndarray, weights: ArrayLike | None = None
) -> Floats:
    """AUROC over pairs within strata: the strata's AUROCs weighted by positives times negatives.

    Args:
        target, score: as :func:`auroc`.
        strata: (N,) names.
        weights: (..., N); None means ones.

    Returns:
        (...), NaN where no stratum has both classes.
    """
    y, s, w = checked(target, score, weights)
    won, pairs = np.zeros(w.shape[:-1]), np.zeros(w.shape[:-1])
    for name in sorted(set(strata)):
        inside = strata == name
        part, labels = w[..., inside], y[inside]
        count = (part @ labels) * (part @ (1 - labels))
        won = won + np.where(count > 0, np.nan_to_num(auroc(labels, s[inside], part)) * count, 0)
        pairs = pairs + count
    return ratio(won, pairs)


def auprc(target: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Average precision (step-wise, ``sklearn.metrics.average_precision_score``), never the trapezoid.

    Arguments, return value and errors as :func:`auroc`; NaN without positives.
    """
    true, false = cumulative_counts(*checked(target, score, weights))
    precision = ratio(true, true + false)[..., 1:]
    gained = np.diff(true, axis=-1)
    return ratio(np.where(gained > 0, gained * precision, 0).sum(-1), true[..., -1])


def sensitivity(target: ArrayLike, score: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> Floats:
    """Share of positives with ``score >= threshold``; NaN without positives."""
    y, s, w = checked(target, score, weights)
    return ratio(w @ (y * (s >= threshold)), w @ y)


def specificity(target: ArrayLike, score: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> Floats:
    """Share of negatives with ``score < threshold``; NaN without negatives."""
    y, s, w = checked(target, score, weights)
    return ratio(w @ ((1 - y) * (s < threshold)), w @ (1 - y))


def threshold_at_specificity(target: ArrayLike, score: ArrayLike, level: float) -> float:
    """The lowest threshold at which ``score >= threshold`` keeps a specificity of at least ``level``.

    Args:
        target, score: of the validation images; as :func:`auroc`.
        level: in 0..1, for example 0.95.

    Raises:
        ValueError: there are no negatives.
    """
    y, s, _ = checked(target, score, None)
    negatives = np.sort(s[y == 0])
    if not len(negatives):
        raise ValueError("no negatives: a threshold at given specificity does not exist")
    below = int(np.ceil(level * len(negatives) - 1e-9))
    return float(np.nextafter(negatives[below - 1], np.inf)) if below else float(negatives[0])


def threshold_at_sensitivity(target: ArrayLike, score: ArrayLike, level: float) -> float:
    """The highest threshold at which ``score >= threshold`` keeps a sensitivity of at least ``level``.

    Args:
        target, score: of the validation images; as :func:`auroc`.
        level: in 0..1, for example 0.95.

    Raises:
        ValueError: there are no positives.
    """
    y, s, _ = checked(target, score, None)
    positives = np.sort(s[y == 1])
    if not len(positives):
        raise ValueError("no positives: a threshold at given sensitivity does not exist")
    kept = max(1, int(np.ceil(level * len(positives) - 1e-9)))
    return float(positives[len(positives) - kept])


def predictive_value(
    target: ArrayLike, score: ArrayLike, threshold: float, weights: ArrayLike | None = None, positive: bool = True
) -> Floats:
    """Share of positives among images with ``score >= threshold``, or of negatives below it; NaN without any there.

    Arguments as :func:`sensitivity`; ``positive`` False for the negative predictive value.
    """
    y, s, w = checked(target, score, weights)
    called = s >= threshold if positive else s < threshold
    return ratio(w @ (called * (y if positive else 1 - y)), w @ called.astype(np.float64))


def checked(target: ArrayLike, score: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """The arguments of a metric as float64 arrays (N,), (N,), (..., N); see :func:`auroc` for the errors."""
    y, s = np.asarray(target, dtype=np.float64), np.asarray(score, dtype=np.float64)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape or w.shape[-1:] != y.shape:
        raise ValueError(f"target {y.shape}, score {s.shape} and weights {w.shape} do not belong together")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("a binary target holds something other than 0 and 1")
    if not np.isfinite(s).all():
        raise ValueError("a score is not finite")
    return y, s, w


def cumulative_counts(y: Floats, s: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Weights (..., K + 1) of positives and negatives at or above each distinct score, from 0 upwards."""
    order = np.argsort(-s, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(s[order]) != 0, True)) if len(s) else np.empty(0, dtype=int)
    start = np.zeros((*w.shape[:-1], 1))
    w, y = w[..., order], y[order]
    true, false = (np.cumsum(w * chosen, axis=-1)[..., ends] for chosen in (y, 1 - y))
    return np.concatenate([start, true], -1), np.concatenate([start, false], -1)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise division, NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
