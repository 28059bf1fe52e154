"""Grey values that are unlike those of the other images of the same source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from raddino.inspection.base import Finding, Severity, Value, register

BINS = 32
FEWEST = 30
"""Images of a source below which none is called odd."""
FAR = 3.09
"""Robust standard deviations of the distance's square root: 99.9 % of a normal distribution lie below."""
MAD_OF_A_NORMAL = 1.4826
REASONS: dict[str, tuple[Severity, str]] = {
    "odd-intensity": ("note", "Grey values are unlike those of its source"),
}


class Intensity:
    """See the module.

    An image is odd where the square root of its distance from its source lies more than :data:`FAR` robust standard
    deviations (median absolute deviations times 1.4826) above the median of the source. The distance is that between
    quantile functions (Wasserstein 1), from the median of the source's cumulative histograms.
    """

    name = "intensity"
    version = 1
    reasons = REASONS

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Of the grey values over the range of their type.

        ``histogram`` (shares of 32 bins), ``mean`` and ``std`` (0 to 1), and ``entropy`` (bits of 256 bins, 0 to 8).
        """
        return [_measured(image) for image in images]

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """Findings within each source of at least :data:`FEWEST` images."""
        for _, rows in manifest.reset_index(drop=True).groupby("source").indices.items():
            if len(rows) < FEWEST:
                continue
            distance = distances(np.stack(measures["histogram"].iloc[rows].tolist()))
            limit = _limit(distance)
            for row in np.flatnonzero(distance > limit):
                said = f"{distance[row]:.1%} of the range from its source, usually at most {limit:.1%}"
                yield Finding(int(rows[row]), "odd-intensity", said=said)


def distances(histograms: np.ndarray) -> np.ndarray:
    """(N,) distance of each of (N, B) histograms from their median, as a share of the range."""
    cumulative = histograms.cumsum(1)
    return np.abs(cumulative - np.median(cumulative, axis=0)).mean(1)


def _limit(distance: np.ndarray) -> float:
    """At least one bin: nearer than that is not seen in the histogram."""
    root = np.sqrt(distance)
    middle = np.median(root)
    spread = MAD_OF_A_NORMAL * np.median(np.abs(root - middle))
    return max(float(middle + FAR * spread) ** 2, 1 / BINS)


def _measured(image: np.ndarray) -> dict[str, Value]:
    top = np.iinfo(image.dtype).max
    shares = np.bincount((image >> (8 * (image.dtype.itemsize - 1))).ravel(), minlength=256) / image.size
    held = shares[shares > 0]
    return {
        "histogram": [round(float(share), 5) for share in shares.reshape(BINS, -1).sum(1)],
        "mean": round(float(image.mean(dtype=np.float64)) / top, 5),
        "std": round(float(image.std(dtype=np.float64)) / top, 5),
        "entropy": round(float(-(held * np.log2(held)).sum()), 4) + 0.0,
    }


register(Intensity())
