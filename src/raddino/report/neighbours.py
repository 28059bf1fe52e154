"""Nearest neighbours in feature space: does the encoder put like beside like?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.report.gallery import eight_bit, facts, showable
from raddino.report.style import data_uri

if TYPE_CHECKING:
    import pandas as pd

    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

K, QUERIES, SIDE, MOST = 5, 6, 300, 2000
FRESH = 200
"""Images on either side, at most, whose features are computed for the report alone."""
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
class Agreement:
    """How often the K nearest share the query's value, and how often images drawn at random would."""

    label: str
    share: float
    chance: float
    queries: int


@dataclass(frozen=True)
class Retrieval:
    """A few queries, each with its K neighbours, and the agreement over all queries.

    ``by_split`` is True where test images search the training images, False where all search all.
    """

    queries: list[tuple[Shown, list[Shown]]]
    agreement: list[Agreement]
    searched: int
    by_split: bool


def nearest(
    queries: np.ndarray,
    stored: np.ndarray,
    query_patients: np.ndarray,
    stored_patients: np.ndarray,
    k: int = K,
) -> tuple[np.ndarray, np.ndarray]:
    """The k stored images of the highest cosine, never one of the query's own patient.

    Args:
        queries, stored: (Q, D) and (G, D) features. query_patients, stored_patients: (Q,) and (G,) names.

    Returns:
        (Q, k) indices into ``stored`` and their cosines, best first; ``-inf`` where fewer than k are left.
    """

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    cosine = unit(np.asarray(queries, float)) @ unit(np.asarray(stored, float)).T
    cosine[np.asarray(query_patients)[:, None] == np.asarray(stored_patients)[None]] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosine, order, axis=1)


def retrieve(corpus: Corpus, encoder: Encoder, targets: Sequence[str], seed: int = 0) -> Retrieval | None:
    """Search the training images for the neighbours of test images; None when the corpus is too small for it.

    Only images whose features an evaluation left in the cache take part, up to :data:`MOST` a side; where there are too
    few, :data:`FRESH` a side are embedded.

    Args:
        targets: manifest columns whose values are compared, for example ``"label_pneumonia"`` or ``"sex"``.
    """
    from raddino.features.extract import embed, rows_held

    draw, allowed = np.random.default_rng(seed), showable(corpus)
    held = {precision: rows_held(corpus, encoder, precision) for precision in ("fp32", "bf16")}
    precision = max(held, key=lambda one: len(held[one]))
    asked, stored, by_split = _sides(corpus, np.intersect1d(allowed, held[precision]))
    most = MOST
    if len(stored) <= K or not len(asked):
        (asked, stored, by_split), most = _sides(corpus, allowed), FRESH
    asked, stored = (np.sort(draw.permutation(rows)[:most]) for rows in (asked, stored))
    if len(stored) <= K:
        return None
    rows = np.union1d(asked, stored)
    features = np.asarray(embed(corpus, encoder, rows=rows, precision=precision).cls)
    at = {int(row): i for i, row in enumerate(rows)}
    patients = corpus.manifest["patient"].to_numpy()
    found, cosine = nearest(
        features[[at[int(row)] for row in asked]], features[[at[int(row)] for row in stored]],
        patients[asked], patients[stored],
    )  # fmt: skip
    found = stored[found]
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
        by_split,
    )


def _sides(corpus: Corpus, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Who asks and who is searched among the rows, and whether these are the test and the training images."""
    asked, stored = (np.intersect1d(rows, corpus.rows(split=name)) for name in ("test", "train"))
    by_split = bool(len(asked)) and len(stored) > K
    return (asked, stored, True) if by_split else (rows, rows, False)


def agreement(
    values: pd.Series, asked: np.ndarray, found: np.ndarray, stored: np.ndarray, target: str
) -> Agreement | None:
    """Share of neighbours with the query's value, for 0/1 labels over positive queries; None without a pair.

    Args:
        values: the label of every corpus row. asked: (Q,) rows. found: (Q, K) rows. stored: (G,) rows.
    """

    known, every = values.notna().to_numpy(), values.to_numpy()
    binary = set(every[known].tolist()) <= {0, 1}
    counted = known[asked] & (every[asked] == 1) if binary else known[asked]
    pairs = counted[:, None] & known[found]
    if not pairs.any():
        return None
    same = every[asked][:, None] == every[found]
    asked_of, stored_of = (values.iloc[rows].value_counts(normalize=True) for rows in (asked[counted], stored))
    chance = float(asked_of.mul(stored_of, fill_value=0).sum())
    return Agreement(readable(target), float(same[pairs].mean()), chance, int(pairs.any(axis=1).sum()))


def readable(target: str) -> str:
    """``label_pleural_effusion`` as a person writes it."""
    return target.removeprefix("label_").replace("_", " ")


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
