"""Nearest neighbours in feature space: the same search for the report and the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raddino.features.cache import FeatureSet
from raddino.features.extract import embed, rows_held
from raddino.tasks.retrieval.task import NOTHING, search

if TYPE_CHECKING:
    import pandas as pd

    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

K, MOST = 5, 2000
FRESH = 200
"""Images on either side, at most, whose features are computed for looking alone."""


@dataclass(frozen=True)
class Search:
    """Neighbours of many images.

    Attributes:
        asked: (Q,) corpus rows.
        stored: (G,) corpus rows that were searched.
        found: (Q, K) corpus rows, best first.
        cosine: (Q, K), ``-inf`` where fewer than K strangers are left.
        by_split: True where test images search the training images, False where all search all.
    """

    asked: np.ndarray
    stored: np.ndarray
    found: np.ndarray
    cosine: np.ndarray
    by_split: bool


@dataclass(frozen=True)
class Agreement:
    """How often the K nearest share the query's value, and how often images drawn at random would."""

    label: str
    share: float
    chance: float
    queries: int


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
        (Q, min(k, G)) indices into ``stored`` and their cosines, best first; ``-inf`` where fewer than k are left.
    """
    k = min(k, len(stored))
    order = search(queries, stored, k, np.asarray(query_patients), np.asarray(stored_patients))

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

    cosine = np.einsum("qd,qkd->qk", unit(np.asarray(queries, float)), unit(np.asarray(stored, float)[order]))
    cosine[order == NOTHING] = -np.inf
    return order, cosine


def held(corpus: Corpus, encoder: Encoder) -> tuple[str, np.ndarray]:
    """The precision in which the cache holds more features of this encoder, and their rows in order."""
    found = {precision: rows_held(corpus, encoder, precision) for precision in ("fp32", "bf16")}
    precision = max(found, key=lambda one: len(found[one]))
    return precision, found[precision]


def embedded(corpus: Corpus, encoder: Encoder, most: int, seed: int = 0) -> FeatureSet:
    """Features of up to ``most`` images, drawn among those that the cache holds.

    Where it holds fewer than 2 * :data:`K`, up to 2 * :data:`FRESH` are embedded.
    """
    precision, rows = held(corpus, encoder)
    if len(rows) < min(2 * K, len(corpus)):
        rows, most = np.arange(len(corpus)), min(most, 2 * FRESH)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    return embed(corpus, encoder, rows=rows, precision=precision)


def search_corpus(corpus: Corpus, encoder: Encoder, allowed: np.ndarray, draw: np.random.Generator) -> Search | None:
    """Search the training images for the neighbours of test images; None when the corpus is too small for it.

    Only images whose features an evaluation left in the cache take part, up to :data:`MOST` a side; where there are too
    few, :data:`FRESH` a side are embedded.

    Args:
        allowed: rows that may take part.
    """
    precision, kept = held(corpus, encoder)
    asked, stored, by_split = _sides(corpus, np.intersect1d(allowed, kept))
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
    return Search(asked, stored, stored[found], cosine, by_split)


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
