"""ROC and precision-recall curves with bands from resampled patients, and predicted against true values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from raddino.report.style import MUTED, dash, hue, legend

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes

RESAMPLES = 500
GRID = 101


@dataclass(frozen=True)
class Curve:
    """A curve and its pointwise 95 % band.

    Attributes:
        x, y: (T,) the exact points, one a threshold.
        grid, low, high: (G,) the band's abscissa, 2.5th and 97.5th percentile.
    """

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    low: np.ndarray
    high: np.ndarray


def patient_weights(patients: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """(R, N) how often each of N images counts when patients are drawn with replacement."""
    import numpy as np

    names, of = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=resamples
    )
    return draws[:, of].astype(float)


def roc(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> Curve:
    """Sensitivity over 1 - specificity.

    Args:
        target: (N,) 0 or 1. score: (N,) higher is more positive. weights: (R, N) of :func:`patient_weights`.
    """
    import numpy as np

    positives, negatives = _counts(target, score, np.vstack([np.ones(len(target)), weights]))
    x, y = _shares(negatives), _shares(positives)
    grid = np.linspace(0, 1, GRID)
    resampled = np.array([_between(grid, *pair) for pair in zip(x[1:], y[1:], strict=True)])
    return Curve(x[0], y[0], grid, *_band(resampled))


def precision_recall(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> Curve:
    """Precision over recall, step-wise as average precision counts it; arguments as for :func:`roc`."""
    import numpy as np

    positives, negatives = _counts(target, score, np.vstack([np.ones(len(target)), weights]))
    recall = _shares(positives)
    with np.errstate(invalid="ignore"):
        precision = positives / (positives + negatives)
    grid = np.linspace(0, 1, GRID)[1:]
    resampled = np.array([
        p[np.minimum(np.searchsorted(r, grid - 1e-9), len(r) - 1)] for r, p in zip(recall[1:], precision[1:], strict=True)
    ])  # fmt: skip
    return Curve(recall[0, 1:], precision[0, 1:], grid, *_band(resampled))


def draw_roc(axes: Axes, curves: dict[str, Curve], colours: dict[str, int]) -> None:
    """ROC curves of several encoders by name; ``colours`` holds their palette numbers."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    for name, curve in curves.items():
        _draw(axes, name, curve, colours[name], drawstyle="default")
    _unit_square(axes, "1 − specificity", "sensitivity")


def draw_precision_recall(
    axes: Axes, curves: dict[str, Curve], colours: dict[str, int], prevalence: float
) -> None:
    """Precision-recall curves; the dotted line is what a coin achieves."""
    axes.axhline(prevalence, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    for name, curve in curves.items():
        _draw(axes, name, curve, colours[name], drawstyle="steps-pre")
    _unit_square(axes, "recall (sensitivity)", "precision")


def draw_agreement(axes: Axes, predictions: pd.DataFrame, colour: int) -> None:
    """Predicted against true values of one encoder; the dotted line is perfect agreement."""
    import numpy as np

    target, score = predictions["target"].to_numpy(float), predictions["score"].to_numpy(float)
    ends = [float(np.nanmin([target, score])), float(np.nanmax([target, score]))]
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    chosen = np.linspace(0, len(target) - 1, min(len(target), 400)).astype(int)
    axes.plot(
        target[chosen], score[chosen], "o", color=hue(colour), markersize=3.2, markeredgewidth=0, alpha=0.55
    )
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")


def _counts(target: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, T + 1) true and false positives as the threshold falls; equal scores fall together."""
    import numpy as np

    order = np.argsort(-np.asarray(score, float), kind="stable")
    ends = np.flatnonzero(np.append(np.diff(np.asarray(score, float)[order]) != 0, True))
    positive = np.asarray(target, float)[order]
    counts = [np.cumsum(weights[:, order] * part, axis=1)[:, ends] for part in (positive, 1 - positive)]
    return tuple(np.pad(count, ((0, 0), (1, 0))) for count in counts)  # type: ignore[return-value]


def _shares(counts: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.errstate(invalid="ignore"):
        return counts / counts[:, -1:]


def _between(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The upper end of a vertical step, else the straight line between thresholds."""
    import numpy as np

    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.full(len(grid), np.nan)
    left = np.searchsorted(x, grid + 1e-9, side="right") - 1
    right = np.minimum(left + 1, len(x) - 1)
    width = x[right] - x[left]
    part = np.divide(grid - x[left], width, out=np.zeros(len(grid)), where=width > 0)
    return y[left] + np.clip(part, 0, 1) * (y[right] - y[left])


def _band(resampled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    whole = resampled[np.isfinite(resampled).all(axis=1)]
    if not len(whole):
        return np.full(resampled.shape[1], np.nan), np.full(resampled.shape[1], np.nan)
    low, high = np.percentile(whole, [2.5, 97.5], axis=0)
    return low, high


def _draw(axes: Axes, name: str, curve: Curve, colour: int, drawstyle: str) -> None:
    axes.fill_between(curve.grid, curve.low, curve.high, color=hue(colour), alpha=0.13, linewidth=0)
    axes.plot(curve.x, curve.y, color=hue(colour), linestyle=dash(colour), drawstyle=drawstyle, label=name)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    legend(axes, columns=2)
