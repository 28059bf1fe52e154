"""Which scale a metric's interval is made on, and how many patients carry its information."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from raddino.metrics.ranking import Floats

Function = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Scale:
    """A monotone map on which resampled values spread evenly about the measured one.

    Attributes:
        name: for signatures.
        low, high: ends of the metric's range.
        forward, back: to the scale and from it; ``forward`` rises or falls throughout.
        unbiased: whether the resamples' median stands about the value as the value about the truth. Where it does not
            (an error that noise can only enlarge), the interval is moved back by what resampling moved it.
    """

    name: str
    low: float
    high: float
    forward: Function
    back: Function
    unbiased: bool = True


IDENTITY = Scale("identity", -np.inf, np.inf, lambda x: x, lambda z: z)
LOGIT = Scale("logit", 0.0, 1.0, logit, expit)
LOG = Scale("log", 0.0, np.inf, np.log, np.exp)
COMPLEMENT = Scale("log(1 - x)", -np.inf, 1.0, lambda x: np.log1p(-x), lambda z: -np.expm1(z))
FISHER = Scale("atanh", -1.0, 1.0, np.arctanh, np.tanh)
SQUARE = Scale("square", 0.0, 1.0, np.square, lambda z: np.sqrt(np.maximum(z, 0)), unbiased=False)

_BY_NAME = {
    **dict.fromkeys(("mae", "rmse", "hd95", "brier", "brier_temperature"), LOG),
    **dict.fromkeys(("ece", "ece_temperature"), SQUARE),
    **dict.fromkeys(("cosine", "cosine_same", "cosine_stranger"), FISHER),
    **dict.fromkeys(("length", "length_reference"), LOG),
    "r2": COMPLEMENT,
}
_SHARES = (
    "accuracy", "auprc", "auroc", "balanced_accuracy", "bleu", "dice", "distinct", "empty", "false_alarm_rate", "iou",
    "map@", "meteor", "precision", "radgraph", "reliability", "repetition", "rouge", "sensitivity", "specificity",
    "surface_dice", "verbatim",
)  # fmt: skip


def scale_of(metric: str) -> Scale:
    """The scale of a metric by the name that results call it; of one that is not known, the identity.

    Args:
        metric: for example ``"auroc"``, ``"dice (heart)"`` or ``"rules_f1_14_micro"``.
    """
    if metric in _BY_NAME:
        return _BY_NAME[metric]
    return LOGIT if metric.startswith(_SHARES) or "_f1" in metric else IDENTITY


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


def method(scale: Scale) -> str:
    """What a signature says of an interval."""
    return f"patient bootstrap, t, scale {scale.name}"
