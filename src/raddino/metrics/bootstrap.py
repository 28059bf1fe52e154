"""Bootstrap over patients, whose images are drawn together, and the interval that the resamples give."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit
from scipy.stats import norm

from raddino.metrics.ranking import Floats
from raddino.metrics.scales import IDENTITY, Scale

CHUNK_CELLS = 4_000_000
RANGE = (float(norm.cdf(-1)), 0.5, float(norm.cdf(1)))


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a metric with the bootstrap median.

    ``undefined`` counts resamples in which the metric does not exist (no positives drawn); they are left out.
    """

    low: float
    high: float
    median: float
    undefined: int


class PatientBootstrap:
    """Resamples of patients with replacement, drawn once and shared by every model and metric.

    The draw depends on the set of patients and the seed, not on the order of the images.

    Args:
        patients: (N,) patient of each image.
        resamples: how many times the patients are drawn.
        seed: of the draw.

    Raises:
        ValueError: there are no images or no resamples.
    """

    def __init__(self, patients: ArrayLike, resamples: int = 1000, seed: int = 0) -> None:
        names, self._member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
        if not len(names) or resamples < 1:
            raise ValueError(f"a bootstrap of {len(names)} patients with {resamples} resamples is impossible")
        self.patients, self.resamples, self.seed = len(names), resamples, seed
        self._counts = np.random.default_rng(seed).multinomial(
            len(names), np.full(len(names), 1 / len(names)), size=resamples
        )

    def distribution(self, metric: Callable[[Floats], Floats]) -> Floats:
        """(R,) values of ``metric``, a function of image weights (r, N) that returns (r,).

        NaN throughout with one patient: nothing varies between its resamples, so they bound nothing.
        """
        rows = max(1, CHUNK_CELLS // len(self._member))
        chunks = np.split(self._counts, range(rows, self.resamples, rows))
        values = np.concatenate([metric(chunk[:, self._member].astype(np.float64)) for chunk in chunks])
        return values if self.patients > 1 else np.full_like(values, np.nan)


def interval(
    value: float | Floats,
    resamples: Floats,
    effective_n: int,
    scale: Scale = IDENTITY,
    n: int = 0,
    level: float = 0.95,
) -> Interval:
    """Where the metric of the population lies: value +- t x spread, on a scale that suits the metric.

    The spread is half of the 16-to-84 % range of the resamples (on a smooth scale their standard deviation), times
    sqrt(m / (m - 1)), and t that of m - 1 degrees of freedom (of a share the normal one, and the spread as it is);
    values are kept half an image's worth off the ends of a bounded scale, and a side of the range that lies at an end
    says nothing of the spread. Where nothing varies at such an end, the other bound is the exact one of m out of m
    (Clopper and Pearson 1934); where nothing varies elsewhere, both are the value. The interval holds the value and
    lies in the metric's range.

    Args:
        value: on the images as they are.
        resamples: (R,) on resampled patients, NaN where not defined.
        effective_n: m, patients that carry the metric, :func:`raddino.metrics.scales.effective_patients`.
        scale: of the metric, :func:`raddino.metrics.scales.scale_of`; of a difference, the identity.
        n: images, where they are more than m.
        level: that the interval promises.

    Returns:
        NaN bounds where the value is not finite, no resample is defined, or one patient carries the metric.
    """
    given = np.asarray(resamples, dtype=np.float64)
    defined, point = given[np.isfinite(given)], float(value)
    undefined = len(given) - len(defined)
    median = float(np.median(defined)) if len(defined) else np.nan
    if not len(defined) or not np.isfinite(point) or effective_n < 2:
        return Interval(np.nan, np.nan, median, undefined)
    if np.ptp(np.append(defined, point)) == 0:
        low, high = _constant(point, scale, effective_n, level)
    else:
        low, high = _spread(point, defined, scale, effective_n, max(n, effective_n), level)
    return Interval(max(low, scale.low), min(high, scale.high), median, undefined)


def _constant(point: float, scale: Scale, m: int, level: float) -> tuple[float, float]:
    reach = (1 - ((1 - level) / 2) ** (1 / m)) * (scale.high - scale.low)
    if not np.isfinite(reach) or point not in (scale.low, scale.high):
        return point, point
    return (point, point + reach) if point == scale.low else (point - reach, point)


def _spread(point: float, defined: Floats, scale: Scale, m: int, n: int, level: float) -> tuple[float, float]:
    width = scale.high - scale.low
    margin = 0.5 / n * (width if np.isfinite(width) else np.ptp(np.append(defined, point)))
    first, last = scale.low + margin, scale.high - margin
    quantiles = np.quantile(defined, RANGE)
    centre, low, median, high = scale.forward(np.clip([point, *quantiles], first, last))
    lower, upper = first < quantiles[0], quantiles[2] < last
    if scale.smooth:
        half = np.std(scale.forward(np.clip(defined, first, last)))
    else:
        half = abs(high - low) / 2 if lower == upper else abs(centre - (low if lower else high))
    chance = (1 + level) / 2
    half *= norm.ppf(chance) if scale.counted else stdtrit(m - 1, chance) * np.sqrt(m / (m - 1))
    if not scale.unbiased:
        centre -= median - centre
    ends = scale.back(np.array([centre - half, centre + half]))
    return min(*ends.tolist(), point), max(*ends.tolist(), point)
