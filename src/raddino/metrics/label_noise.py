"""Labels that a model which did not see them would not give: the rule of confident learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from raddino.metrics.ranking import Floats


@dataclass(frozen=True)
class Suspects:
    """What :func:`suspect_labels` finds.

    Attributes:
        suspect: (N,) whether the label is doubted.
        suggested: (N,) class that is held for true; the given one where none is confident.
        margin: (N,) probability of the suggested class minus that of the given one, 0..1; 0 of labels not doubted.
        thresholds: (K,) mean probability of each class over the images that carry it.
    """

    suspect: np.ndarray
    suggested: np.ndarray
    margin: Floats
    thresholds: Floats


def suspect_labels(given: ArrayLike, probability: ArrayLike) -> Suspects:
    """The confident joint's off-diagonal (Northcutt, Jiang and Chuang 2021, section 3.1).

    A class is confident where its probability is at least its mean over the images that carry it, so that a class on
    which the model is shy is held to less. The most probable of the confident classes is held for true, the given one
    where several are; a label is suspect where that is another class.

    Args:
        given: (N,) positions of classes.
        probability: (N, K) of models that saw neither the image nor another of its patient.

    Raises:
        ValueError: shapes differ, a probability is outside 0..1, or a class has no image.
    """
    label, p = np.asarray(given, dtype=np.int64), np.asarray(probability, dtype=np.float64)
    if p.ndim != 2 or label.shape != p.shape[:1]:
        raise ValueError(f"labels {label.shape} and probabilities {p.shape} do not belong together")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability lies outside 0..1")
    counts = np.bincount(label, minlength=p.shape[1])
    if len(counts) > p.shape[1] or not counts.all():
        raise ValueError(f"classes have {', '.join(map(str, counts))} images; each of {p.shape[1]} needs one")
    thresholds = np.array([p[label == one, one].mean() for one in range(p.shape[1])])
    confident = p >= thresholds - 1e-12
    row, held = np.arange(len(label)), np.where(confident, p, -1)
    suggested = np.where(held[row, label] >= held.max(1), label, held.argmax(1))
    suspect = suggested != label
    return Suspects(suspect, suggested, np.where(suspect, p[row, suggested] - p[row, label], 0.0), thresholds)
