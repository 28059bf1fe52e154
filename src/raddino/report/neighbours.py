"""Nearest neighbours in feature space: does the encoder put like beside like?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.look.neighbours import Agreement, agreement, readable, search_corpus
from raddino.look.shown import eight_bit, facts, showable
from raddino.report.style import data_uri

if TYPE_CHECKING:
    import pandas as pd

    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

QUERIES, SIDE = 6, 300
ALL_MARKS = 3  # with more labels than this, those that are 0 in both images are not written out


@dataclass(frozen=True)
class Mark:
    """A label of an image in words; ``agrees`` with the query's, None for the query itself."""

    text: str
    agrees: bool | None


@dataclass(frozen=True)
class Shown:
    """One image of the grid."""

    image: str
    caption: str
    marks: list[Mark]
    similarity: float | None = None


@dataclass(frozen=True)
class Retrieval:
    """A few queries, each with its K neighbours, and the agreement over all queries.

    ``by_split`` is True where test images search the training images, False where all search all.
    """

    queries: list[tuple[Shown, list[Shown]]]
    agreement: list[Agreement]
    searched: int
    by_split: bool


def retrieve(corpus: Corpus, encoder: Encoder, targets: Sequence[str], seed: int = 0) -> Retrieval | None:
    """Search the training images for the neighbours of test images; None when the corpus is too small for it.

    The search is :func:`raddino.look.neighbours.search_corpus`, among :func:`~raddino.look.shown.showable` images.

    Args:
        targets: manifest columns whose values are compared, for example ``"label_pneumonia"`` or ``"sex"``.
    """
    draw = np.random.default_rng(seed)
    search = search_corpus(corpus, encoder, showable(corpus), draw)
    if search is None:
        return None
    asked, stored, found, cosine = search.asked, search.stored, search.found, search.cosine
    targets = [target for target in dict.fromkeys(targets) if target in corpus.manifest]
    chosen = _choose(corpus.manifest.iloc[asked], targets, draw)
    return Retrieval(
        [
            (
                _shown(corpus, int(asked[i]), targets),
                [
                    _shown(corpus, int(row), targets, int(asked[i]), float(near))
                    for row, near in zip(found[i], cosine[i], strict=True)
                    if np.isfinite(near)
                ],
            )
            for i in chosen
        ],
        [part for target in targets if (part := agreement(corpus.manifest[target], asked, found, stored, target))],
        len(stored),
        search.by_split,
    )


def _choose(asked: pd.DataFrame, targets: list[str], draw: Any) -> list[int]:
    """Queries in turn from the positives of each label, then from all; never two of one patient."""
    order = draw.permutation(len(asked))
    turns = [[i for i in order if asked[target].iloc[i] == 1] for target in targets] + [list(order)]
    chosen: list[int] = []
    patients: set[Any] = set()
    for i in (pool[turn] for turn in range(len(asked)) for pool in turns if turn < len(pool)):
        patient = asked["patient"].iloc[i]
        if patient not in patients and len(chosen) < QUERIES:
            chosen.append(int(np.int64(i)))
            patients.add(patient)
    return chosen


def _shown(
    corpus: Corpus, row: int, targets: list[str], query: int | None = None, similarity: float | None = None
) -> Shown:
    line = corpus.manifest.iloc[row]
    marks = []
    for target in targets:
        value = line[target]
        other = corpus.manifest[target].iloc[query] if query is not None else value
        quiet = len(targets) > ALL_MARKS and value == 0 and other == 0
        if not (_known(value) and _known(other)) or quiet:
            continue
        marks.append(Mark(_words(target, value), bool(value == other) if query is not None else None))
    return Shown(data_uri(eight_bit(corpus.read(row)), SIDE), facts(corpus, row, omit=targets), marks, similarity)


def _known(value: Any) -> bool:
    return value is not None and value == value


def _words(target: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{readable(target)} {value}"
    return {1.0: readable(target), 0.0: f"no {readable(target)}"}.get(float(value), f"{readable(target)} {value:g}")
