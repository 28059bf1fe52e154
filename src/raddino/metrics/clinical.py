"""F1 of findings that a labeler reads in a reference and in a hypothesis, for one weighting of reports or for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from raddino.metrics.ranking import Floats, ratio

FINDINGS_14 = (
    "no_finding", "enlarged_cardiomediastinum", "cardiomegaly", "lung_opacity", "lung_lesion", "edema",
    "consolidation", "pneumonia", "atelectasis", "pneumothorax", "pleural_effusion", "pleural_other", "fracture",
    "support_devices",
)  # fmt: skip
"""The observations of CheXpert (Irvin et al., AAAI 2019, table 1)."""
FINDINGS_5 = ("atelectasis", "cardiomegaly", "consolidation", "edema", "pleural_effusion")
Uncertain = Literal["negative", "positive"]


def label_matrix(found: Sequence[Mapping[str, int]], names: Sequence[str] = FINDINGS_14) -> Floats:
    """(N, L) labels in the order of ``names`` from one mapping a report; NaN for what it does not mention.

    Raises:
        ValueError: a mapping names something else.
    """
    matrix = np.full((len(found), len(names)), np.nan)
    column = {name: at for at, name in enumerate(names)}
    for row, labels in enumerate(found):
        for name, value in labels.items():
            if name not in column:
                raise ValueError(f"{name!r} is none of the {len(names)} findings")
            matrix[row, column[name]] = value
    return matrix


def label_counts(reference: ArrayLike, hypothesis: ArrayLike, uncertain: Uncertain = "negative") -> Floats:
    """What F1 counts in each report.

    Args:
        reference: (N, L) of 1 present, 0 absent, -1 uncertain, NaN not mentioned.
        hypothesis: likewise, columns in the same order.
        uncertain: what -1 counts as; what is absent or not mentioned is negative.

    Returns:
        (N, L, 3) true positives, false positives, false negatives, whose sums over reports the other functions take.

    Raises:
        ValueError: shapes differ, or a label is something else.
    """
    wanted, given = np.asarray(reference, dtype=np.float64), np.asarray(hypothesis, dtype=np.float64)
    if wanted.ndim != 2 or wanted.shape != given.shape:
        raise ValueError(f"labels {wanted.shape} of references and {given.shape} of hypotheses do not belong together")
    for labels in (wanted, given):
        if not (np.isin(labels, (1, 0, -1)) | np.isnan(labels)).all():
            raise ValueError("a label is none of 1, 0, -1 and NaN")
    present = (1, -1) if uncertain == "positive" else (1,)
    true, said = np.isin(wanted, present), np.isin(given, present)
    return np.stack([true & said, ~true & said, true & ~said], axis=-1).astype(np.float64)


def f1_each(sums: ArrayLike) -> Floats:
    """(..., L) F1 of each finding from summed counts (..., L, 3), 0..1; 0 where nothing was present nor said."""
    true, false, missed = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    return np.nan_to_num(ratio(2 * true, 2 * true + false + missed))


def f1_macro(sums: ArrayLike) -> Floats:
    """(...) unweighted mean of :func:`f1_each`; scikit-learn's ``average="macro", zero_division=0``."""
    return f1_each(sums).mean(-1)


def f1_micro(sums: ArrayLike) -> Floats:
    """(...) F1 of the counts of all findings together; scikit-learn's ``average="micro", zero_division=0``."""
    return f1_each(np.asarray(sums, dtype=np.float64).sum(-2))


def f1_where_present(sums: ArrayLike) -> Floats:
    """(..., L) as :func:`f1_each`, but NaN where no reference has the finding: it cannot be found there."""
    counts = np.asarray(sums, dtype=np.float64)
    return np.where(counts[..., 0] + counts[..., 2] > 0, f1_each(counts), np.nan)


def finding_table(sums: ArrayLike, names: Sequence[str] = FINDINGS_14) -> dict[str, dict[str, float]]:
    """Per finding: ``support`` (references with it), ``said`` (hypotheses with it), ``precision``, ``recall``, ``f1``.

    Args:
        sums: (L, 3) counts summed over reports.
        names: of the L findings.

    Returns:
        By finding; a share whose denominator is 0 is NaN.
    """
    counts = np.asarray(sums, dtype=np.float64)
    true, false, missed = counts.T
    columns = {
        "support": true + missed,
        "said": true + false,
        "precision": ratio(true, true + false),
        "recall": ratio(true, true + missed),
        "f1": f1_where_present(counts),
    }
    rows = {name: {column: float(values[at]) for column, values in columns.items()} for at, name in enumerate(names)}
    return rows
