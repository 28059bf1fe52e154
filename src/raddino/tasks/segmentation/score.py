"""How well one image is segmented, as numbers, and every metric of a set of images from them.

**Several classes, some of them empty.** Each class of each image has a Dice by the rule of the metric's name, or none.
An image's value is the unweighted mean over the classes that have one; an image without any is left out; the metric is
the weighted mean over the images left. So

* ``dice``, ``iou``: classes that are in the true or the predicted mask; a false alarm counts 0;
* ``dice_nonempty``: classes that are in the true mask;
* ``dice_all``: all classes; one that is in neither mask counts 1;
* ``surface_dice``: classes with a border in either mask; in one alone counts 0;
* ``hd95`` (pixels, lower is better): classes with a border in both masks, blind to misses and false alarms;
* ``false_alarm_rate`` (lower is better) goes the other way about: for each class, the share of the images without it in
  which some of it is predicted; then the unweighted mean over the classes that some image is without;
* ``dice (name)``: of several classes each by itself, by the rule of ``dice``.

Ignored pixels belong to no mask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from raddino.metrics import overlap
from raddino.metrics.ranking import Floats, ratio
from raddino.tasks.cases import Compute
from raddino.tasks.segmentation.targets import IGNORE, Bits

COUNTS = ("intersection", "predicted", "true")
SURFACE = ("surface_dice", "hd95")


def score_case(predicted: Bits, true: Bits, names: Sequence[str], tolerance: float) -> dict[str, float]:
    """Pixel counts and surface agreement of every class of one image.

    Args:
        predicted, true: (H, W) int32, see :mod:`raddino.tasks.segmentation.targets`; pixels that ``true`` ignores
            count nowhere.
        names: of the classes, bit 0 first.
        tolerance: pixels within which surfaces agree.

    Returns:
        For each class ``intersection (name)``, ``predicted (name)``, ``true (name)`` in pixels, ``surface_dice (name)``
        and ``hd95 (name)``; the last two NaN where not defined.

    Raises:
        ValueError: shapes differ.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"masks of shapes {predicted.shape} and {true.shape} cannot be compared")
    ignored = true & IGNORE != 0
    record: dict[str, float] = {}
    for position, name in enumerate(names):
        p, t = ((bits >> position & 1).astype(bool) & ~ignored for bits in (predicted, true))
        distances = overlap.surface_distances(p, t, ignored)
        far = overlap.hausdorff_95(*distances)
        values = ((p & t).sum(), p.sum(), t.sum(), overlap.surface_dice(*distances, tolerance))
        numbers = (*map(float, values), far if np.isfinite(far) else float("nan"))
        record |= {f"{kind} ({name})": number for kind, number in zip(COUNTS + SURFACE, numbers, strict=True)}
    return record


def statistics(records: pd.DataFrame) -> dict[str, Compute]:
    """Every metric of the images, ``dice`` first, as a function of their weights; see the module for definitions.

    Args:
        records: one :func:`score_case` a row.
    """
    names = [found[1] for column in records if (found := re.fullmatch(r"true \((.*)\)", str(column)))]
    tables = {
        kind: records[[f"{kind} ({name})" for name in names]].to_numpy(dtype=np.float64) for kind in COUNTS + SURFACE
    }
    counts = [tables[kind] for kind in COUNTS]
    dice, alarms = overlap.dice(*counts), overlap.false_alarm(tables["predicted"], tables["true"])
    result: dict[str, Compute] = {
        "dice": _of_images(dice),
        "dice_nonempty": _of_images(overlap.dice_nonempty(*counts)),
        "dice_all": _of_images(overlap.dice_all(*counts)),
        "iou": _of_images(overlap.iou(*counts)),
        "false_alarm_rate": partial(_mean_of_classes, alarms),
        **{kind: _of_images(tables[kind]) for kind in SURFACE},
    }
    if len(names) > 1:
        result |= {f"dice ({name})": partial(_mean, dice[:, c]) for c, name in enumerate(names)}
    return result


def _of_images(values: Floats) -> Compute:
    return partial(_mean, _over_classes(values))


def _over_classes(values: Floats) -> Floats:
    """Mean over the last axis of what is defined; NaN where nothing is."""
    return ratio(np.nansum(values, axis=-1), np.isfinite(values).sum(-1))


def _mean(values: Floats, weights: Floats | None) -> Floats:
    """Weighted means (..., C) over the images of values (N, C), or (...) of (N,), of what is defined."""
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    return ratio(w @ np.nan_to_num(values), w @ np.isfinite(values).astype(np.float64))


def _mean_of_classes(values: Floats, weights: Floats | None) -> Floats:
    return _over_classes(_mean(values, weights))
