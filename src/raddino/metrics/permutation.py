"""Permutation of group labels by patient, and the p of the gap between groups that it gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from raddino.metrics.ranking import Floats

CHUNK_CELLS = 4_000_000


def permuted_groups(
    groups: ArrayLike, patients: ArrayLike, classes: ArrayLike | None = None, permutations: int = 1000, seed: int = 0
) -> np.ndarray:
    """(B, N) group of each image when patients exchange the labels of all their images.

    Patients exchange with those alike: as many images, and as many of each class, whose labels stay with the class. So
    images of a patient move together, and each group keeps its numbers of images and of each class. A patient like no
    other keeps its labels.

    Args:
        groups: (N,) names or codes.
        patients: (N,) of the images.
        classes: (N,) of the images; None where no class is told apart.
        permutations: B.
        seed: of the draw.
    """
    _, code = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    _, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    kind = np.zeros(len(code)) if classes is None else np.asarray(classes, dtype=np.float64)
    order = np.lexsort((np.arange(len(code)), kind, member))
    blocks: dict[tuple[float, ...], list[np.ndarray]] = {}
    for block in np.split(order, np.flatnonzero(np.diff(member[order])) + 1):
        blocks.setdefault(tuple(kind[block]), []).append(block)
    rng = np.random.default_rng([seed, len(code)])
    drawn = np.tile(code, (permutations, 1))
    for key in sorted(blocks):
        alike = np.stack(blocks[key])  # (patients, images)
        moved = rng.random((permutations, len(alike))).argsort(1)
        drawn[:, alike] = code[alike][moved]
    return drawn


def permutation_gap(metric: Callable[[Floats], Floats], groups: ArrayLike, drawn: np.ndarray) -> tuple[float, float]:
    """How large a gap between groups is when their labels say nothing, and p of the gap as it is.

    p = (k + 1) / (B + 1), where k counts permutations whose gap, largest value of a group minus smallest, is at least
    as large; those in which a group has no value are left out.

    Args:
        metric: from weights (..., N) of the images to values (...).
        groups: (N,) as they are.
        drawn: (B, N) of :func:`permuted_groups`.

    Returns:
        Median gap of the permutations, NaN where none has one, and p; 1 where none has one.
    """
    names, code = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    whole = np.concatenate([code[None], drawn])
    rows = max(1, CHUNK_CELLS // max(1, len(code)))
    parts = [whole[at : at + rows] for at in range(0, len(whole), rows)]
    values = np.concatenate(
        [np.stack([metric((part == one).astype(np.float64)) for one in range(len(names))]) for part in parts], axis=1
    )
    observed, *gaps = np.ptp(values, axis=0)
    chance = np.array(gaps)[np.isfinite(gaps)]
    extreme = (chance >= observed - 1e-12).sum()
    return float(np.median(chance)) if len(chance) else float("nan"), float((extreme + 1) / (len(chance) + 1))
