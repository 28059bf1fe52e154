"""Repeated cross-validation by patient, for sets too small to keep a test split aside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from raddino.benchmark.absent import absence
from raddino.benchmark.cases import is_case_task
from raddino.benchmark.suite import CrossValidation, Suite
from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureSet
from raddino.metrics.folds import corrected_mean
from raddino.metrics.signature import Signature
from raddino.tasks.base import TASKS, Examples, select_pool
from raddino.tasks.probes import PROBES, Loss, ProbeConfig, Request
from raddino.tasks.probes.read import read_features, take

INTERVAL = "corrected resampled t over folds"
"""Of the mean and of paired differences; see :func:`raddino.metrics.folds.corrected_mean`."""
NOT_PROBED = "only probes are cross-validated; this task trains more than a probe"
FITTED = "it is fitted on training images, and cross-validation tests all images"
BOUNDS = {"mae": (0.0, np.inf), "r2": (-np.inf, 1.0)}


@dataclass(frozen=True)
class FoldScores:
    """What the probes of one encoder reach on one task.

    Attributes:
        examples: all images of the task.
        values: by metric (R, K), of K folds in R repeats.
        output: (N,) or (N, T), of each image the mean over repeats of what a probe says that did not see it.
        chosen: of the probe, its settings without those that differ from fold to fold.
    """

    examples: Examples
    values: Mapping[str, np.ndarray]
    output: np.ndarray
    chosen: dict[str, Any]


def check_plan(plan: Suite) -> None:
    """Refuse what cross-validation cannot be combined with.

    Raises:
        ConfigError: other sites, or analyses.
    """
    if plan.train_on or plan.test_on:
        raise ConfigError("cross-validation keeps no site aside: leave train_on and test_on out")
    if plan.analyses:
        raise ConfigError(f"analyses ({plan.analyses[0]}) look at one test split: leave them or cross-validation out")


def select_pools(corpus: Corpus, plan: Suite) -> tuple[list[Examples], list[dict[str, Any]]]:
    """All labelled images of every task that can be cross-validated, and the reasons of those that cannot.

    Raises:
        RaddinoError: no task can.
    """
    assert plan.cross_validation is not None
    pools: list[Examples] = []
    absent = []
    for task in plan.tasks:
        try:
            if is_case_task(task):
                raise RaddinoError(NOT_PROBED)
            pools.append(select_pool(corpus, task, plan.cross_validation.folds))
        except RaddinoError as error:
            absent.append(absence(task.name, None, str(error)))
    absent += [absence(name, None, "averages of tasks are not cross-validated") for name in plan.macro]
    if not pools:
        reasons = "; ".join(f"{one['task']}: {one['reason']}" for one in absent)
        raise RaddinoError(f"no task can be cross-validated on this corpus. {reasons}")
    return pools, absent


def folds_of(examples: Examples, folds: int, repeat: int, seed: int) -> np.ndarray:
    """(N,) fold of each image: patients in the order of a hash of (seed, repeat, patient), dealt out class by class.

    The class of a patient is that of its image of the highest code; numbers have none. A patient stands in one fold.
    """
    names, member = np.unique(examples.patients, return_inverse=True)
    group = np.zeros(len(names), np.int64)
    if examples.config.kind != "regression":
        np.maximum.at(group, member, examples.target.astype(np.int64))
    keys = [hashlib.sha256(f"folds/{seed}/{repeat}/{name}".encode()).digest() for name in names]
    order = sorted(range(len(names)), key=lambda at: (group[at], keys[at]))
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % folds
    return fold[member]


def probe_folds(
    features: FeatureSet,
    examples: Examples,
    config: ProbeConfig,
    setting: CrossValidation,
    asked: Callable[[Loss, tuple[str, ...]], Request],
    seed: int,
) -> FoldScores:
    """Fit and measure in every fold: it is tested on, the next one selects, the others train."""
    x, y = read_features(features, examples.rows, config), examples.columns
    task = TASKS[examples.config.kind]
    values: dict[str, list[float]] = {}
    outputs, chosen = [], {}
    for repeat in range(setting.repeats):
        fold = folds_of(examples, setting.folds, repeat, seed)
        output = np.empty((len(y), y.shape[1]))
        for tested in range(setting.folds):
            split = np.full(len(fold), "train", dtype=object)
            split[fold == (tested + 1) % setting.folds] = "val"
            split[fold == tested] = "test"
            part = replace(examples, split=split.astype(str))
            train, val = ((take(x, part.at[one]), y[part.at[one]]) for one in ("train", "val"))
            request = replace(asked(task.loss, examples.outputs), seed=seed + 1000 * repeat + tested)
            probe = PROBES[config.kind].fit(train, val, config, request)
            said = [probe.predict(take(x, part.at[one])).mean(0) for one in ("val", "test")]
            output[part.at["test"]] = said[1]
            own = [one if examples.classes else one[:, 0] for one in said]
            for metric, statistic in task.statistics(part, own[0], own[1]).items():
                values.setdefault(metric, []).append(float(statistic.compute(None)))
            chosen = {key: value for key, value in probe.chosen[0].items() if key in ("probe", "features", "flips")}
        outputs.append(output)
    shaped = {metric: np.reshape(found, (setting.repeats, setting.folds)) for metric, found in values.items()}
    mean = np.mean(outputs, axis=0)
    return FoldScores(examples, shaped, mean if examples.classes else mean[:, 0], chosen)


def fold_rows(
    scores: Mapping[str, Mapping[str, FoldScores]],
    fingerprints: Mapping[str, str],
    corpus: Corpus,
    setting: CrossValidation,
    seed: int,
    labelling: str,
    scope: str,
) -> list[dict[str, Any]]:
    """Rows of ``metrics.json``: the mean over folds and repeats, differences to the first encoder fold by fold."""
    rows: list[dict[str, Any]] = []
    reference = next(iter(scores))
    words = f"{setting.folds}-fold cross-validation by patient, {setting.repeats} times"
    share = 1 / (setting.folds - 2)
    for encoder, by_task in scores.items():
        for task, one in by_task.items():
            examples = one.examples
            binary = examples.config.kind == "binary"
            for metric, values in one.values.items():
                mean = corrected_mean(values, share, *BOUNDS.get(metric, (0.0, 1.0)))
                signature = Signature(
                    metric=metric, split="test", n=len(examples.rows),
                    positives=int(examples.target.sum()) if binary else None,
                    prevalence=float(examples.target.mean()) if binary else None,
                    patients=len(set(examples.patients)), resamples=values.size, seed=seed,
                    encoder_fingerprint=fingerprints[encoder], data_fingerprint=corpus.fingerprint, interval=INTERVAL,
                    labelling=labelling, scope=",".join(filter(None, [scope, words])),
                )  # fmt: skip
                row = {
                    "task": task, "encoder": encoder, "value": mean.value, "low": mean.low, "high": mean.high,
                    "median": float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan,
                    "undefined_resamples": int((~np.isfinite(values)).sum()),
                    "excluded": sum(examples.excluded.values()), "seed_mean": mean.value, "seed_sd": None,
                    "difference": None,
                    "detail": {**one.chosen, "folds": setting.folds, "repeats": setting.repeats},
                }  # fmt: skip
                other = scores[reference].get(task)
                if encoder != reference and other is not None and metric in other.values:
                    gap = corrected_mean(values - other.values[metric], share)
                    row["difference"] = {"to": reference, "value": gap.value, "low": gap.low, "high": gap.high,
                                         "p": gap.p, "test": INTERVAL}  # fmt: skip
                rows.append(row | signature.to_dict())
    order = {task: at for at, task in enumerate(dict.fromkeys(task for one in scores.values() for task in one))}
    return sorted(rows, key=lambda row: order[row["task"]])


def fold_predictions(scores: Mapping[str, Mapping[str, FoldScores]]) -> pd.DataFrame:
    """One row an image, task and encoder: what the output averaged over repeats says, all of it out of fold."""
    tables = [
        pd.DataFrame(
            {
                "task": task,
                "encoder": encoder,
                "id": one.examples.ids,
                "patient": one.examples.patients,
                "split": "test",
                "target": one.examples.target,
                "score": TASKS[one.examples.config.kind].score(one.output),
            }
        )
        for encoder, by_task in scores.items()
        for task, one in by_task.items()
    ]
    return pd.concat(tables, ignore_index=True)


def describe_pool(examples: Examples) -> dict[str, Any]:
    """As :meth:`Examples.describe`; every image counts as test, none as training alone."""
    return replace(examples, split=np.full(len(examples.rows), "test")).describe()
