"""Label efficiency: the linear probe on 1, 5, 10, 25 and 100 % of the labelled training patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import (
    averaged,
    batches,
    counts,
    draw_of,
    linear,
    mean_of,
    measured,
    parts_of,
    probe_input,
    unmeasured,
)
from raddino.benchmark.checks import some
from raddino.benchmark.measure import Average, carriers
from raddino.errors import RaddinoError
from raddino.metrics.ranking import Floats
from raddino.metrics.scales import scale_of
from raddino.progress import track
from raddino.tasks.base import TASKS, Examples, Statistic
from raddino.tasks.probes import Request, fit_linear_probes, patient_shares

FRACTIONS = (0.01, 0.05, 0.1, 0.25, 1.0)
METRICS = {"binary": ("auroc", "auprc"), "regression": ("mae", "r2")}
NO_FIT = "no drawn share of the training patients has two values of the target"


@dataclass(frozen=True)
class Point:
    """One task at one fraction.

    Attributes:
        statistics: by draw of patients, then by metric; draws that could not be fitted are missing.
        images, patients: means over those draws.
    """

    statistics: dict[int, dict[str, Statistic]]
    images: float
    patients: float


def label_efficiency(context: Context, *, fractions: Sequence[float] = FRACTIONS) -> list[Row]:
    """What each encoder makes of few labels (evaluation.md, "Label-efficiency curve").

    Every seed draws its own patients, nested (those of 10 % are among those of 25 %), and fits the probe on them;
    rates, decays and temperatures are chosen on all validation images at every fraction. ``value`` is the mean of
    the seeds' single probes, not the value of their averaged outputs as in the main table, since that average would
    have seen more labels than the fraction says. ``seed_sd`` is the standard deviation over seeds, the interval is
    over test patients. A draw in which the target does not vary is not fitted; ``seeds`` counts those that were.

    Args:
        context: what was judged.
        fractions: of the labelled training patients, each above 0 and up to 1.
    """
    members = [group for group in batches(context) if group[0].config.kind in METRICS]
    examples = {one.config.name: one for group in members for one in group}
    parts = parts_of(context, examples)
    rows: list[Row] = []
    for encoder in context.scores:
        points: dict[tuple[str, float], Point] = {}
        for group in track(members, f"label efficiency {encoder}"):
            try:
                points |= _fit(context, encoder, group, fractions)
            except RaddinoError as error:
                fields = {"fraction": None, "seeds": 0}
                rows += [unmeasured(encoder, one.config.name, None, str(error), **fields) for one in group]
        fitted = {task for task, _ in points}
        for part in parts:
            if lacking := [task for task in part.tasks if task not in fitted]:
                if len(part.tasks) > 1:
                    reason = f"no value for {some(lacking)}"
                    rows.append(unmeasured(encoder, part.name, None, reason, fraction=None, seeds=0))
                continue
            for fraction in fractions:
                here = [points[task, fraction] for task in part.tasks]
                rows += _rows(context, encoder, part, [examples[task] for task in part.tasks], here, fraction)
    return rows


def _fit(
    context: Context, encoder: str, group: list[Examples], fractions: Sequence[float]
) -> dict[tuple[str, float], Point]:
    """The probes of all tasks on the same images at all fractions, in one fit."""
    first, config = group[0], linear(context)
    x = probe_input(context.features[encoder].take(first.rows), config)
    y = np.stack([one.target for one in group], axis=1)
    train, val, test = (first.at[split] for split in ("train", "val", "test"))
    shares = patient_shares(first.patients[train], fractions, config.seeds, context.seed)
    request = Request(TASKS[first.config.kind].loss, tuple(one.config.name for one in group), context.seed)
    probes = fit_linear_probes((x[train], y[train]), (x[val], y[val]), config, request, shares)
    points = {}
    for fraction, share, probe in zip(fractions, shares, probes, strict=True):
        outputs = [probe.predict(x[at]) for at in (val, test)]
        for label, one in enumerate(group):
            drawn = [seed for seed, part in enumerate(share) if len(np.unique(one.target[train][part])) > 1]
            found = {
                seed: TASKS[one.config.kind].statistics(one, *(output[seed, :, label] for output in outputs))
                for seed in drawn
            }
            images = [int(share[seed].sum()) for seed in drawn]
            patients = [len(set(first.patients[train][share[seed]])) for seed in drawn]
            sizes = (np.mean(images), np.mean(patients)) if drawn else (np.nan, np.nan)
            points[one.config.name, fraction] = Point(found, *map(float, sizes))
    return points


def _rows(
    context: Context, encoder: str, part: Average, examples: list[Examples], points: list[Point], fraction: float
) -> list[Row]:
    kind = examples[0].config.kind
    draws = sorted(set.intersection(*(set(point.statistics) for point in points)))
    if not draws:
        return [unmeasured(encoder, part.name, METRICS[kind][0], NO_FIT, fraction=fraction, seeds=0)]
    draw, rows = draw_of(context, examples), []
    n = len(np.unique(np.concatenate(draw.places)))
    for metric in METRICS[kind]:
        singles = [[point.statistics[one][metric] for one in draws] for point in points]
        by_seed: Floats = np.mean([[one.compute(None) for one in single] for single in singles], axis=0)
        sizes = counts(examples[0]) if len(examples) == 1 else {
            "n": n, "patients": draw.bootstrap.patients, "effective_n": carriers(examples, metric),
            "scale": scale_of(metric, averaged=True),
        }  # fmt: skip
        rows.append(measured(
            context, encoder, part.name, metric, float(np.mean(by_seed)),
            draw.distribution([mean_of(single) for single in singles]), **sizes, **averaged(part),
            variant=f"{100 * fraction:g} % of patients", fraction=fraction, aggregate=len(examples) > 1,
            seeds=len(draws), seed_sd=float(np.std(by_seed, ddof=1)) if len(draws) > 1 else None,
            train_images=float(np.mean([point.images for point in points])),
            train_patients=float(np.mean([point.patients for point in points])),
        ))  # fmt: skip
    return rows


ANALYSES.register("label_efficiency")(label_efficiency)
