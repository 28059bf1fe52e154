"""Retrieval by cosine of image embeddings: exact search without the query's own patient, precision and AP at k.

An image is relevant to a query when it has the finding that is asked for. Where images carry one label each that is
"the same class"; where they carry several, each finding is a retrieval task of its own, with the images that have it
as queries, and images whose value is not known are neither queries nor in the gallery.
"""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np

from raddino.errors import ConfigError, RaddinoError
from raddino.metrics.ranking import Floats

Engine = Literal["auto", "exact", "faiss"]
CHUNK_CELLS = 16_000_000
NOTHING = -1


def search(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    query_patients: np.ndarray,
    gallery_patients: np.ndarray,
    engine: Engine = "auto",
) -> np.ndarray:
    """The ``k`` gallery images of the highest cosine to each query, best first, none of the query's own patient.

    Args:
        queries: (Q, D) embeddings.
        gallery: (G, D) embeddings; a zero vector has cosine 0 with everything.
        k: at least 1; may exceed G.
        query_patients, gallery_patients: (Q,) and (G,) names.
        engine: ``"exact"`` (matrix product), ``"faiss"`` (``IndexFlatIP``, exact too), or ``"auto"``: faiss where
            it is installed. Both return the same images up to rounding of equal cosines.

    Returns:
        (Q, k) int64 positions in the gallery; -1 where fewer than k images are left.

    Raises:
        ConfigError: ``k`` below 1, or an unknown engine.
        RaddinoError: faiss was asked for and is not installed.
    """
    if k < 1:
        raise ConfigError(f"retrieval needs k of at least 1, got {k}")
    if engine not in ("auto", "exact", "faiss"):
        raise ConfigError(f"unknown search engine {engine!r}: use auto, exact or faiss")
    installed = importlib.util.find_spec("faiss") is not None
    if engine == "faiss" and not installed:
        raise RaddinoError("faiss is not installed: pip install faiss-cpu, or search with engine='exact'")
    result = np.full((len(queries), k), NOTHING, dtype=np.int64)
    if not len(queries) or not len(gallery):
        return result
    _, codes = np.unique(np.concatenate([query_patients, gallery_patients]).astype(str), return_inverse=True)
    owner, owned = codes[: len(queries)], codes[len(queries) :]
    find = _faiss if engine != "exact" and installed else _exact
    found = find(_unit(queries), _unit(gallery), min(k, len(gallery)), owner, owned)
    result[:, : found.shape[1]] = found
    return result


def precision_at_k(relevant: np.ndarray, k: int) -> Floats:
    """Share of relevant images among the first ``k``, (Q,); a list that is shorter than ``k`` misses the rest.

    Args:
        relevant: (Q, K) bool, the ranked images, False where there is none.
        k: at least 1.
    """
    return relevant[:, :k].sum(1) / k


def average_precision_at_k(relevant: np.ndarray, total: np.ndarray, k: int) -> Floats:
    """AP@k (Q,): the sum of precision@i over relevant ranks i <= k, over the number that could be there.

    That number is min(k, relevant images in the gallery), so that a perfect list scores 1 (Manning, Raghavan and
    Schuetze 2008, section 8.4, cut at k). NaN for a query to which nothing is relevant.

    Args:
        relevant: (Q, K) bool, the ranked images, False where there is none.
        total: (Q,) relevant images in the query's gallery.
        k: at least 1.
    """
    first = relevant[:, :k]
    precision = np.cumsum(first, axis=1) / np.arange(1, first.shape[1] + 1)
    possible = np.minimum(total, k).astype(np.float64)
    return np.where(possible > 0, (first * precision).sum(1) / np.maximum(possible, 1), np.nan)


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _exact(queries: np.ndarray, gallery: np.ndarray, k: int, owner: np.ndarray, owned: np.ndarray) -> np.ndarray:
    rows = max(1, CHUNK_CELLS // len(gallery))
    found = []
    for start in range(0, len(queries), rows):
        cosine = queries[start : start + rows] @ gallery.T
        cosine[owner[start : start + rows, None] == owned] = -np.inf
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        left = np.take_along_axis(cosine, order, axis=1) > -np.inf
        found.append(np.where(left, order, NOTHING))
    return np.concatenate(found)


def _faiss(queries: np.ndarray, gallery: np.ndarray, k: int, owner: np.ndarray, owned: np.ndarray) -> np.ndarray:
    """Search deeper by the most images that one patient has, then drop the query's own."""
    import faiss

    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    deeper = min(len(gallery), k + int(np.bincount(owned).max()))
    _, order = index.search(queries, deeper)
    foreign = owned[order] != owner[:, None]
    kept = np.argsort(~foreign, axis=1, kind="stable")[:, :k]
    left = np.take_along_axis(foreign, kept, axis=1)
    return np.where(left, np.take_along_axis(order, kept, axis=1), NOTHING)
