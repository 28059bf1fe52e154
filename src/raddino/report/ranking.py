"""ROC and precision-recall curves with bands from resampled patients, and predicted against true values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raddino.metrics.ranking import cumulative_counts
from raddino.report.style import MUTED, banded, dash, hue

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from raddino.metrics.bootstrap import PatientBootstrap

RESAMPLES = 500
GRID = np.linspace(0, 1, 101)
DOTTED = (0, (1, 2))


@dataclass(frozen=True)
class Curve:
    """A curve and its pointwise 95 % band.

    Attributes:
        x, y: (T,) the exact points, one a threshold.
        grid, low, high: (G,) where the band stands, and its 2.5th and 97.5th percentile.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc(target: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap) -> Curve:
    """Sensitivity over 1 - specificity; between thresholds the straight line whose area the AUROC is.

    Args:
        target: (N,) 0 or 1. score: (N,) higher is more positive. bootstrap: over the N images' patients.
    """

    def on_grid(weights: np.ndarray) -> np.ndarray:
        true, false = _shares(*cumulative_counts(target, score, weights))
        return np.array([_interpolate(*pair) for pair in zip(false, true, strict=True)])

    (y,), (x,) = _shares(*cumulative_counts(target, score, np.ones((1, len(target)))))
    return Curve(x, y, GRID, *_band(bootstrap.distribution(on_grid)))


def precision_recall(target: np.ndarray, score: np.ndarray, bootstrap: PatientBootstrap) -> Curve:
    """Precision over recall, step-wise as average precision counts it, from the first true positive on.

    Arguments as for :func:`roc`.
    """
    grid = GRID[1:]

    def curve(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        true, false = cumulative_counts(target, score, weights)
        with np.errstate(invalid="ignore"):
            return true / true[:, -1:], true / (true + false)

    def on_grid(weights: np.ndarray) -> np.ndarray:
        pairs = zip(*curve(weights), strict=True)
        return np.array([p[np.minimum(np.searchsorted(r, grid - 1e-9), len(r) - 1)] for r, p in pairs])

    (x,), (y,) = curve(np.ones((1, len(target))))
    first = int(np.argmax(x > 0))
    x, y = np.append(0, x[first:]), np.append(y[first], y[first:])
    return Curve(x, y, grid, *_band(bootstrap.distribution(on_grid)))


def draw_roc(axes: Axes, curves: dict[str, Curve], colours: dict[str, int]) -> None:
    """ROC curves of several encoders by name; ``colours`` holds their palette numbers.

    Bands go with all of three curves, of more with the first encoder's and that of the largest area.
    """
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DOTTED)
    bands = banded({colours[name]: float(np.trapezoid(curve.y, curve.x)) for name, curve in curves.items()})
    for name, curve in curves.items():
        _draw(axes, curve, colours[name], "default", colours[name] in bands)
    _unit_square(axes, "1 − specificity", "sensitivity")


def draw_precision_recall(axes: Axes, curves: dict[str, Curve], colours: dict[str, int], prevalence: float) -> None:
    """Precision-recall curves; the dotted line is the precision of a coin."""
    axes.axhline(prevalence, color=MUTED, linewidth=1, linestyle=DOTTED)
    bands = banded({colours[name]: float(np.diff(curve.x) @ curve.y[1:]) for name, curve in curves.items()})
    for name, curve in curves.items():
        _draw(axes, curve, colours[name], "steps-pre", colours[name] in bands)
    _unit_square(axes, "recall", "precision")


def draw_agreement(axes: Axes, predictions: pd.DataFrame, colour: int, ends: tuple[float, float]) -> None:
    """Predicted against true values of one encoder; the dotted line is perfect agreement.

    Args:
        ends: smallest and largest value that the axes must show, the same for every encoder of a task.
    """
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=DOTTED)
    chosen = predictions.iloc[np.unique(np.linspace(0, len(predictions) - 1, 400).astype(int))]
    axes.plot(
        chosen["target"],
        chosen["score"],
        "o",
        color=hue(colour),
        markersize=3.2,
        markeredgewidth=0,
        alpha=0.55,
    )
    margin = 0.04 * (ends[1] - ends[0])
    limits = (ends[0] - margin, ends[1] + margin)
    axes.set(xlim=limits, ylim=limits, xlabel="true", ylabel="predicted", aspect="equal")


def _shares(*counts: np.ndarray) -> list[np.ndarray]:
    with np.errstate(invalid="ignore"):
        return [count / count[:, -1:] for count in counts]


def _interpolate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y on the grid: the upper end of a vertical step, else the straight line between thresholds; NaN where x is."""
    left = np.searchsorted(x, GRID + 1e-9, side="right") - 1
    right = np.minimum(left + 1, len(x) - 1)
    width = x[right] - x[left]
    part = np.divide(GRID - x[left], width, out=np.zeros(len(GRID)), where=width != 0)
    return y[left] + np.clip(part, 0, 1) * (y[right] - y[left])


def _band(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentiles over the resamples in which there is a curve."""
    whole = resampled[np.isfinite(resampled).all(axis=1)]
    if not len(whole):
        return np.full(resampled.shape[1], np.nan), np.full(resampled.shape[1], np.nan)
    low, high = np.percentile(whole, [2.5, 97.5], axis=0)
    return low, high


def _draw(axes: Axes, curve: Curve, colour: int, drawstyle: str, band: bool) -> None:
    if band:
        axes.fill_between(curve.grid, curve.low, curve.high, color=hue(colour), alpha=0.12, linewidth=0)
    axes.plot(curve.x, curve.y, color=hue(colour), linestyle=dash(colour), drawstyle=drawstyle)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal", xticks=ticks, yticks=ticks)
