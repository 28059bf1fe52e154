"""Which scale a metric's interval is made on, and how many patients carry its information."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from raddino.metrics.clinical import FINDINGS_5, FINDINGS_14
from raddino.metrics.ranking import Floats

CHUNK_CELLS = 4_000_000
Function = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Scale:
    """A monotone map on which resampled values spread evenly about the measured one.

    Attributes:
        name: for signatures.
        low, high: ends of the metric's range.
        forward, back: to the scale and from it; ``forward`` rises or falls throughout.
        unbiased: whether the resamples' median stands about the value as the value about the truth. Where it does not
            (an error that noise can only enlarge, an average that keeps its members' bias and loses their spread),
            the interval is moved back by what resampling moved it.
        counted: whether the metric is a share of cases, whose variance follows from the share: the quantile is then the
            normal one, with nothing added for few patients.
        smooth: whether the spread is the resamples' standard deviation instead of half of their 16-to-84 % range, which
            resamples that pile up at an end of the scale leave alone.
    """

    name: str
    low: float
    high: float
    forward: Function
    back: Function
    unbiased: bool = True
    counted: bool = False
    smooth: bool = False


IDENTITY = Scale("identity", -np.inf, np.inf, lambda x: x, lambda z: z, smooth=True)
LOGIT = Scale("logit", 0.0, 1.0, logit, expit)
SHARE = Scale("logit of a share", 0.0, 1.0, logit, expit, counted=True)
BIASED_LOGIT = Scale("logit, moved back", 0.0, 1.0, logit, expit, unbiased=False, smooth=True)
LOG = Scale("log", 0.0, np.inf, np.log, np.exp, smooth=True)
COMPLEMENT = Scale("log(1 - x)", -np.inf, 1.0, lambda x: np.log1p(-x), lambda z: -np.expm1(z), smooth=True)
FISHER = Scale("atanh", -1.0, 1.0, np.arctanh, np.tanh)
SQUARE = Scale("square", 0.0, 1.0, np.square, lambda z: np.sqrt(np.maximum(z, 0)), unbiased=False)

_BY_NAME = {
    **dict.fromkeys(("mae", "rmse", "hd95", "brier", "brier_temperature"), LOG),
    **dict.fromkeys(("ece", "ece_temperature"), SQUARE),
    **dict.fromkeys(("cosine", "cosine_same", "cosine_stranger"), FISHER),
    **dict.fromkeys(("length", "length_reference"), LOG),
    "r2": COMPLEMENT,
}
_COUNTED = ("accuracy", "empty", "false_alarm_rate", "npv", "ppv", "sensitivity", "specificity", "verbatim")
_UNIT = (
    "auprc", "auroc", "balanced_accuracy", "bleu", "dice", "distinct", "iou", "map@", "meteor", "precision", "radgraph",
    "reliability", "repetition", "rouge", "surface_dice",
)  # fmt: skip


_BIASED_AVERAGE = re.compile(r"auprc_macro_ovr|\w+_f1_\d+\+?_macro")
_SINGLE_F1 = re.compile(r"\w+_f1 \(.+\)")
_MACRO_F1 = re.compile(r"(\w+)_f1_(5|14)\+?_macro")


def scale_of(metric: str, averaged: bool = False) -> Scale:
    """The scale of a metric by the name that results call it; of one that is not known, the identity.

    Args:
        metric: for example ``"auroc"``, ``"dice (heart)"`` or ``"rules_f1_14_micro"``.
        averaged: over tasks.
    """
    if (averaged and metric == "auprc") or _BIASED_AVERAGE.fullmatch(metric):
        return BIASED_LOGIT
    if metric in _BY_NAME:
        return _BY_NAME[metric]
    if metric.startswith(_COUNTED) or _SINGLE_F1.fullmatch(metric):
        return SHARE
    return LOGIT if metric.startswith(_UNIT) or "_f1" in metric else IDENTITY


def effective_patients(patients: ArrayLike, classes: ArrayLike | None = None, least: int = 1) -> int:
    """Patients that carry a metric: those of the rarest class, or all where there are no classes.

    Args:
        patients: (N,) of each image.
        classes: (N,) class of each image, None where no class is rarer than another.
        least: classes with fewer images do not count.
    """
    _, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    if classes is None:
        return int(member.max(initial=-1)) + 1
    names, counts = np.unique(np.asarray(classes), return_counts=True)
    found = (len(np.unique(member[np.asarray(classes) == name])) for name in names[counts >= least])
    return min(found, default=0)


def defined_patients(patients: ArrayLike, compute: Callable[[Floats], Floats]) -> int:
    """Patients whose own images define a metric: those with the finding, or with a border to measure a distance to.

    Args:
        patients: (N,) of each image.
        compute: from image weights (P, N) to values (P,), NaN where not defined.
    """
    names, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    rows = max(1, CHUNK_CELLS // max(1, len(member)))
    starts = range(0, len(names), rows)
    chunks = [np.arange(at, min(at + rows, len(names)))[:, None] == member for at in starts]
    return sum(int(np.isfinite(compute(chunk.astype(np.float64))).sum()) for chunk in chunks)


def carriers_of_average(metric: str, members: Sequence[int]) -> int:
    """Patients that carry an average: the harmonic mean of its members' (poor ones weigh most).

    Of AUPRC it is the least of them, and of F1, whose poor members are many, what gives the degrees of freedom of
    Satterthwaite 1946 where a member's variance is as one through its patients.

    Args:
        metric: that is averaged; nothing for a difference of averages over tasks.
        members: patients that carry each.
    """
    if len(members) < 2 or "auprc" in metric or not all(members):
        return min(members, default=0)
    inverse = 1 / np.array(members)
    return int(inverse.sum() ** 2 / (inverse**3).sum() if "f1" in metric else len(members) / inverse.sum())


def carriers_of_case(metric: str, statistics: Mapping[str, Callable[[Floats], Floats]], patients: ArrayLike) -> int:
    """Patients that carry a metric of masks or reports: those who define it, of a macro F1 the findings' average.

    Args:
        metric: one of ``statistics``.
        statistics: every metric of the task as a function of image weights.
        patients: (N,) of each image.
    """
    if not (macro := _MACRO_F1.fullmatch(metric)):
        return defined_patients(patients, statistics[metric])
    names = FINDINGS_5 if macro[2] == "5" else FINDINGS_14
    each = (defined_patients(patients, statistics[f"{macro[1]}_f1 ({name})"]) for name in names)
    return carriers_of_average(metric, [m for m in each if m])


def method(scale: Scale) -> str:
    """What a signature says of an interval."""
    return f"patient bootstrap, {'normal' if scale.counted else 't'}, scale {scale.name}"
