"""Coverage of the 95 % intervals and sizes of the tests, counted on simulated test sets whose truth is known.

A setting says how many patients, how many images each at most, and what is planted; images of one patient are
correlated. The truth is the metric of 100,000 images. Each replicate draws a test set, resamples its patients, and
asks whether the interval holds the truth and what p the tests give where nothing differs.

    python benchmarks/coverage.py --out docs/results/coverage

Rows are kept as they come; the same command continues after the settings that the files hold.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import beta, norm

from raddino.metrics import calibration, clinical, multiclass, ranking, regression
from raddino.metrics.bootstrap import PatientBootstrap, interval
from raddino.metrics.comparison import delong_p, holm, paired_randomisation_p, unpaired_interval
from raddino.metrics.permutation import permutation_gap, permuted_groups
from raddino.metrics.scales import (
    carriers_of_average,
    defined_patients,
    effective_patients,
    scale_of,
)
from raddino.progress import track
from raddino.tasks.base import Statistic

Floats = np.ndarray
LARGE = 100_000
FINDINGS = 8
SEED = 2026


def quick_auroc(target: Floats, score: Floats, weights: Floats | None = None) -> Floats:
    """:func:`raddino.metrics.ranking.auroc` of many weightings (R, N) of few images, as one matrix product."""
    if weights is None:
        return ranking.auroc(target, score)
    positive, w = np.asarray(target) == 1, weights.astype(np.float32)
    ours, others = score[positive], score[~positive, None]
    won = w[:, ~positive] @ ((others < ours) + 0.5 * (others == ours)).astype(np.float32)
    found, missed = w[:, positive], w[:, ~positive].sum(-1, dtype=float)
    return ranking.ratio((won.astype(float) * found).sum(-1), found.sum(-1, dtype=float) * missed)


def quick_auprc(target: Floats, score: Floats, weights: Floats | None = None) -> Floats:
    """:func:`raddino.metrics.ranking.auprc`, as :func:`quick_auroc`."""
    if weights is None:
        return ranking.auprc(target, score)
    positive, w = np.asarray(target) == 1, weights.astype(np.float32)
    above = (score[:, None] >= score[positive]).astype(np.float32)
    found = w[:, positive]
    precision = np.divide(found @ above[positive], np.maximum(w @ above, 1))
    return ranking.ratio((found * precision).sum(-1, dtype=float), found.sum(-1, dtype=float))


@dataclass(frozen=True)
class Sample:
    """A test set under one system and under another.

    Attributes:
        patients: (N,) of the images.
        ours, theirs: statistics by metric of either system.
        classes: (N,) each, whose rarest carries the metrics; none of masks, reports and numbers.
        findings: (N, L) of reports, which carry a macro F1.
    """

    patients: Floats
    ours: dict[str, Statistic]
    theirs: dict[str, Statistic] = field(default_factory=dict)
    classes: Sequence[Floats] = ()
    findings: Floats | None = None

    def carriers(self, metric: str, difference: bool = False) -> int:
        """Patients that carry a metric, as ``evaluate`` counts them."""
        if self.classes:
            each = [effective_patients(self.patients, one) for one in self.classes]
            return carriers_of_average("" if difference else metric, each)
        if self.findings is not None and metric.endswith("_macro"):
            each = [len(np.unique(self.patients[one == 1])) for one in self.findings.T]
            return carriers_of_average(metric, [m for m in each if m])
        return (
            effective_patients(self.patients)
            if "r2" in self.ours
            else defined_patients(self.patients, self.ours[metric].compute)
        )


def people(rng: np.random.Generator, patients: int, most: int) -> Floats:
    """(N,) patient of each image; one to ``most`` images each."""
    return np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))


def spread(rng: np.random.Generator, patient: Floats) -> Floats:
    """(N,) standard normal, correlated by a half within a patient."""
    return np.sqrt(0.5) * (rng.normal(size=patient.max() + 1)[patient] + rng.normal(size=len(patient)))


def ill(rng: np.random.Generator, patient: Floats, prevalence: float, also: Floats | float = 0) -> Floats:
    """(N,) 0 and 1, correlated within a patient, and by 0.3 with findings of the same ``also`` (N,)."""
    liability = np.sqrt(0.7) * spread(rng, patient) + np.sqrt(0.3) * also if np.ndim(also) else spread(rng, patient)
    return (liability > norm.ppf(1 - prevalence)).astype(float)


def binary(rng: np.random.Generator, patients: int, most: int, prevalence: float, ours: float, theirs: float) -> Sample:
    """A finding, and scores of two systems that lift it by ``ours`` and ``theirs`` standard deviations."""
    patient = people(rng, patients, most)
    y, shared = ill(rng, patient, prevalence), spread(rng, patient)
    sides = []
    for effect in (ours, theirs):
        s = effect * y + np.sqrt(0.5) * (shared + spread(rng, patient))
        probability = expit(1.3 * (effect * s - effect**2 / 2) + np.log(prevalence / (1 - prevalence)))
        sides.append(
            {
                "auroc": Statistic.of(quick_auroc, y, s, ranks=True),
                "auprc": Statistic.of(quick_auprc, y, s, ranks=True),
                "sensitivity_at_specificity_90": Statistic.of(
                    partial(ranking.sensitivity, threshold=1), y, (s > norm.ppf(0.9)).astype(float)
                ),
                "brier": Statistic.of(calibration.brier, y, probability),
                "ece": Statistic.of(calibration.expected_calibration_error, y, probability),
            }
        )
    return Sample(patient, *sides, classes=[y])


def averaged(
    rng: np.random.Generator,
    patients: int,
    most: int,
    findings: int,
    common: float,
    rare: float,
    ours: float,
    theirs: float,
) -> Sample:
    """The mean over findings, from a common one to a rare one, on the same images."""
    patient = people(rng, patients, most)
    shared, sick = spread(rng, patient), spread(rng, patient)
    targets = [ill(rng, patient, one, sick) for one in np.geomspace(common, rare, findings)]
    sides = []
    for effect in (ours, theirs):
        scores = [effect * y + np.sqrt(0.5) * (shared + spread(rng, patient)) for y in targets]
        outputs, target = np.stack(scores, 1), np.stack(targets, 1)
        sides.append({
            name: Statistic.of(partial(_mean_over_findings, metric), target, outputs, ranks=True)
            for name, metric in (("auroc", quick_auroc), ("auprc", quick_auprc))
        })  # fmt: skip
    return Sample(patient, *sides, classes=targets)


def _mean_over_findings(
    metric: Callable[..., Floats], target: Floats, output: Floats, weights: Floats | None
) -> Floats:
    return np.mean([metric(y, s, weights) for y, s in zip(target.T, output.T, strict=True)], axis=0)


def classes(rng: np.random.Generator, patients: int, most: int, rarest: float, ours: float, theirs: float) -> Sample:
    """One of three classes, of which one has a share of ``rarest``."""
    patient = people(rng, patients, most)
    place = norm.cdf(spread(rng, patient))
    y = np.digitize(place, [rarest, rarest + (1 - rarest) / 3]).astype(float)
    shared = np.stack([spread(rng, patient) for _ in range(3)], 1)
    sides = []
    for effect in (ours, theirs):
        s = effect * np.eye(3)[y.astype(int)] + np.sqrt(0.5) * (shared + rng.normal(size=(len(y), 3)))
        sides.append({
            "accuracy": Statistic.of(multiclass.accuracy, y, s),
            "balanced_accuracy": Statistic.of(partial(multiclass.balanced_accuracy, classes=range(3)), y, s),
            "auroc_macro_ovr": Statistic.of(partial(_one_against_rest, quick_auroc), y, s, ranks=True),
            "auprc_macro_ovr": Statistic.of(partial(_one_against_rest, quick_auprc), y, s, ranks=True),
        })  # fmt: skip
    return Sample(patient, *sides, classes=[y])


def _one_against_rest(metric: Callable[..., Floats], target: Floats, output: Floats, weights: Floats | None) -> Floats:
    return np.mean([metric(target == one, output[:, one], weights) for one in range(3)], axis=0)


def numbers(rng: np.random.Generator, patients: int, most: int, slope: float, tail: float, other: float) -> Sample:
    """Ages and two predictions that follow them by ``slope`` and ``other``; errors of ``tail`` degrees of freedom."""
    patient = people(rng, patients, most)
    age = 50 + 15 * rng.normal(size=patients)[patient]
    heavy = np.sqrt((tail - 2) / rng.chisquare(tail, patients))[patient]
    shared, edges = spread(rng, patient), 50 + 15 * norm.ppf([0.25, 0.5, 0.75])
    sides = []
    for follows in (slope, other):
        error = 8 * heavy * np.sqrt(0.5) * (shared + spread(rng, patient))
        predicted = 50 + follows * (age - 50) + error
        sides.append({
            "mae": Statistic.of(regression.mae, age, predicted),
            "r2": Statistic.of(regression.r2, age, predicted),
            "auroc_binned": Statistic.of(partial(_above_edges, edges), age, predicted, ranks=True),
        })  # fmt: skip
    return Sample(patient, *sides)


def _above_edges(edges: Floats, target: Floats, output: Floats, weights: Floats | None) -> Floats:
    return np.mean([quick_auroc(target > edge, output, weights) for edge in edges], axis=0)


def masks(
    rng: np.random.Generator, patients: int, most: int, empty: float, missed: float, mean: float, better: float
) -> Sample:
    """Dice of images of which a share has an empty mask and a share of the others is missed (Dice 0)."""
    patient = people(rng, patients, most)
    absent, shared = ill(rng, patient, empty) == 1 if empty else np.zeros(len(patient), bool), spread(rng, patient)
    sides = []
    for level in (mean, better):
        found = beta.ppf(norm.cdf(np.sqrt(0.5) * (shared + spread(rng, patient))), 6 * level, 6 * (1 - level))
        found[rng.random(len(patient)) < missed] = 0
        alarm = rng.random(len(patient)) < 0.25
        dice = np.where(absent, np.where(alarm, 0, np.nan), found)
        distance = np.where(
            absent | (found == 0), np.nan, np.exp(2 + 0.9 * np.sqrt(0.5) * (shared + spread(rng, patient)))
        )
        values = {
            "dice": dice,
            "dice_nonempty": np.where(absent, np.nan, found),
            "iou": dice / (2 - dice),
            "hd95": distance,
        } | ({"false_alarm_rate": np.where(absent, alarm, np.nan)} if empty else {})
        sides.append({name: Statistic.of(_mean, np.zeros(len(patient)), value) for name, value in values.items()})
    return Sample(patient, *sides)


def _mean(_: Floats, values: Floats, weights: Floats | None) -> Floats:
    there = np.isfinite(values).astype(float)
    w = np.ones(len(values)) if weights is None else weights
    return ranking.ratio(w @ np.nan_to_num(values), w @ there)


def reports(rng: np.random.Generator, patients: int, most: int, sees: float, invents: float, better: float) -> Sample:
    """Eight findings of 3 to 40 %, named with a sensitivity and a false-alarm rate; and a ROUGE."""
    patient = people(rng, patients, most)
    prevalence, sick = np.geomspace(0.4, 0.03, FINDINGS), spread(rng, patient)
    y = np.stack([ill(rng, patient, one, sick) for one in prevalence], 1)
    sides = []
    for found in (sees, better):
        said = np.where(y == 1, rng.random(y.shape) < found, rng.random(y.shape) < invents * prevalence).astype(float)
        counts = clinical.label_counts(y, said)
        like = norm.cdf(spread(rng, patient))
        rouge = beta.ppf(like, 2 * found, 2) * (rng.random(len(patient)) > 0.1)
        nothing = np.zeros(len(patient))
        sides.append({
            "rules_f1_14_micro": Statistic.of(partial(_of_sums, clinical.f1_micro), nothing, counts),
            "rules_f1_14_macro": Statistic.of(partial(_of_sums, clinical.f1_macro), nothing, counts),
            "rules_f1 (common)": Statistic.of(partial(_of_sums, _single), nothing, counts[:, :1]),
            "rules_f1 (rare)": Statistic.of(partial(_of_sums, _single), nothing, counts[:, 4:5]),
            "rouge_l": Statistic.of(_mean, nothing, rouge),
        })  # fmt: skip
    return Sample(patient, *sides, findings=y)


def _single(sums: Floats) -> Floats:
    return clinical.f1_where_present(sums)[..., 0]


def _of_sums(combine: Callable[[Floats], Floats], _: Floats, values: Floats, weights: Floats | None) -> Floats:
    return combine(np.tensordot(np.ones(len(values)) if weights is None else weights, values, axes=1))


World = Callable[..., Sample]
WORLDS: dict[str, tuple[World, tuple[tuple[Any, ...], ...]]] = {
    "binary": (binary, (
        (60, 1, 0.5, 1.0, 1.6), (60, 4, 0.3, 1.0, 0.6), (100, 1, 0.2, 1.5, 1.0), (100, 4, 0.12, 1.0, 1.4),
        (150, 3, 0.3, 0.5, 1.0), (200, 1, 0.08, 2.1, 1.6), (200, 2, 0.08, 1.0, 1.4), (250, 2, 0.4, 0.2, 0.5),
        (300, 2, 0.1, 2.1, 1.5), (400, 1, 0.25, 1.5, 1.3), (1000, 1, 0.08, 1.2, 1.5),
        (120, 2, 0.4, 1.0, 1.3), (150, 1, 0.25, 1.0, 1.3), (200, 3, 0.2, 0.7, 1.0), (300, 1, 0.15, 1.2, 0.9),
        (400, 2, 0.06, 1.4, 1.7), (500, 1, 0.3, 1.0, 1.2), (600, 2, 0.1, 0.8, 1.0), (800, 1, 0.2, 1.7, 1.5),
    )),
    "aggregate": (averaged, (
        (60, 2, 3, 0.5, 0.25, 1.0, 1.4), (80, 1, 3, 0.4, 0.2, 1.5, 1.0), (100, 2, 5, 0.3, 0.15, 0.5, 1.0),
        (100, 4, 3, 0.3, 0.1, 1.0, 1.3), (150, 1, 14, 0.4, 0.08, 1.5, 1.8), (150, 3, 5, 0.2, 0.08, 1.0, 0.7),
        (200, 1, 8, 0.3, 0.06, 2.1, 1.7), (200, 2, 3, 0.4, 0.2, 0.2, 0.5), (300, 1, 14, 0.3, 0.04, 1.0, 1.2),
        (400, 1, 5, 0.5, 0.08, 1.5, 1.4),
        (120, 2, 3, 0.4, 0.15, 1.2, 1.0), (250, 2, 5, 0.3, 0.1, 1.0, 1.2), (300, 2, 3, 0.5, 0.2, 0.7, 1.0),
        (400, 1, 14, 0.3, 0.05, 1.2, 1.4), (500, 1, 8, 0.3, 0.06, 0.8, 1.0), (600, 1, 5, 0.2, 0.08, 1.5, 1.3),
    )),
    "multiclass": (classes, (
        (60, 1, 0.33, 1.0, 1.5), (60, 3, 0.25, 1.5, 1.0), (100, 1, 0.2, 2.0, 1.5), (100, 4, 0.15, 0.5, 1.0),
        (150, 2, 0.12, 1.5, 1.7), (150, 1, 0.33, 0.2, 0.5), (200, 2, 0.1, 2.0, 1.8), (200, 1, 0.1, 1.0, 1.3),
        (300, 1, 0.2, 1.5, 1.4), (400, 1, 0.1, 1.0, 1.1),
        (120, 2, 0.3, 1.0, 1.3), (200, 3, 0.2, 1.5, 1.2), (300, 2, 0.15, 0.7, 1.0), (400, 1, 0.33, 1.0, 1.2),
        (500, 2, 0.1, 1.2, 1.0), (600, 1, 0.2, 2.0, 1.9),
    )),
    "regression": (numbers, (
        (60, 1, 0.5, 30, 0.7), (60, 4, 0.7, 30, 0.5), (60, 2, 0.3, 8, 0.5), (100, 1, 0.8, 8, 0.7),
        (100, 4, 0.5, 30, 0.6), (150, 2, 0.1, 30, 0.3), (200, 3, 0.9, 8, 0.8), (300, 1, 0.6, 30, 0.7),
        (300, 2, 0.4, 8, 0.3), (400, 1, 0.9, 30, 0.95),
        (120, 2, 0.6, 30, 0.5), (200, 1, 0.5, 30, 0.7), (250, 3, 0.7, 30, 0.8), (400, 2, 0.3, 30, 0.5),
        (500, 1, 0.8, 8, 0.7), (600, 2, 0.6, 30, 0.5),
    )),
    "segmentation": (masks, (
        (60, 1, 0.0, 0.05, 0.9, 0.85), (60, 3, 0.3, 0.2, 0.7, 0.75),
        (80, 1, 0.5, 0.3, 0.5, 0.6), (100, 2, 0.0, 0.02, 0.95, 0.94),
        (100, 4, 0.5, 0.1, 0.8, 0.7), (150, 1, 0.8, 0.4, 0.3, 0.4),
        (200, 2, 0.2, 0.1, 0.85, 0.87), (300, 1, 0.0, 0.0, 0.93, 0.92),
        (300, 3, 0.8, 0.3, 0.6, 0.65), (400, 1, 0.4, 0.2, 0.75, 0.7),
        (100, 1, 0.3, 0.1, 0.8, 0.75), (150, 3, 0.6, 0.2, 0.7, 0.6), (200, 1, 0.5, 0.1, 0.9, 0.88),
    )),
    "findings": (reports, (
        (60, 1, 0.7, 0.5, 0.5), (60, 3, 0.5, 0.5, 0.6), (100, 1, 0.9, 0.1, 0.8), (100, 2, 0.6, 0.3, 0.7),
        (150, 1, 0.6, 0.5, 0.8), (200, 2, 0.8, 0.3, 0.75), (200, 1, 0.4, 0.5, 0.5), (300, 2, 0.45, 0.5, 0.55),
        (300, 1, 0.7, 0.2, 0.65), (400, 1, 0.6, 0.5, 0.65),
        (250, 1, 0.7, 0.3, 0.6), (300, 3, 0.6, 0.5, 0.7), (400, 2, 0.5, 0.3, 0.6), (500, 1, 0.7, 0.5, 0.75),
        (600, 1, 0.5, 0.5, 0.55), (600, 2, 0.8, 0.2, 0.75), (800, 1, 0.6, 0.3, 0.7), (1000, 1, 0.7, 0.4, 0.65),
    )),
}  # fmt: skip
"""Simulated test sets and their settings: patients, most images a patient, and the arguments of the function."""


def coverage(
    name: str, replicates: int, resamples: int, done: Collection[tuple[str, str]] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of one setting and metric: share of replicates covered, by the rule and by percentiles; mean widths.

    A metric stands for the first system, ``difference of`` for the second less the first, ``drop of`` for the first
    less the second on the patients of the replicate before.

    Args:
        name: of the world.
        replicates, resamples: how many.
        done: pairs of a world and a setting that are left out.
    """
    world, settings = WORLDS[name]
    for setting in track(settings, f"coverage {name}"):
        if (name, _said(setting)) in done:
            continue
        truth, seen = _truth(world, setting), defaultdict(list)
        elsewhere: dict[str, tuple[float, tuple[float, float], Floats]] = {}
        for replicate in range(replicates):
            sample = world(np.random.default_rng([SEED, replicate, *map(int, setting[:2])]), *setting)
            draw = PatientBootstrap(sample.patients, resamples, replicate)
            for metric in sample.ours:
                one, two = (float(side[metric].compute(None)) for side in (sample.ours, sample.theirs))
                m, n, scale = sample.carriers(metric), len(sample.patients), scale_of(metric, name == "aggregate")
                if not np.isfinite([one, two]).all() or m < 2:
                    continue
                drawn, others = (draw.distribution(side[metric].compute) for side in (sample.ours, sample.theirs))
                here, there = (interval(*side, m, scale, n) for side in ((one, drawn), (two, others)))
                first, second = truth[metric]
                bounds = here.low, here.high
                seen[metric].append(_held(bounds, first, drawn))
                paired = interval(two - one, others - drawn, sample.carriers(metric, difference=True))
                seen[f"difference of {metric}"].append(_held((paired.low, paired.high), second - first, others - drawn))
                if metric in elsewhere:
                    other, other_bounds, before = elsewhere[metric]
                    drop = unpaired_interval(one, bounds, other, other_bounds)
                    seen[f"drop of {metric}"].append(_held(drop, first - second, drawn - before))
                elsewhere[metric] = two, (there.low, there.high), others
        for kind, found in seen.items():
            covered, width, before_covered, before_width = np.array(found, dtype=float).mean(0)
            yield {
                "what": name, "metric": kind, "setting": _said(setting), "replicates": len(found), "covered": covered,
                "width": width, "percentile covered": before_covered, "percentile width": before_width,
            }  # fmt: skip


def _said(setting: tuple[Any, ...]) -> str:
    return " ".join(map(str, setting))


def _held(bounds: tuple[float, float], truth: float, samples: Floats) -> tuple[float, ...]:
    low, high = np.quantile(samples[np.isfinite(samples)], [0.025, 0.975])
    return bounds[0] <= truth <= bounds[1], bounds[1] - bounds[0], low <= truth <= high, high - low


def _truth(world: World, setting: tuple[Any, ...]) -> dict[str, tuple[float, float]]:
    large = world(np.random.default_rng(12345), LARGE, 1, *setting[2:])
    return {
        name: (float(one.compute(None)), float(large.theirs[name].compute(None))) for name, one in large.ours.items()
    }


def sizes(
    name: str, replicates: int, resamples: int, done: Collection[tuple[str, str]] = ()
) -> Iterator[dict[str, Any]]:
    """Rows of one setting and metric: how often p < 0.05 and p < 0.2 where two systems are equal."""
    world, settings = WORLDS[name]
    for setting in track(settings[::2][:4], f"sizes {name}"):
        if (name, _said(setting)) in done:
            continue
        equal = _equal(name, setting)
        found: dict[str, list[float]] = {}
        for replicate in range(replicates):
            sample = world(np.random.default_rng([SEED, replicate, 77, *map(int, setting[:2])]), *equal)
            for metric, ours in sample.ours.items():
                theirs = sample.theirs[metric]
                if name == "binary" and metric == "auroc":
                    p = delong_p(sample.classes[0], ours.outputs, theirs.outputs, sample.patients)
                    found.setdefault("auroc, DeLong", []).append(p)
                p = paired_randomisation_p(ours.beside(theirs), sample.patients, resamples, replicate)
                found.setdefault(f"{metric}, randomisation", []).append(p)
        yield from _rejected(name, setting, found)


def _equal(name: str, setting: tuple[Any, ...]) -> tuple[Any, ...]:
    """The setting with the second system as good as the first."""
    first = {"regression": 2, "segmentation": 4, "findings": 2}.get(name, len(setting) - 2)
    return (*setting[:-1], setting[first])


GAPS = (
    (80, 2, 2, "patient"), (100, 1, 3, "patient"), (100, 3, 4, "patient"), (200, 1, 2, "patient"),
    (100, 3, 2, "image"), (150, 4, 3, "image"), (150, 2, 2, "prevalence"), (200, 1, 2, "prevalence"),
)  # fmt: skip
"""Patients, most images a patient, groups, and what a group is drawn by: patient, image, or patient with more positives
in one group; scores given the finding are the same in all."""


def gaps(replicates: int, resamples: int, done: Collection[tuple[str, str]] = ()) -> Iterator[dict[str, Any]]:
    """Rows of subgroup gaps: two to four groups with one AUROC, permuted by patient."""
    for setting in track(GAPS, "sizes of gaps"):
        if ("subgroups", _said(setting)) in done:
            continue
        patients, most, groups, by = setting
        found: dict[str, list[float]] = {}
        for replicate in range(replicates):
            rng = np.random.default_rng([SEED, replicate, 78, patients])
            sample = binary(rng, patients, most, 0.35, 1.0, 1.0)
            y, s = sample.classes[0], sample.ours["auroc"].outputs
            group = (
                rng.integers(0, groups, len(y)) if by == "image" else rng.integers(0, groups, patients)[sample.patients]
            )
            if by == "prevalence":
                sick = np.maximum.reduceat(y, np.flatnonzero(np.diff(sample.patients, prepend=-1)))
                group = (rng.random(patients) < np.where(sick == 1, 0.7, 0.4)).astype(int)[sample.patients]
            drawn = permuted_groups(group, sample.patients, y, resamples, replicate)
            for metric, function in (("auroc", quick_auroc), ("auprc", quick_auprc)):
                p = permutation_gap(partial(function, y, s), group, drawn)[1]
                found.setdefault(
                    f"{metric}, gap over groups{' of other prevalence' * (by == 'prevalence')}", []
                ).append(p)
        yield from _rejected("subgroups", setting, found)


def families(replicates: int, done: Collection[tuple[str, str]] = ()) -> Iterator[dict[str, Any]]:
    """Rows of Holm's correction: how often any of a family is below the level where nothing differs."""
    for setting in track(((60, 2, 3), (100, 1, 5), (100, 3, 10), (200, 1, 5)), "sizes of families"):
        if ("families", _said(setting)) in done:
            continue
        patients, most, members = setting
        smallest = []
        for replicate in range(replicates):
            rng = np.random.default_rng([SEED, replicate, 79, patients])
            patient = people(rng, patients, most)
            p = []
            for _ in range(members):
                y, shared = ill(rng, patient, 0.3), spread(rng, patient)
                a, b = (y + np.sqrt(0.5) * (shared + spread(rng, patient)) for _ in range(2))
                p.append(delong_p(y, a, b, patient))
            smallest.append(float(holm(p).min()))
        yield from _rejected("families", setting, {"auroc, DeLong, any of a family after Holm": smallest})


def _rejected(name: str, setting: tuple[Any, ...], found: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    for test, p in found.items():
        values = np.array(p)[np.isfinite(p)]
        yield {
            "what": name, "test": test, "setting": _said(setting), "replicates": len(values),
            "p < 0.05": (values < 0.05).mean(), "p < 0.2": (values < 0.2).mean(),
        }  # fmt: skip


def coverage_table(rows: pd.DataFrame) -> str:
    """Markdown: a line a metric, over its settings."""
    lines = [
        "| 95 % interval of | settings | covers: mean | least to most | within 95 ± 1.5 | percentiles: mean | "
        "least | width to theirs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (what, metric), part in rows.groupby(["what", "metric"], sort=False):
        c, near = 100 * part["covered"], (part["covered"] - 0.95).abs() <= 0.015 + 1e-9
        ratio = (part["width"] / part["percentile width"]).mean()
        before = 100 * part["percentile covered"]
        lines.append(
            f"| {what}: {metric} | {len(part)} | {c.mean():.1f} | {c.min():.1f} to {c.max():.1f} | {near.sum()} | "
            f"{before.mean():.1f} | {before.min():.1f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


def size_table(rows: pd.DataFrame) -> str:
    """Markdown: a line a test, over its settings."""
    lines = [
        "| p of | settings | p < 0.05: mean | least to most | p < 0.2: mean | least to most |",
        "|---|---|---|---|---|---|",
    ]
    for (what, test), part in rows.groupby(["what", "test"], sort=False):
        five, twenty = 100 * part["p < 0.05"], 100 * part["p < 0.2"]
        lines.append(
            f"| {what}: {test} | {len(part)} | {five.mean():.1f} | {five.min():.1f} to {five.max():.1f} | "
            f"{twenty.mean():.1f} | {twenty.min():.1f} to {twenty.max():.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=[*WORLDS, "subgroups", "families"], default=None)
    parser.add_argument("--skip", choices=("coverage", "sizes"), default=None)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for coverage.csv and sizes.csv")
    options = parser.parse_args()
    chosen = options.only or [*WORLDS, "subgroups", "families"]
    options.out.mkdir(parents=True, exist_ok=True)
    start, amount = time.perf_counter(), (options.replicates, options.resamples)
    for name, rows_of, table in (("coverage", coverage, coverage_table), ("sizes", _sizes, size_table)):
        file = options.out / f"{name}.csv"
        kept = pd.read_csv(file).to_dict("records") if file.is_file() else []
        done = {(row["what"], row["setting"]) for row in kept}
        for what in () if name == options.skip else chosen:
            for row in rows_of(what, *amount, done) if name == "sizes" or what in WORLDS else ():
                kept.append(row)
                pd.DataFrame(kept).to_csv(file, index=False, float_format="%.4g")
        if kept:
            print(table(pd.DataFrame(kept)) + "\n")
    print(f"{options.replicates} replicates, {options.resamples} resamples, {time.perf_counter() - start:.0f} s")


def _sizes(name: str, replicates: int, resamples: int, done: Collection[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    if name == "families":
        return families(replicates, done)
    return gaps(replicates, resamples, done) if name == "subgroups" else sizes(name, replicates, resamples, done)


if __name__ == "__main__":
    main()
