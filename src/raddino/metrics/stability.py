"""How far a ranking of several systems holds: ranks with intervals, agreement of two rankings, who stays first."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from raddino.metrics.ranking import Floats, ratio


def ranks(values: ArrayLike, higher_is_better: bool = True) -> Floats:
    """(..., E) ranks of E systems, 1 for the best; equal ones share the mean of theirs."""
    given = np.asarray(values, dtype=np.float64)
    return rankdata(-given if higher_is_better else given, axis=-1)


def rank_bounds(
    values: ArrayLike, resampled: ArrayLike, higher_is_better: bool = True, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Lowest and highest rank (E,) that each system may have, all of them together with probability ``level``.

    A system ranks behind those that are clearly better and before those that are clearly worse (Mogstad et al. 2024).
    Clear is a paired difference larger than c of its bootstrap standard deviations, where c is the ``level`` quantile,
    over resamples, of the largest such ratio of all pairs. Ranks counted in the resamples themselves would be too sure
    where systems are alike (Hall and Miller 2009).

    Args:
        values: (E,) on the images as they are.
        resampled: (R, E) in shared resamples; those in which one is not defined are left out.
        higher_is_better: of the metric.
        level: that the ranks promise.
    """
    given, drawn = np.asarray(values, dtype=np.float64), np.asarray(resampled, dtype=np.float64)
    count = len(given)
    drawn = drawn[np.isfinite(drawn).all(-1)]
    if len(drawn) < 2:
        return np.ones(count), np.full(count, float(count))
    gap, gaps = given[:, None] - given, drawn[:, :, None] - drawn[:, None]
    spread = gaps.std(0)
    some = spread > 1e-12
    ratios = np.abs(gaps - gap)[:, some] / spread[some]
    reach = np.quantile(ratios.max(-1), level) if some.any() else 0.0
    ahead = (gap if higher_is_better else -gap) > reach * spread + 1e-12
    return 1 + ahead.sum(0).astype(float), count - ahead.sum(1).astype(float)


def kendall_tau(one: ArrayLike, other: ArrayLike) -> Floats:
    """Kendall's tau-b (...) of two rankings (..., E) of the same systems, -1..1; NaN where all of one are equal."""
    signs = [np.sign(given[..., :, None] - given[..., None, :]) for given in map(np.asarray, (one, other))]
    agree = (signs[0] * signs[1]).sum((-1, -2))
    return ratio(agree, np.sqrt(np.prod([(sign**2).sum((-1, -2)) for sign in signs], axis=0)))


def first_share(resampled: ArrayLike, system: int, higher_is_better: bool = True) -> Floats:
    """(R,) 1 where a system is first alone in a resample (R, E), 1/k where k are, 0 else; NaN where a value lacks."""
    drawn = np.asarray(resampled, dtype=np.float64)
    best = drawn.max(-1, keepdims=True) if higher_is_better else drawn.min(-1, keepdims=True)
    first = drawn == best
    return np.where(np.isfinite(drawn).all(-1), first[:, system] / np.maximum(first.sum(-1), 1), np.nan)
