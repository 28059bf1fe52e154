"""Numbers of repeated cross-validation, whose folds share most of their training images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t


@dataclass(frozen=True)
class FoldMean:
    """Mean of a metric, or of a difference, over folds and repeats.

    Attributes:
        value: the mean.
        low, high: 95 % interval; NaN with fewer than two folds.
        p: two-sided, of a mean of 0.
    """

    value: float
    low: float
    high: float
    p: float


def corrected_mean(
    values: ArrayLike, share: float, low: float = -np.inf, high: float = np.inf, level: float = 0.95
) -> FoldMean:
    """Mean over folds with the corrected resampled t of Nadeau and Bengio (2003), as Bouckaert and Frank (2004) use it.

    Folds are no independent trials: their training images overlap, and repeats only cut the same patients again. The
    variance of the mean of J values is therefore taken as (1 / J + share) times that of the values, so that no number
    of repeats brings it to zero.

    Args:
        values: (R, K) of K folds in R repeats; NaN where a fold does not define the metric.
        share: images tested in a fold over images trained on.
        low, high: ends of the metric, at which the interval is cut.
        level: that the interval promises.

    Returns:
        NaN throughout where no fold defines the metric; ``p`` is 1 where nothing varies and the mean is 0.
    """
    given = np.asarray(values, dtype=np.float64)
    found = given[np.isfinite(given)]
    if not len(found):
        return FoldMean(*[float("nan")] * 4)
    mean, count = float(found.mean()), len(found)
    if count < 2:
        return FoldMean(mean, *[float("nan")] * 3)
    error = float(np.sqrt((1 / count + share) * found.var(ddof=1)))
    half = float(t.ppf((1 + level) / 2, count - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    return FoldMean(mean, max(mean - half, low), min(mean + half, high), p)
