"""A report describes a study: one image stands for it, in training and in every count."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

VIEWS = ("PA", "AP", None, "LATERAL")
"""Which view stands for a study where there are several, the first that there is; None for any other."""
FURTHER, REPEATED = "further image of its study", "same patient and text as another image, study not told"
"""Why an image is left out."""


def one_a_study(frame: pd.DataFrame, texts: Iterable[str]) -> tuple[np.ndarray, dict[str, int]]:
    """Which images stand for their studies.

    Images with one value in the column ``study`` are one study's; where it is not told, those of one patient with one
    text. An image of neither study nor patient stands alone. Of several the first of :data:`VIEWS` is taken, then the
    first by ``id``, whatever the order of the rows.

    Args:
        frame: rows of a corpus manifest, N.
        texts: (N,) of their reports.

    Returns:
        (N,) bool, and counts of those left out by reason.
    """
    told = frame.reindex(columns=["id", "patient", "study", "view"]).astype(object)
    keys = [
        (patient, study) if pd.notna(study) else (patient, None, text) if pd.notna(patient) else (None, None, at)
        for at, (patient, study, text) in enumerate(zip(told["patient"], told["study"], texts, strict=True))
    ]
    ranks = [VIEWS.index(view if view in VIEWS else None) for view in told["view"]]
    chosen: dict[tuple[object, ...], int] = {}
    for at in sorted(range(len(keys)), key=lambda at: (ranks[at], str(told["id"].iloc[at]))):
        chosen.setdefault(keys[at], at)
    kept = np.zeros(len(keys), dtype=bool)
    kept[list(chosen.values())] = True
    further = told["study"].notna().to_numpy(bool)
    return kept, {FURTHER: int((~kept & further).sum()), REPEATED: int((~kept & ~further).sum())}
