"""Probe outputs to rows of results: value, interval, spread over seeds, difference to the reference, signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raddino.metrics.bootstrap import PatientBootstrap, percentile_interval
from raddino.metrics.comparison import delong_p, holm, paired_bootstrap_p
from raddino.metrics.ranking import Floats
from raddino.metrics.signature import Signature
from raddino.tasks.base import TASKS, Examples, Statistic

AGGREGATED = ("auprc", "auroc")


@dataclass(frozen=True)
class Scores:
    """Outputs of the probes of one encoder on one task.

    Attributes:
        examples: of the task.
        val, test: (S, N) outputs of S seeds.
        chosen: learning rate and weight decay that validation chose.
    """

    examples: Examples
    val: Floats
    test: Floats
    chosen: tuple[float, float]

    def statistics(self, seed: int | None = None) -> dict[str, Statistic]:
        """Statistics of one seed, or of the mean output over seeds."""
        val, test = (part.mean(0) if seed is None else part[seed] for part in (self.val, self.test))
        return TASKS[self.examples.config.kind].statistics(self.examples, val, test)


@dataclass
class Measured:
    """A row of ``metrics.json`` and the bootstrap values behind it."""

    row: dict[str, Any]
    samples: Floats


def measure(scores: Scores, bootstrap: PatientBootstrap, encoder: tuple[str, str], data: str) -> list[Measured]:
    """Every statistic of a task for one encoder, on the test images.

    ``value`` belongs to the probe outputs averaged over seeds; ``seed_mean`` and ``seed_sd`` to single seeds; the
    interval to the patients.

    Args:
        scores: outputs of the probes.
        bootstrap: over the patients of the test images, in their order; the same for all encoders.
        encoder: display name and fingerprint.
        data: fingerprint of the corpus.
    """
    examples = scores.examples
    target = examples.target[examples.at["test"]]
    positives = int(target.sum()) if examples.config.kind == "binary" else None
    by_seed = [scores.statistics(seed) for seed in range(len(scores.test))]
    rate, decay = scores.chosen
    return [
        _measured(
            task=examples.config.name, metric=metric, encoder=encoder, data=data, bootstrap=bootstrap, n=len(target),
            positives=positives, labels=len(target), value=float(statistic.compute(None)),
            samples=bootstrap.distribution(statistic.compute),
            seeds=[float(one[metric].compute(None)) for one in by_seed],
            detail={"probe": "linear", "learning_rate": rate, "weight_decay": decay, **statistic.detail},
        )
        for metric, statistic in scores.statistics().items()
    ]  # fmt: skip


def measure_macro(
    name: str, members: Sequence[Scores], bootstrap: PatientBootstrap, places: Sequence[np.ndarray],
    encoder: tuple[str, str], data: str,
) -> list[Measured]:  # fmt: skip
    """Unweighted means of AUPRC and AUROC over tasks, resampled jointly.

    Args:
        name: of the aggregate.
        members: scores of one encoder on each task.
        bootstrap: over the patients of all test images of the members.
        places: for each member, the positions of its test images among those images.
        encoder, data: as :func:`measure`.
    """
    tests = [one.examples.target[one.examples.at["test"]] for one in members]
    rows = []
    for metric in AGGREGATED:
        statistics = [one.statistics()[metric] for one in members]
        samples = bootstrap.distribution(
            lambda w, chosen=statistics: np.mean(
                [one.compute(w[..., place]) for one, place in zip(chosen, places, strict=True)], axis=0
            )
        )
        by_seed = zip(
            *([float(one.statistics(seed)[metric].compute(None)) for seed in range(len(one.test))] for one in members),
            strict=True,
        )
        rows.append(
            _measured(
                task=name, metric=metric, encoder=encoder, data=data, bootstrap=bootstrap,
                n=len(np.unique(np.concatenate(places))), positives=int(sum(test.sum() for test in tests)),
                labels=sum(map(len, tests)), value=float(np.mean([one.compute(None) for one in statistics])),
                samples=samples, seeds=[float(np.mean(values)) for values in by_seed],
                detail={"tasks": [one.examples.config.name for one in members]},
            )
        )  # fmt: skip
    return rows


def compare(measured: list[Measured], reference: list[Measured], scores: Scores | None, against: Scores | None) -> None:
    """Fill in ``difference`` (paired, same resamples) of an encoder's rows to the reference encoder's.

    p is DeLong's, clustered by patient, for the AUROC of a single task, and a paired bootstrap's elsewhere.
    """
    for one, other in zip(measured, reference, strict=True):
        difference = one.row["value"] - other.row["value"]
        samples = one.samples - other.samples
        interval = percentile_interval(samples)
        if one.row["metric"] == "auroc" and scores is not None and against is not None:
            examples = scores.examples
            at = examples.at["test"]
            test = "DeLong, clustered by patient"
            p = delong_p(examples.target[at], scores.test.mean(0), against.test.mean(0), examples.patients[at])
        else:
            test, p = "paired bootstrap over patients", paired_bootstrap_p(difference, samples)
        one.row["difference"] = {
            "to": other.row["encoder"], "value": difference, "low": interval.low, "high": interval.high, "p": p,
            "test": test,
        }  # fmt: skip


def adjust(rows: list[dict[str, Any]]) -> None:
    """Add ``p_holm`` to every difference: Holm over tasks and encoders, within a metric."""
    for metric in {row["metric"] for row in rows}:
        family = [row["difference"] for row in rows if row["metric"] == metric and row["difference"]]
        for difference, p in zip(family, holm([one["p"] for one in family]), strict=True):
            difference["p_holm"] = float(p)


def _measured(
    *, task: str, metric: str, encoder: tuple[str, str], data: str, bootstrap: PatientBootstrap, n: int,
    positives: int | None, labels: int, value: float, samples: Floats, seeds: list[float], detail: dict[str, Any],
) -> Measured:  # fmt: skip
    interval = percentile_interval(samples)
    signature = Signature(
        metric=metric, split="test", n=n, positives=positives,
        prevalence=None if positives is None else positives / labels, patients=bootstrap.patients,
        resamples=bootstrap.resamples, seed=bootstrap.seed, encoder_fingerprint=encoder[1], data_fingerprint=data,
    )  # fmt: skip
    row = {
        "task": task, "encoder": encoder[0], "value": value, "low": interval.low, "high": interval.high,
        "median": interval.median, "undefined_resamples": interval.undefined, "seed_mean": float(np.mean(seeds)),
        "seed_sd": float(np.std(seeds)), "difference": None, "detail": detail, **signature.to_dict(),
    }  # fmt: skip
    return Measured(row, samples)
