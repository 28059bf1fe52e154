"""The same picture more than once: in one patient, under two patients, and across splits, sources and corpora.

Another picture of the same person is none of this: two radiographs under two ids are not known to be of one person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from raddino.corpus.render import digest
from raddino.images.likeness import find_copies, from_text, thumbnail, to_text
from raddino.inspection.base import Finding, Severity, Value, register
from raddino.progress import bar

REASONS: dict[str, tuple[Severity, str]] = {
    "copy-across-splits": ("error", "A copy of it stands in another split"),
    "copy-other-patient": ("warning", "A copy of it has another patient's id"),
    "copy-across-sources": ("warning", "A copy of it comes under another source's name"),
    "copy-across-corpora": ("warning", "A copy of it stands in another corpus"),
    "copy-exact": ("note", "The same pixels as another picture"),
    "copy-near": ("note", "A copy: resized, cropped, windowed, inverted, mirrored, turned or compressed again"),
}
ACROSS = {
    "split": "copy-across-splits",
    "patient": "copy-other-patient",
    "source": "copy-across-sources",
    "corpus": "copy-across-corpora",
}


class Duplicates:
    """See the module; what is found is measured in docs/results/duplicates.md."""

    name = "duplicates"
    version = 1
    reasons = REASONS

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Of each image a digest of its ``pixels`` and a ``thumbnail``, see :mod:`raddino.images.likeness`."""
        return [{"pixels": digest(image)[:16], "thumbnail": to_text(thumbnail(image))} for image in images]

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """Each copy with its partner, the first of its cluster; where they differ in :data:`ACROSS`, that too."""
        with bar("compare", total=len(measures)) as shown:
            first, likeness = find_copies(
                np.stack([from_text(text) for text in measures["thumbnail"]]), advance=shown.advance
            )
        pixels = measures["pixels"].to_numpy()
        earlier = pd.Series(np.arange(len(pixels))).groupby(pixels).transform("first").to_numpy()
        facts = {name: manifest[name].to_numpy() for name in ACROSS if name in manifest}
        for row in np.flatnonzero(first != np.arange(len(first))).tolist():
            yield from _judged(row, int(first[row]), int(earlier[row]), float(likeness[row]), facts)


def _judged(row: int, first: int, same: int, likeness: float, facts: dict[str, np.ndarray]) -> Iterator[Finding]:
    said = f"likeness {likeness:.2f}"
    if same < row:
        yield Finding(row, "copy-exact", partner=same)
        said = "the same pixels"
    else:
        yield Finding(row, "copy-near", said=said, partner=first)
    for name, values in facts.items():
        if values[row] != values[first]:
            words = f", {values[first]} and {values[row]}" if name == "split" else ""
            yield Finding(row, ACROSS[name], said=said + words, partner=first)


register(Duplicates())
