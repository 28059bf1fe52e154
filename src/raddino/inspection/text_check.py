"""Text burned into the pixels: names, dates and numbers, told from side and projection markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from raddino.errors import counted
from raddino.inspection.base import Finding, Severity, Value, register
from raddino.inspection.text import find_text

REASONS: dict[str, tuple[Severity, str]] = {
    "text": ("warning", "Text that is no side or projection marker: it may name the patient"),
}


class Text:
    """See the module."""

    name = "text"
    version = 1
    reasons = REASONS

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Boxes of identifiers and of markers (top, left, height, width) and the surest score; never what was read."""
        return [_measured(image) for image in images]

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """One finding for each image with an identifier."""
        for row, boxes in enumerate(measures["identifiers"]):
            if len(boxes):
                yield Finding(
                    row, "text", said=counted(len(boxes), "place"), boxes=tuple((b[0], b[1], b[2], b[3]) for b in boxes)
                )


def _measured(image: np.ndarray) -> dict[str, Value]:
    regions = find_text(image)
    identifiers = [r for r in regions if r.kind == "identifier"]
    return {
        "identifiers": [[r.top, r.left, r.height, r.width] for r in identifiers],
        "markers": [[r.top, r.left, r.height, r.width] for r in regions if r.kind == "marker"],
        "score": round(max((r.score for r in identifiers), default=0.0), 4),
    }


register(Text())
