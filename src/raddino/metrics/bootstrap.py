"""Percentile bootstrap over patients: the images of one patient are drawn together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from raddino.metrics.ranking import Floats

CHUNK_CELLS = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval with the bootstrap median.

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


def percentile_interval(values: Floats, level: float = 0.95) -> Interval:
    """The central ``level`` of bootstrap values; all NaN when none is defined."""
    defined = values[np.isfinite(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return Interval(np.nan, np.nan, np.nan, undefined)
    low, median, high = np.quantile(defined, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return Interval(float(low), float(high), float(median), undefined)
