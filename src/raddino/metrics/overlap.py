"""Overlap and surface agreement of a predicted with a true mask; what empty masks count is part of each name.

Borders are pixels of the mask of which at least one of the four neighbours is known to lie outside it; beyond the
image's edge is outside, an ignored neighbour is not known. Distances are Euclidean, between centres of border
pixels. Without ignored pixels all of this is MONAI's definition.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from raddino.metrics.ranking import Floats, ratio

Mask = NDArray[np.bool_]


def dice(intersection: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> Floats:
    """2 I / (P + T) of pixel counts (...): a false alarm on an empty mask is 0, empty on empty is NaN (left out).

    Args:
        intersection: pixels in both masks.
        predicted: pixels in the predicted mask.
        true: pixels in the true mask.
    """
    both, p, t = _counts(intersection, predicted, true)
    return ratio(2 * both, p + t)


def dice_nonempty(intersection: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> Floats:
    """:func:`dice` where the true mask is not empty, NaN elsewhere: blind to false alarms."""
    return np.where(np.asarray(true) > 0, dice(intersection, predicted, true), np.nan)


def dice_all(intersection: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> Floats:
    """:func:`dice` in which empty on empty is 1; never NaN."""
    return np.nan_to_num(dice(intersection, predicted, true), nan=1.0)


def iou(intersection: ArrayLike, predicted: ArrayLike, true: ArrayLike) -> Floats:
    """I / (P + T - I) of pixel counts, with the empty masks of :func:`dice`."""
    both, p, t = _counts(intersection, predicted, true)
    return ratio(both, p + t - both)


def false_alarm(predicted: ArrayLike, true: ArrayLike) -> Floats:
    """1 where something is predicted although the true mask is empty, 0 where nothing is, NaN where it is not."""
    p, t = np.asarray(predicted), np.asarray(true)
    return np.where(t > 0, np.nan, (p > 0).astype(np.float64))


def border(mask: Mask, ignored: Mask | None = None) -> Mask:
    """Border pixels of ``mask`` (H, W), none of them ignored; see the module for the definition."""
    unknown = np.zeros_like(mask) if ignored is None else ignored
    inside = np.pad(mask | unknown, 1)
    core = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~unknown & ~core


def surface_distances(predicted: Mask, true: Mask, ignored: Mask | None = None) -> tuple[Floats, Floats]:
    """Distance from each border pixel of one mask to the nearest one of the other, in pixels.

    Args:
        predicted, true: (H, W) bool.
        ignored: (H, W) bool, pixels that say nothing; None for none.

    Returns:
        Distances from the K border pixels of ``predicted`` (K,) and from the L of ``true`` (L,), infinite where the
        other mask has no border.

    Raises:
        ValueError: shapes differ.
    """
    if predicted.shape != true.shape or (ignored is not None and ignored.shape != true.shape):
        raise ValueError(f"masks of shapes {predicted.shape} and {true.shape} cannot be compared")
    p, t = (np.argwhere(border(mask, ignored)) for mask in (predicted, true))
    return _nearest(p, t), _nearest(t, p)


def hausdorff_95(from_predicted: Floats, from_true: Floats) -> float:
    """The larger of the 95th percentiles of :func:`surface_distances`, in pixels.

    Infinite when one mask alone has a border, NaN when neither has.
    """
    if not len(from_predicted) and not len(from_true):
        return float("nan")
    if not len(from_predicted) or not len(from_true):
        return float("inf")
    return float(max(np.percentile(from_predicted, 95), np.percentile(from_true, 95)))


def surface_dice(from_predicted: Floats, from_true: Floats, tolerance: float) -> float:
    """Normalised surface Dice: the share of all border pixels at most ``tolerance`` pixels from the other border.

    Nikolov et al. 2018 (arXiv:1809.04430), with border pixels for surface area. 0 when one mask alone has a border,
    NaN when neither has.
    """
    distances = np.concatenate([from_predicted, from_true])
    return float((distances <= tolerance).mean()) if len(distances) else float("nan")


def _counts(*counts: ArrayLike) -> tuple[Floats, ...]:
    return tuple(np.asarray(count, dtype=np.float64) for count in counts)


def _nearest(points: np.ndarray, others: np.ndarray) -> Floats:
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    return np.asarray(KDTree(others).query(points)[0], dtype=np.float64)
