"""Probe outputs to rows of results: value, interval, spread over seeds, difference, signature."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raddino.benchmark.cases import CaseScores, both_metrics
from raddino.metrics.bootstrap import PatientBootstrap, interval
from raddino.metrics.comparison import delong_p, holm, paired_randomisation_p
from raddino.metrics.ranking import Floats
from raddino.metrics.scales import carriers_of_average, carriers_of_case, effective_patients, method, scale_of
from raddino.metrics.signature import Signature
from raddino.tasks.base import TASKS, Examples, Statistic
from raddino.tasks.cases import Compute

AGGREGATED = ("auprc", "auroc")
DELONG = "DeLong, clustered by patient"
PAIRED_RANDOMISATION = "paired approximate randomisation over patients"


@dataclass(frozen=True)
class Scores:
    """Outputs of the probes of one encoder on one task.

    Attributes:
        examples: of the task.
        val: (S, N_val) outputs of S seeds, (S, N_val, T) of T classes.
        test: (S, N_test), (S, N_test, T).
        chosen: kind of the probe and the hyperparameters that validation chose.
        linear: weights (D, T) and biases (T,) that give the output averaged over seeds, of probes that are such a map.
    """

    examples: Examples
    val: Floats
    test: Floats
    chosen: dict[str, Any]
    linear: tuple[np.ndarray, np.ndarray] | None = None

    protocol = ""

    @property
    def seeds(self) -> int:
        """How many were trained."""
        return len(self.test)

    def statistics(self, seed: int | None = None) -> dict[str, Statistic]:
        """Statistics of one seed, or of the output averaged over seeds."""
        val, test = (part.mean(0) if seed is None else part[seed] for part in (self.val, self.test))
        return TASKS[self.examples.config.kind].statistics(self.examples, val, test)


@dataclass(frozen=True)
class Draw:
    """Resampled patients behind the test images of one task or of several.

    Attributes:
        bootstrap: over all those images in corpus order.
        places: for each task, where its test images stand among them.
        patients: of those images.
    """

    bootstrap: PatientBootstrap
    places: list[np.ndarray]
    patients: np.ndarray

    @classmethod
    def of(cls, tasks: Sequence[Examples], resamples: int, seed: int) -> Draw:
        """The draw that every encoder shares."""
        rows = [one.rows[one.at["test"]] for one in tasks]
        patients = np.concatenate([one.patients[one.at["test"]] for one in tasks])
        union, first = np.unique(np.concatenate(rows), return_index=True)
        bootstrap = PatientBootstrap(patients[first], resamples, seed)
        return cls(bootstrap, [np.searchsorted(union, one) for one in rows], patients[first])

    def __len__(self) -> int:
        """Images."""
        return len(self.patients)

    def distribution(self, statistics: Sequence[Statistic]) -> Floats:
        """(R,) unweighted mean of one statistic of each task."""

        def mean(weights: Floats) -> Floats:
            values = [one.compute(weights[:, at]) for one, at in zip(statistics, self.places, strict=True)]
            return np.mean(values, axis=0)

        return self.bootstrap.distribution(mean)


@dataclass(frozen=True)
class Average:
    """A task, or the unweighted mean of several.

    Attributes:
        name: as every output calls it: ``"findings (macro), 5 of 6 tasks"`` where members are missing.
        tasks: what it averages.
        listed: how many it was to average.
    """

    name: str
    tasks: list[str]
    listed: int = 1


def averages(macro: Mapping[str, Sequence[str]], present: Collection[str]) -> list[Average]:
    """A suite's averages with those of their members that are ``present``; fewer than two are no average.

    Who has a value for only some of these has none for the average, so that all values of one name are of the same
    tasks.
    """
    found = []
    for name, listed in macro.items():
        tasks = [task for task in listed if task in present]
        whole = len(tasks) < 2 or len(tasks) == len(listed)
        said = name if whole else f"{name}, {len(tasks)} of {len(listed)} tasks"
        found.append(Average(said, tasks, len(listed)))
    return found


@dataclass(frozen=True)
class Measured:
    """A row of ``metrics.json`` and the bootstrap values (R,) behind it."""

    row: dict[str, Any]
    samples: Floats


def measure(
    task: str,
    members: Sequence[Scores | CaseScores],
    draw: Draw,
    encoder: str,
    fingerprint: str,
    data: str,
    labelling: str = "",
    scope: str = "",
    *,
    listed: int = 1,
    excluded: int | None = None,
) -> list[Measured]:
    """Every statistic of one task, or AUPRC and AUROC averaged over several, on test images.

    ``value`` belongs to the probe outputs averaged over seeds, ``seed_mean`` and ``seed_sd`` (sample standard
    deviation, None for one seed) to the ``seeds`` single ones, the interval to the patients.

    Args:
        task: name of the task or aggregate.
        members: scores of one encoder; more than one make an aggregate.
        draw: of the members' test images.
        encoder: display name.
        fingerprint: of the encoder.
        data: fingerprint of the corpus.
        labelling: see :func:`raddino.corpus.dataset.labelling`.
        scope: see :class:`~raddino.metrics.signature.Signature`.
        listed: how many members the suite lists.
        excluded: test images that were asked for and have no usable target for any member.
    """
    overall = [one.statistics() for one in members]
    by_seed = [[one.statistics(seed) for one in members] for seed in range(members[0].seeds)]
    targets = np.concatenate([one.examples.target[one.examples.at["test"]] for one in members])
    binary = members[0].examples.config.kind == "binary"
    measured = []
    for metric in overall[0] if len(members) == 1 else AGGREGATED:
        samples, scale = draw.distribution([one[metric] for one in overall]), scale_of(metric, len(members) > 1)
        value = _mean(overall, metric)
        bounds = interval(value, samples, carried(members, metric), scale, len(draw))
        seeds = [_mean(one, metric) for one in by_seed]
        names, of = _averaged(members, overall[0][metric], listed)
        signature = Signature(
            metric=metric,
            split="test",
            n=len(draw),
            positives=int(targets.sum()) if binary else None,
            prevalence=float(targets.mean()) if binary else None,
            patients=draw.bootstrap.patients,
            resamples=draw.bootstrap.resamples,
            seed=draw.bootstrap.seed,
            encoder_fingerprint=fingerprint,
            data_fingerprint=data,
            interval=method(scale),
            labelling=labelling,
            members=names,
            listed=of,
            scope=scope,
        )
        row = {
            "task": task,
            "encoder": encoder,
            "value": value,
            "low": bounds.low,
            "high": bounds.high,
            "median": bounds.median,
            "undefined_resamples": bounds.undefined,
            "excluded": excluded,
            "seeds": len(seeds),
            "seed_mean": float(np.mean(seeds)),
            "seed_sd": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
            "difference": None,
            "detail": _detail(members, overall[0][metric]),
        }
        measured.append(Measured(row | signature.to_dict(), samples))
    return measured


def compare(
    measured: Sequence[Measured],
    reference: Sequence[Measured],
    scores: Sequence[Scores | CaseScores],
    reference_scores: Sequence[Scores | CaseScores],
    draw: Draw,
) -> None:
    """Fill in ``difference``, paired over the shared resamples, of an encoder's rows to the reference's.

    p is DeLong's, clustered by patient, for the AUROC of a single task, and that of a paired approximate
    randomisation elsewhere and where DeLong's is not defined.
    """
    ours, theirs = ([one.statistics() for one in side] for side in (scores, reference_scores))
    both = {}
    if isinstance(scores[0], CaseScores) and isinstance(reference_scores[0], CaseScores):
        kind = scores[0].examples.config.kind
        both = both_metrics(kind, scores[0].cases.records, reference_scores[0].cases.records)
    by_metric = {other.row["metric"]: other for other in reference}
    for one in measured:
        metric = one.row["metric"]
        other = by_metric.get(metric)
        if other is None:
            continue
        difference = one.row["value"] - other.row["value"]
        bounds = interval(difference, one.samples - other.samples, carried(scores, metric, difference=True))
        test, p = DELONG, _delong(scores[0], reference_scores[0]) if metric == "auroc" and len(scores) == 1 else np.nan
        if not np.isfinite(p):
            pairs = zip(ours, theirs, strict=True)
            joined = [both[metric]] if metric in both else [a[metric].beside(b[metric]) for a, b in pairs]
            test, p = PAIRED_RANDOMISATION, randomisation(joined, draw.places, draw.patients, draw.bootstrap)
        one.row["difference"] = {
            "to": other.row["encoder"],
            "value": difference,
            "low": bounds.low,
            "high": bounds.high,
            "p": p,
            "test": test,
        }


def randomisation(
    metrics: Sequence[Compute], places: Sequence[np.ndarray], patients: np.ndarray, bootstrap: PatientBootstrap
) -> float:
    """p of a paired approximate randomisation of the mean of metrics.

    Args:
        metrics: one a task, of weights (..., 2 N) of its N images under the one system, then under the other.
        places: for each task, where its images stand among all.
        patients: of all images.
        bootstrap: whose number of resamples and seed are used.
    """
    n = len(patients)
    both = [np.concatenate([at, at + n]) for at in places]

    def mean(weights: Floats) -> Floats:
        return np.mean([metric(weights[..., at]) for metric, at in zip(metrics, both, strict=True)], axis=0)

    return paired_randomisation_p(mean, patients, bootstrap.resamples, bootstrap.seed)


def carriers(tasks: Sequence[Examples], metric: str = "") -> int:
    """Patients whose test images carry a number: those of the rarest class, averaged over the tasks.

    Args:
        tasks: that it averages.
        metric: as in :func:`raddino.metrics.scales.carriers_of_average`.
    """
    return carriers_of_average(metric, [_carriers(one) for one in tasks])


def carried(members: Sequence[Scores | CaseScores], metric: str, difference: bool = False) -> int:
    """As :func:`carriers`, of scores; of masks and reports the patients who define the metric."""
    first = members[0]
    if not isinstance(first, CaseScores):
        return carriers([one.examples for one in members], "" if difference else metric)
    computed = {name: one.compute for name, one in first.statistics().items()}
    return carriers_of_case(metric, computed, first.examples.patients[first.examples.at["test"]])


def adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm`` to every difference: Holm over tasks and encoders, within a metric."""
    for metric in {row["metric"] for row in rows}:
        family = [row["difference"] for row in rows if row["metric"] == metric and row["difference"]]
        for difference, p in zip(family, holm([one["p"] for one in family]), strict=True):
            difference["p_holm"] = float(p)


def _carriers(examples: Examples) -> int:
    at = examples.at["test"]
    classes = examples.target[at] if examples.config.kind in ("binary", "multiclass") else None
    least = examples.config.min_positives if examples.config.kind == "multiclass" else 1
    return effective_patients(examples.patients[at], classes, least)


def _delong(ours: Scores | CaseScores, theirs: Scores | CaseScores) -> float:
    if isinstance(ours, CaseScores) or isinstance(theirs, CaseScores):
        return np.nan
    examples, at = ours.examples, ours.examples.at["test"]
    return delong_p(examples.target[at], ours.test.mean(0), theirs.test.mean(0), examples.patients[at])


def _mean(statistics: Sequence[dict[str, Statistic]], metric: str) -> float:
    return float(np.mean([one[metric].compute(None) for one in statistics]))


def _averaged(members: Sequence[Scores | CaseScores], statistic: Statistic, listed: int) -> tuple[tuple[str, ...], int]:
    """Tasks, classes or thresholds that a number averages, and how many it was to average; none for other numbers."""
    if len(members) > 1:
        return tuple(one.examples.config.name for one in members), listed
    detail = statistic.detail
    if "left_out" not in detail:
        return (), 0
    names = [str(one) for one in detail.get("classes") or detail["edges"]]
    return tuple(names), len(names) + len(detail["left_out"])


def _detail(members: Sequence[Scores | CaseScores], statistic: Statistic) -> dict[str, Any]:
    if len(members) > 1:
        return {"tasks": [one.examples.config.name for one in members]}
    return {**members[0].chosen, **statistic.detail}
