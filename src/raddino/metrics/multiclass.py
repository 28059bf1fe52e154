"""Metrics of one label with several classes, for one weighting of the images or for many at once.

Macro averages run over ``classes``; where one of those is missing from a resample the value is NaN.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from raddino.metrics.ranking import Floats, auprc, auroc


def accuracy(target: ArrayLike, score: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Share of images whose highest score is their class's, 0..1.

    Args:
        target: (N,) positions of classes.
        score: (N, K) finite; of equal scores the first counts.
        weights: (..., N) non-negative; None means ones.

    Raises:
        ValueError: shapes differ, a target is no class, or a score is not finite.
    """
    y, s, w = _checked(target, score, weights)
    return (w @ (s.argmax(1) == y)) / w.sum(-1)


def balanced_accuracy(
    target: ArrayLike, score: ArrayLike, classes: Sequence[int], weights: ArrayLike | None = None
) -> Floats:
    """Unweighted mean over ``classes`` of the share of their images that are recognised; see :func:`accuracy`."""
    y, s, w = _checked(target, score, weights)
    right = s.argmax(1) == y
    with np.errstate(invalid="ignore"):
        recalls = [(w @ (right & (y == one))) / (w @ (y == one).astype(float)) for one in classes]
    return np.mean(recalls, axis=0)


def auroc_macro(
    target: ArrayLike, score: ArrayLike, classes: Sequence[int], weights: ArrayLike | None = None
) -> Floats:
    """Unweighted mean over ``classes`` of the AUROC of each against the rest; see :func:`accuracy`."""
    return _one_against_rest(auroc, target, score, classes, weights)


def auprc_macro(
    target: ArrayLike, score: ArrayLike, classes: Sequence[int], weights: ArrayLike | None = None
) -> Floats:
    """Unweighted mean over ``classes`` of the average precision of each against the rest; see :func:`accuracy`."""
    return _one_against_rest(auprc, target, score, classes, weights)


def confusion(target: ArrayLike, score: ArrayLike) -> np.ndarray:
    """(K, K) counts of images by true (row) and highest scored (column) class; see :func:`accuracy`."""
    y, s, _ = _checked(target, score, None)
    counts = np.zeros((s.shape[1], s.shape[1]), dtype=int)
    np.add.at(counts, (y, s.argmax(1)), 1)
    return counts


def _one_against_rest(
    metric: Callable[..., Floats],
    target: ArrayLike,
    score: ArrayLike,
    classes: Sequence[int],
    weights: ArrayLike | None,
) -> Floats:
    y, s, w = _checked(target, score, weights)
    return np.mean([metric(y == one, s[:, one], w) for one in classes], axis=0)


def _checked(target: ArrayLike, score: ArrayLike, weights: ArrayLike | None) -> tuple[np.ndarray, Floats, Floats]:
    given, s = np.asarray(target, dtype=np.float64), np.asarray(score, dtype=np.float64)
    w = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.ndim != 1 or s.ndim != 2 or len(s) != len(given) or w.shape[-1:] != given.shape:
        raise ValueError(f"target {given.shape}, score {s.shape} and weights {w.shape} do not belong together")
    if not np.isin(given, np.arange(s.shape[1])).all():
        raise ValueError(f"a target is none of the {s.shape[1]} classes")
    if not np.isfinite(s).all():
        raise ValueError("a score is not finite")
    return given.astype(int), s, w
