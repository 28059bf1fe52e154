"""Net benefit of acting on a prediction, at the threshold probability that says how harms and benefits are weighed."""

from __future__ import annotations

from numpy.typing import ArrayLike

from raddino.metrics.calibration import checked_probability
from raddino.metrics.ranking import Floats, ratio


def net_benefit(
    target: ArrayLike, probability: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> Floats:
    """True positives minus false positives weighed by the odds of the threshold, per image (Vickers and Elkin 2006).

    The best is the prevalence. A policy that treats everybody has the probability 1 throughout, one that treats nobody
    a net benefit of 0.

    Args:
        target: (N,) of 0 and 1.
        probability: (N,) 0..1; who has at least ``threshold`` is treated.
        threshold: between 0 and 1, the probability at which treating is worth as much as not treating.
        weights: (..., N) non-negative; None means ones.

    Returns:
        (...), NaN without images.

    Raises:
        ValueError: a threshold or probability out of range.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"a threshold probability lies between 0 and 1, got {threshold}")
    y, p, w = checked_probability(target, probability, weights)
    treated = p >= threshold
    return ratio(w @ (treated * (y - (1 - y) * threshold / (1 - threshold))), w.sum(-1))
