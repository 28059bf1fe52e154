"""Probe outputs to rows of results: value, interval, spread over seeds, difference, signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raddino.benchmark.cases import CaseScores, both_metrics
from raddino.metrics.bootstrap import PatientBootstrap, percentile_interval
from raddino.metrics.comparison import delong_p, holm, paired_bootstrap_p, paired_randomisation_p
from raddino.metrics.ranking import Floats
from raddino.metrics.signature import Signature
from raddino.tasks.base import TASKS, Examples, Statistic

AGGREGATED = ("auprc", "auroc")
DELONG = "DeLong, clustered by patient"
PAIRED_BOOTSTRAP = "paired bootstrap over patients"
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
    """

    bootstrap: PatientBootstrap
    places: list[np.ndarray]

    @classmethod
    def of(cls, tasks: Sequence[Examples], resamples: int, seed: int) -> Draw:
        """The draw that every encoder shares."""
        rows = [one.rows[one.at["test"]] for one in tasks]
        patients = np.concatenate([one.patients[one.at["test"]] for one in tasks])
        union, first = np.unique(np.concatenate(rows), return_index=True)
        bootstrap = PatientBootstrap(patients[first], resamples, seed)
        return cls(bootstrap, [np.searchsorted(union, one) for one in rows])

    def distribution(self, statistics: Sequence[Statistic]) -> Floats:
        """(R,) unweighted mean of one statistic of each task."""

        def mean(weights: Floats) -> Floats:
            values = [one.compute(weights[:, at]) for one, at in zip(statistics, self.places, strict=True)]
            return np.mean(values, axis=0)

        return self.bootstrap.distribution(mean)


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
) -> list[Measured]:
    """Every statistic of one task, or AUPRC and AUROC averaged over several, on test images.

    ``value`` belongs to the probe outputs averaged over seeds, ``seed_mean`` and ``seed_sd`` (sample standard
    deviation, None for one seed) to single seeds, the interval to the patients.

    Args:
        task: name of the task or aggregate.
        members: scores of one encoder; more than one make an aggregate.
        draw: of the members' test images.
        encoder: display name.
        fingerprint: of the encoder.
        data: fingerprint of the corpus.
        labelling: see :func:`raddino.corpus.dataset.labelling`.
        scope: see :class:`~raddino.metrics.signature.Signature`.
    """
    overall = [one.statistics() for one in members]
    by_seed = [[one.statistics(seed) for one in members] for seed in range(members[0].seeds)]
    targets = np.concatenate([one.examples.target[one.examples.at["test"]] for one in members])
    binary = members[0].examples.config.kind == "binary"
    measured = []
    for metric in overall[0] if len(members) == 1 else AGGREGATED:
        samples = draw.distribution([one[metric] for one in overall])
        interval = percentile_interval(samples)
        seeds = [_mean(one, metric) for one in by_seed]
        signature = Signature(
            metric=metric,
            split="test",
            n=len(np.unique(np.concatenate(draw.places))),
            positives=int(targets.sum()) if binary else None,
            prevalence=float(targets.mean()) if binary else None,
            patients=draw.bootstrap.patients,
            resamples=draw.bootstrap.resamples,
            seed=draw.bootstrap.seed,
            encoder_fingerprint=fingerprint,
            data_fingerprint=data,
            labelling=labelling,
            scope=scope,
        )
        row = {
            "task": task,
            "encoder": encoder,
            "value": _mean(overall, metric),
            "low": interval.low,
            "high": interval.high,
            "median": interval.median,
            "undefined_resamples": interval.undefined,
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
) -> None:
    """Fill in ``difference``, paired over the shared resamples, of an encoder's rows to the reference's.

    p is DeLong's, clustered by patient, for the AUROC of a single task, that of a paired approximate randomisation
    for tasks with a record an image, and a paired bootstrap's elsewhere and where these are not defined.
    """
    ours, theirs = scores[0], reference_scores[0]
    both = {}
    if isinstance(ours, CaseScores) and isinstance(theirs, CaseScores):
        both = both_metrics(ours.examples.config.kind, ours.cases.records, theirs.cases.records)
    by_metric = {other.row["metric"]: other for other in reference}
    for one in measured:
        other = by_metric.get(one.row["metric"])
        if other is None:
            continue
        difference = one.row["value"] - other.row["value"]
        samples = one.samples - other.samples
        interval = percentile_interval(samples)
        test, p = PAIRED_BOOTSTRAP, paired_bootstrap_p(difference, samples)
        if one.row["metric"] == "auroc" and len(scores) == 1:
            exact = _delong(ours, theirs)
            test, p = (DELONG, exact) if np.isfinite(exact) else (test, p)
        if one.row["metric"] in both:
            patients = ours.examples.patients[ours.examples.at["test"]]
            exact = paired_randomisation_p(both[one.row["metric"]], patients, len(samples), one.row["seed"])
            test, p = (PAIRED_RANDOMISATION, exact) if np.isfinite(exact) else (test, p)
        one.row["difference"] = {
            "to": other.row["encoder"],
            "value": difference,
            "low": interval.low,
            "high": interval.high,
            "p": p,
            "test": test,
        }


def adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm`` to every difference: Holm over tasks and encoders, within a metric."""
    for metric in {row["metric"] for row in rows}:
        family = [row["difference"] for row in rows if row["metric"] == metric and row["difference"]]
        for difference, p in zip(family, holm([one["p"] for one in family]), strict=True):
            difference["p_holm"] = float(p)


def _delong(ours: Scores | CaseScores, theirs: Scores | CaseScores) -> float:
    if isinstance(ours, CaseScores) or isinstance(theirs, CaseScores):
        return np.nan
    examples, at = ours.examples, ours.examples.at["test"]
    return delong_p(examples.target[at], ours.test.mean(0), theirs.test.mean(0), examples.patients[at])


def _mean(statistics: Sequence[dict[str, Statistic]], metric: str) -> float:
    return float(np.mean([one[metric].compute(None) for one in statistics]))


def _detail(members: Sequence[Scores | CaseScores], statistic: Statistic) -> dict[str, Any]:
    if len(members) > 1:
        return {"tasks": [one.examples.config.name for one in members]}
    return {**members[0].chosen, **statistic.detail}
