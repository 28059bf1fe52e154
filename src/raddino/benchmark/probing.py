"""Probes of one encoder on all tasks, inside and at other sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from raddino.benchmark.absent import reason_of
from raddino.benchmark.measure import Scores
from raddino.benchmark.sites import Visit, with_sites
from raddino.features.cache import FeatureSet
from raddino.progress import track
from raddino.tasks.base import TASKS, Examples, joined
from raddino.tasks.probes import PROBES, Loss, Probe, ProbeConfig, Request
from raddino.tasks.probes.base import LinearMap
from raddino.tasks.probes.read import read_features, take


def probe_all(
    name: str,
    features: FeatureSet,
    examples: list[Examples],
    visited: list[Visit],
    config: ProbeConfig,
    asked: Callable[[Loss, tuple[str, ...]], Request],
) -> tuple[dict[str, Scores], dict[str, str]]:
    """Scores by task, and reasons by task: where the joint fit fails, each task is fitted by itself."""
    try:
        return _probe(name, features, examples, visited, config, asked), {}
    except Exception as error:
        if len(examples) == 1:
            own = [one.config.name for one in with_sites(examples, visited)]
            return {}, dict.fromkeys(own, reason_of(f"probe of {name}", error))
    found: dict[str, Scores] = {}
    failed: dict[str, str] = {}
    for one in examples:
        scores, reasons = probe_all(name, features, [one], visited, config, asked)
        found, failed = found | scores, failed | reasons
    return found, failed


def _probe(
    name: str,
    features: FeatureSet,
    examples: list[Examples],
    visited: list[Visit],
    config: ProbeConfig,
    asked: Callable[[Loss, tuple[str, ...]], Request],
) -> dict[str, Scores]:
    """Scores by task name, inside and at sites; binary labels, and numbers, of the same images share one fit."""
    scores = {}
    for members in track(joined(examples), f"probe {name}"):
        at, columns = members[0].at, [one.columns for one in members]
        x, y = read_features(features, members[0].rows, config), np.concatenate(columns, axis=1)
        train, val = ((take(x, at[split]), y[at[split]]) for split in ("train", "val"))
        labels = tuple(output for one in members for output in one.outputs)
        request = asked(TASKS[members[0].config.kind].loss, labels)
        probe = PROBES[config.kind].fit(train, val, config, request)
        outputs = [probe.predict(take(x, at[split])) for split in ("val", "test")]
        for label, one in enumerate(members):
            own = [output if one.classes else output[..., label] for output in outputs]
            scores[one.config.name] = Scores(one, own[0], own[1], probe.chosen[label], _linear(probe, one, label))
            for examined in (visit.examples for visit in visited if visit.inside == one.config.name):
                away = probe.predict(read_features(features, examined.rows[examined.at["test"]], config))
                away = away if one.classes else away[..., label]
                scores[examined.config.name] = replace(scores[one.config.name], examples=examined, test=away)
    return {one.config.name: scores[one.config.name] for one in with_sites(examples, visited)}


def _linear(probe: Probe, one: Examples, label: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights and biases of a task's outputs, averaged over seeds; None where the probe is no linear map."""
    if not isinstance(probe, LinearMap):
        return None
    own = slice(None) if one.classes else slice(label, label + 1)
    return probe.weight[..., own].mean(0), probe.bias[:, 0, own].mean(0)
