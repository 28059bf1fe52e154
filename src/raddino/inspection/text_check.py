"""Text burned into the pixels: names, dates and numbers, told from side and projection markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from raddino.errors import counted
from raddino.inspection.base import Finding, Severity, Value, register
from raddino.inspection.text import ENGINES, STROKES, check_known, find_text

VERSION = "2"
"""Raised with the networks of the built-in engine, too."""
REASONS: dict[str, tuple[Severity, str]] = {
    "text": ("warning", "Text that is no side or projection marker: it may name the patient"),
}


class Text:
    """See the module.

    Args:
        engine: that looks for text, of :data:`raddino.inspection.text.ENGINES`; part of the version.

    Raises:
        TextError: an unknown engine.
    """

    name = "text"
    reasons = REASONS

    def __init__(self, engine: str = STROKES) -> None:
        check_known("text engine", engine, ENGINES)
        self.engine = engine
        self.version = VERSION if engine == STROKES else f"{VERSION}-{engine}"

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Boxes of identifiers and of markers (top, left, height, width) and the surest score; never what was read."""
        return [_measured(image, self.engine) for image in images]

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """One finding for each image with an identifier."""
        for row, boxes in enumerate(measures["identifiers"]):
            if len(boxes):
                yield Finding(
                    row, "text", said=counted(len(boxes), "place"), boxes=tuple((b[0], b[1], b[2], b[3]) for b in boxes)
                )


def _measured(image: np.ndarray, engine: str) -> dict[str, Value]:
    regions = find_text(image, engine)
    identifiers = [r for r in regions if r.kind == "identifier"]
    return {
        "identifiers": [[r.top, r.left, r.height, r.width] for r in identifiers],
        "markers": [[r.top, r.left, r.height, r.width] for r in regions if r.kind == "marker"],
        "score": round(max((r.score for r in identifiers), default=0.0), 4),
    }


register(Text())
