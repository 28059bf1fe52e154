"""Subgroups: the value within each group of patients, the gap between best and worst, and what chance would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.groups import Attribute, attributes
from raddino.benchmark.analyses.rows import counts, distribution_on, draw_of, measured, restrict, unmeasured
from raddino.benchmark.cases import CaseScores, is_case_task
from raddino.benchmark.measure import Draw, Scores, carriers
from raddino.benchmark.results import LOWER_IS_BETTER
from raddino.metrics.comparison import holm
from raddino.metrics.permutation import permutation_gap, permuted_groups
from raddino.metrics.ranking import Floats
from raddino.metrics.scales import IDENTITY
from raddino.tasks.base import Examples, Statistic

MIN_PATIENTS, MIN_POSITIVES = 20, 10
UNDEFINED = "not defined on the images of this group"
METRICS = {
    "binary": ("auroc", "auprc", "sensitivity_at_specificity_90", "sensitivity_at_specificity_95"),
    "multiclass": ("accuracy",),
    "regression": ("mae",),
    "segmentation": ("dice",),
    "findings": ("chexbert_f1_14_micro", "rules_f1_14_micro", "rouge_l", "bleu_4"),
}
"""Averages over classes or findings are left out: a group may lack one of them, and its mean would be of others."""


def subgroups(context: Context) -> list[Row]:
    """Every task within each attribute that the manifest knows (:func:`~.groups.attributes`; evaluation.md).

    Rows of ``role`` ``"group"`` hold a group's value: thresholds are those that all validation images chose, and
    ``specificity_reached`` says what such a threshold gives inside the group. Rows of ``role`` ``"gap"`` hold the
    difference of ``best`` and ``worst`` group, never negative; its interval is that of the same two groups in the
    shared resamples. Of several groups one is always worst: ``expected`` is the median gap, and ``p`` counts gaps at
    least as large, when patients exchange the group labels of their images with patients alike
    (:func:`raddino.metrics.permutation.permuted_groups`); ``p_holm`` corrects over tasks, attributes and encoders
    within a metric. Groups of fewer than 20 patients or 10 positives are
    suppressed, and listed without their counts; so is an attribute of which the test images have one group only.
    """
    known = attributes(context.corpus.manifest)
    rows: list[Row] = []
    for examples in [*context.examples, *context.case_examples]:
        draw = draw_of(context, [examples])
        for attribute in known:
            if not attribute.is_target_of(examples.config):
                rows += _split(context, examples, attribute, draw)
    _adjust(rows)
    return rows


def suppression(examples: Examples, keep: np.ndarray) -> str:
    """Why the kept test images (N_test,) are too few to be reported as a group; empty when they are not."""
    at = examples.at["test"][keep]
    if len(set(examples.patients[at])) < MIN_PATIENTS:
        return f"fewer than {MIN_PATIENTS} patients"
    if examples.config.kind == "binary" and examples.target[at].sum() < MIN_POSITIVES:
        return f"fewer than {MIN_POSITIVES} positives"
    return ""


def _split(context: Context, examples: Examples, attribute: Attribute, draw: Draw) -> list[Row]:
    task, groups = examples.config.name, attribute.groups[examples.rows[examples.at["test"]]]
    names = sorted({group for group in groups if group is not None})
    if len(names) < 2:
        reason = (
            f"all test images of known {attribute.name} are of one group"
            if names
            else f"{attribute.name} is not known of any test image"
        )
        return [unmeasured(None, task, None, reason, attribute=attribute.name, group=None, role="suppressed")]
    reasons = {name: suppression(examples, groups == name) for name in names}
    rows = [
        unmeasured(None, task, None, reason, attribute=attribute.name, group=name, role="suppressed")
        for name, reason in reasons.items()
        if reason
    ]
    kept = {name: groups == name for name, reason in reasons.items() if not reason}
    for encoder, scores in _judged(context, examples).items():
        if task in scores and kept:
            rows += _measure(context, encoder, scores[task], attribute.name, kept, draw)
    return rows


def _judged(context: Context, examples: Examples) -> Mapping[str, Mapping[str, Scores | CaseScores]]:
    """By encoder and task, the scores of the probes, or the records of segmentation and findings."""
    return context.cases if is_case_task(examples.config) else context.scores


def _measure(
    context: Context, encoder: str, scores: Scores | CaseScores, attribute: str, kept: dict[str, np.ndarray], draw: Draw
) -> list[Row]:
    task, kind = scores.examples.config.name, scores.examples.config.kind
    rows, values, samples, carried = [], {}, {}, {}
    for name, keep in kept.items():
        part = restrict(scores, keep)
        statistics, carried[name] = part.statistics(), carriers([part.examples])
        for metric in _metrics(kind, statistics):
            compute = statistics[metric].compute
            value = float(compute(None))
            held = counts(part.examples)
            if not np.isfinite(value) or (metric == "auprc" and held["positives"] == held["n"]):
                positive = held["positives"] is not None and held["positives"] == held["n"]
                rows.append(unmeasured(
                    encoder, task, metric, "all images of this group are positive" if positive else UNDEFINED,
                    attribute=attribute, group=name, role="suppressed",
                ))  # fmt: skip
                continue
            values[metric, name] = value
            samples[metric, name] = distribution_on(draw, keep, compute)
            rows.append(measured(
                context, encoder, task, metric, value, samples[metric, name],
                variant=f"{attribute}={name}", protocol=scores.protocol, **held,
                attribute=attribute, group=name, role="group", **_reached(statistics[metric].detail),
            ))  # fmt: skip
    for metric in dict.fromkeys(metric for metric, _ in values):
        named = {name: value for (key, name), value in values.items() if key == metric}
        if len(named) > 1:
            drawn = {name: samples[metric, name] for name in named}
            chance = _by_chance(context, scores, metric, {name: kept[name] for name in named})
            rows.append(_gap(context, encoder, scores, attribute, metric, named, drawn, carried, chance))
    return rows


def _metrics(kind: str, statistics: Mapping[str, Statistic]) -> list[str]:
    """Those of :data:`METRICS` that the task has."""
    return [metric for metric in METRICS.get(kind, ()) if metric in statistics]


def _reached(detail: dict[str, Any]) -> dict[str, Any]:
    return {key: detail[key] for key in ("specificity_reached",) if key in detail}


def _gap(
    context: Context,
    encoder: str,
    scores: Scores | CaseScores,
    attribute: str,
    metric: str,
    values: dict[str, float],
    samples: dict[str, Floats],
    carried: dict[str, int],
    chance: tuple[float, float],
) -> Row:
    low, high = (pick(values, key=lambda name: values[name]) for pick in (min, max))
    best, worst = (low, high) if metric in LOWER_IS_BETTER else (high, low)
    gap = values[high] - values[low]
    expected, p = chance
    return measured(
        context, encoder, scores.examples.config.name, metric, gap, samples[high] - samples[low],
        variant=f"gap over {attribute}", scale=IDENTITY, protocol=scores.protocol,
        **counts(scores.examples) | {"effective_n": min(carried[low], carried[high])},
        attribute=attribute, group=None, role="gap", best=best, worst=worst,
        best_value=values[best], worst_value=values[worst], groups=len(values),
        expected=expected, p=p,
    )  # fmt: skip


def _by_chance(
    context: Context, scores: Scores | CaseScores, metric: str, kept: dict[str, np.ndarray]
) -> tuple[float, float]:
    """Median gap and p when labels of the kept groups, each (N_test,) of its images, are exchanged by patient."""
    inside = np.any(list(kept.values()), axis=0)
    part = restrict(scores, inside)
    examples, at = part.examples, part.examples.at["test"]
    groups = np.select([kept[name][inside] for name in kept], list(kept), default="")
    classes = examples.target[at] if examples.config.kind in ("binary", "multiclass") else None
    drawn = permuted_groups(groups, examples.patients[at], classes, context.resamples, context.seed)
    return permutation_gap(part.statistics()[metric].compute, groups, drawn)


def _adjust(rows: list[Row]) -> None:
    gaps = [row for row in rows if row["role"] == "gap"]
    for metric in {row["metric"] for row in gaps}:
        family = [row for row in gaps if row["metric"] == metric]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = float(p)


ANALYSES.register("subgroups")(subgroups)
