"""Grey values that lost what they showed: clipped, squeezed into a narrow band, or surrounded by empty borders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from raddino.inspection.base import Finding, Severity, Value, register

MOST_CLIPPED = 0.05
"""Share of the middle of an image at its brightest or darkest value."""
LEAST_CONTRAST = 0.25
"""Of the whole range, what lies between the 5th and the 95th percentile of the middle."""
MOST_BORDER = 0.15
"""Share of the area."""
FLAT = 0.012
"""Of the range: standard deviation below which a row or column at the edge is empty."""
MIDDLE = 0.6
REASONS: dict[str, tuple[Severity, str]] = {
    "constant": ("error", "All pixels are equal"),
    "clipped": ("warning", "Clipped: a large part of the middle is at the brightest or darkest value"),
    "low-contrast": ("warning", "Too little contrast: the middle uses a small part of the range"),
    "borders": ("note", "Empty borders: collimation, or a frame around the radiograph"),
}


class Exposure:
    """See the module."""

    name = "exposure"
    version = 1
    reasons = REASONS

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Shares of the middle at either end, its contrast from 0 to 1, and the share of empty borders."""
        return [_measured(image) for image in images]

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """Findings by the limits of this module."""
        for row, (bright, dark, contrast, border) in enumerate(
            measures[["bright", "dark", "contrast", "border"]].itertuples(index=False)
        ):
            yield from _judged(row, bright, dark, contrast, border)


def _measured(image: np.ndarray) -> dict[str, Value]:
    low, high = float(image.min()), float(image.max())
    if low == high:
        return {"bright": 1.0, "dark": 1.0, "contrast": 0.0, "border": 1.0}
    grey = (image.astype(np.float32) - low) / (high - low)
    top, bottom, left, right = _inside(grey)
    inner = grey[top:bottom, left:right]
    border = 1 - inner.size / grey.size
    middle = _middle(inner if inner.size else grey)
    p5, p95 = np.percentile(middle, (5, 95))
    return {
        "bright": round(float((middle >= 1).mean()), 5),
        "dark": round(float((middle <= 0).mean()), 5),
        "contrast": round(float(p95 - p5), 5),
        "border": round(border, 5),
    }


def _inside(grey: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row and column, the latter excluded, within empty borders."""
    edges = []
    for axis in (1, 0):
        full = np.flatnonzero(grey.std(axis=axis) > FLAT)
        edges += [int(full[0]), int(full[-1]) + 1] if len(full) else [0, 0]
    return edges[0], edges[1], edges[2], edges[3]


def _middle(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape
    rows, columns = int(height * (1 - MIDDLE) / 2), int(width * (1 - MIDDLE) / 2)
    return grey[rows : height - rows, columns : width - columns]


def _judged(row: int, bright: float, dark: float, contrast: float, border: float) -> Iterator[Finding]:
    if border == 1:
        yield Finding(row, "constant")
        return
    if max(bright, dark) > MOST_CLIPPED:
        which, share = ("bright", bright) if bright >= dark else ("dark", dark)
        yield Finding(row, "clipped", said=f"{share:.0%} of the middle at the {which} end")
    if contrast < LEAST_CONTRAST:
        yield Finding(row, "low-contrast", said=f"{contrast:.0%} of the range")
    if border > MOST_BORDER:
        yield Finding(row, "borders", said=f"{border:.0%} of the area")


register(Exposure())
