"""What a findings writer has to beat: other patients' images, the nearest training report, one report for everybody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from raddino.errors import RaddinoError
from raddino.metrics.ranking import Floats
from raddino.tasks.retrieval.task import search


def derangement(patients: np.ndarray, seed: int) -> np.ndarray:
    """A permutation (N,) that gives every image one of another patient.

    Args:
        patients: (N,) patient of each image.
        seed: of the draw.

    Raises:
        RaddinoError: one patient has more than half of the images.
    """
    names, codes, counts = np.unique(patients.astype(str), return_inverse=True, return_counts=True)
    n, most = len(patients), int(counts.max(initial=0))
    if 2 * most > n:
        raise RaddinoError(f"one patient has {most} of {n} images, so images cannot be exchanged between patients")
    rng = np.random.default_rng([seed, 1])
    order = np.lexsort((rng.permutation(n), rng.permutation(len(names))[codes]))
    given = np.empty(n, dtype=np.int64)
    given[order] = np.roll(order, -most)
    return given


def nearest_texts(
    queries: np.ndarray,
    gallery: np.ndarray,
    texts: Sequence[str],
    query_patients: np.ndarray,
    gallery_patients: np.ndarray,
) -> list[str]:
    """The text of the gallery image with the highest cosine to each query, none of the query's own patient.

    Args:
        queries: (Q, D) CLS features. gallery: (G, D), with ``texts`` (G).
    """
    found = search(queries, gallery, 1, query_patients, gallery_patients, engine="exact")[:, 0]
    return [texts[at] if at >= 0 else "" for at in found]


def best_constant(texts: Sequence[str], labels: Floats) -> str:
    """The training text whose micro F1 is highest when it is given for every training image.

    Of texts that assert the same findings the most frequent one is taken, then the first in the alphabet.

    Args:
        texts: N training texts.
        labels: (N, L) of 1 present, 0 absent, -1 uncertain (counted as negative), NaN not mentioned.

    Raises:
        ValueError: there is no text.
    """
    if not len(texts):
        raise ValueError("no training text to take the prior from")
    present = (labels == 1).astype(np.float64)
    hits = present @ present.sum(0)
    said = len(texts) * present.sum(1) + present.sum()
    f1 = np.divide(2 * hits, said, out=np.zeros_like(hits), where=said > 0)
    times = Counter(texts)
    return min(zip(-f1, (-times[one] for one in texts), texts, strict=True))[-1]
