"""Results of the arms joined: conditions with seeds, differences tested pair by pair, power laws, contamination."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raddino.benchmark.compare import compare
from raddino.benchmark.contamination import GRAVITY
from raddino.benchmark.measure import adjust
from raddino.benchmark.results import LOWER_IS_BETTER, shown_name
from raddino.benchmark.schema import check_metrics
from raddino.errors import RaddinoError
from raddino.files import read_json
from raddino.metrics.power_law import fit_power_law
from raddino.progress import track
from raddino.study.arms import SEED, Arm
from raddino.study.plan import StudyPlan
from raddino.study.run import AGAIN, reasons_of

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Number:
    """One metric of one arm on one task: a row of its results, under the study's names."""

    arm: Arm
    unit: str
    task: str
    row: dict[str, Any]

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return str(self.row["metric"])


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of the metric is better."""
    return metric.partition(" (")[0] in LOWER_IS_BETTER


def loss_of(metric: str, value: float) -> float:
    """What a power law falls in: an error as it is, of a share of 1 what is lacking."""
    return value if lower_is_better(metric) else 1 - value


def outcome(made: StudyPlan) -> dict[str, Any]:
    """All that the report shows, JSON-ready: see ``docs/study.md`` for the entries of ``study.json``."""
    found = {(arm.digest, unit.name): read_json(unit.folder(made.out, arm) / "metrics.json", AGAIN)
             for arm in made.jobs for unit in made.units if unit.is_done(made.out, arm)}  # fmt: skip
    for (digest, unit), metrics in found.items():
        check_metrics(metrics, f"results of {unit} of arm {digest}", AGAIN)
    numbers = _numbers(made, found)
    leading = _leading(numbers, made.study.metrics)
    conditions = [_condition(made, name, arms, numbers, leading) for name in made.study.arms
                  for arms in _repetitions(made, name)]  # fmt: skip
    kinds = {metrics["synthetic"] for metrics in found.values()} | {made.trained_on.info["synthetic"]}
    return {
        "format": 1,
        "study": made.name,
        "size": made.size,
        "question": made.study.question,
        "description": made.study.description,
        "synthetic": kinds.pop() if len(kinds) == 1 else "mixed",
        "corpus": {
            "images": len(made.trained_on), "fingerprint": made.trained_on.fingerprint,
            "judged_on": made.judged_on.fingerprint,
        },
        "seed": made.study.seed,
        "resamples": made.study.resamples,
        "series": [_series(made, name) for name in made.study.arms],
        "tasks": [{"unit": unit, "task": task, "metric": metric, **_facts(numbers, unit, task, metric)}
                  for (unit, task), metric in leading.items()],
        "conditions": conditions,
        "differences": _differences(made, numbers, leading),
        "laws": _laws(made, conditions, leading),
        "contamination": _contamination(made, found),
        "failed": [{"arm": arm.label, "series": arm.series, "reason": reason}
                   for arm in made.arms for reason in reasons_of(made, arm)],
        "absent": _absent(made, found),
        "rows": [_csv(number) for number in numbers],
    }  # fmt: skip


def _numbers(made: StudyPlan, found: dict[tuple[str, str], dict[str, Any]]) -> list[Number]:
    """Numbers of all arms, without variants of findings tasks."""
    numbers = []
    for arm in made.arms:
        for unit in made.units:
            metrics = found.get((arm.digest, unit.name)) if not arm.reason else None
            main = metrics["encoders"][0]["name"] if metrics else ""
            numbers += [Number(arm, unit.name, row["task"], row)
                        for row in (metrics["rows"] if metrics else ()) if row["encoder"] == main]  # fmt: skip
    return numbers


def _leading(numbers: Iterable[Number], metrics: Sequence[str]) -> dict[tuple[str, str], str]:
    """The metric that each evaluation's task is told by, in the order of the results."""
    had: dict[tuple[str, str], set[str]] = {}
    for one in numbers:
        had.setdefault((one.unit, one.task), set()).add(one.metric)
    chosen = {key: next((metric for metric in metrics if metric in names), "") for key, names in had.items()}
    return {key: metric for key, metric in chosen.items() if metric}


def _facts(numbers: list[Number], unit: str, task: str, metric: str) -> dict[str, Any]:
    row = next(one.row for one in numbers if (one.unit, one.task, one.metric) == (unit, task, metric))
    facts: dict[str, Any] = {key: row.get(key) for key in ("n", "positives", "patients", "site")}
    return facts | {"lower_is_better": lower_is_better(metric)}


def _series(made: StudyPlan, name: str) -> dict[str, Any]:
    series = made.study.arms[name]
    balance = next((one for one in made.balances if one.series == name), None)
    return {
        "name": name,
        "title": series.title or name,
        "axis": series.axis,
        "against": _reference(made, name),
        "compute": None if balance is None else {
            "equal": balance.asked, "spread": balance.spread, "worst": balance.worst, "held": balance.held,
            "flops": balance.flops,
        },
    }  # fmt: skip


def _repetitions(made: StudyPlan, series: str) -> list[list[Arm]]:
    """Arms of a series by condition."""
    groups: dict[str, list[Arm]] = {}
    for arm in made.arms:
        if arm.series == series:
            groups.setdefault(arm.condition, []).append(arm)
    return list(groups.values())


def _reference(made: StudyPlan, series: str) -> str:
    """The condition that others are tested against: the one asked for, else the first that has results."""
    groups = _repetitions(made, series)
    judged = [arms[0].condition for arms in groups
              if any(unit.is_done(made.out, arm) for arm in arms for unit in made.units)]  # fmt: skip
    return made.study.arms[series].against or next(iter(judged), groups[0][0].condition)


def _condition(
    made: StudyPlan, series: str, arms: list[Arm], numbers: list[Number], leading: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Mean over seeds of each task's metric and of the ends of its intervals, and the SD over seeds."""
    axis, first = made.study.arms[series].axis, arms[0]
    digests = {arm.digest for arm in arms if arm.digest}
    cells = []
    for (unit, task), metric in leading.items():
        rows = [one for one in numbers if one.arm.series == series and one.arm.digest in digests
                and (one.unit, one.task, one.metric) == (unit, task, metric)]  # fmt: skip
        if not rows:
            continue
        values = [float(one.row["value"]) for one in rows]
        ends = [(one.row.get("low"), one.row.get("high")) for one in rows]
        known = [(float(low), float(high)) for low, high in ends if low is not None and high is not None]
        low, high = np.mean(known, axis=0).tolist() if len(known) == len(rows) else (None, None)
        cells.append({
            "unit": unit, "task": task, "metric": metric, "value": float(np.mean(values)),
            "low": low, "high": high,
            "seed_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "seeds": len(values),
            "points": [[one.arm.at(axis) if axis else None, value]
                       for one, value in zip(rows, values, strict=True)],
        })  # fmt: skip
    places = [at for arm in arms if axis and (at := arm.at(axis))]
    return {
        "series": series,
        "condition": first.condition,
        "x": float(np.mean(places)) if places else None,
        "arms": [{"label": arm.label, "digest": arm.digest, "seed": arm.factors.get(SEED), "state": made.state(arm),
                  "steps": arm.config.steps if arm.config and not arm.reason else None, "images": arm.images,
                  "patients": arm.patients, "parameters": arm.parameters, "flops": arm.flops} for arm in arms],
        "cells": cells,
    }  # fmt: skip


def _differences(made: StudyPlan, numbers: list[Number], leading: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
    """Every condition against its series' reference, seed by seed, with Holm's correction within a metric.

    Of several seeds the difference is the mean, the interval spans all, and p is the largest: what is called clear
    holds at every seed.
    """
    jobs = [(unit, arms, reference) for name in made.study.arms for unit in made.units
            for groups in [_repetitions(made, name)]
            for reference in [next(g for g in groups if g[0].condition == _reference(made, name))]
            for arms in groups if arms is not reference]  # fmt: skip
    rows: list[dict[str, Any]] = []
    for unit, arms, reference in track(jobs, "compare"):
        metrics = {metric for (name, _), metric in leading.items() if name == unit.name}
        gaps: dict[str, list[dict[str, Any]]] = {}
        for ours, theirs in _pairs(arms, reference):
            if unit.is_done(made.out, ours) and unit.is_done(made.out, theirs) and ours.digest != theirs.digest:
                for row in _compared(made, unit.folder(made.out, theirs), unit.folder(made.out, ours), metrics):
                    if leading.get((unit.name, row["task"])) == row["metric"]:
                        gaps.setdefault(row["task"], []).append(row)
        for task, found in gaps.items():
            parts = [one["difference"] for one in found]
            ps = [one["p"] for one in parts]
            rows.append({
                "series": arms[0].series, "condition": arms[0].condition, "against": reference[0].condition,
                "unit": unit.name, "task": task, "metric": found[0]["metric"], "seeds": len(found),
                "difference": {
                    "value": float(np.mean([one["value"] for one in parts])),
                    "low": float(np.min([one["low"] for one in parts])),
                    "high": float(np.max([one["high"] for one in parts])),
                    "p": float(np.max(ps)) if np.isfinite(ps).all() else float("nan"), "test": parts[0]["test"],
                },
            })  # fmt: skip
    adjust(rows)
    return rows


def _pairs(arms: list[Arm], reference: list[Arm]) -> list[tuple[Arm, Arm]]:
    """Arms of equal seeds; the one reference for all where it has no seeds."""
    by_seed = {arm.factors.get(SEED): arm for arm in reference if not arm.reason}
    alone = next(iter(by_seed.values())) if len(by_seed) == 1 else None
    found = [(arm, by_seed.get(arm.factors.get(SEED), alone)) for arm in arms if not arm.reason]
    return [(arm, other) for arm, other in found if other is not None]


def _compared(made: StudyPlan, one: Path, other: Path, metrics: set[str]) -> list[dict[str, Any]]:
    """Rows of a comparison; none where the two share no number that can be compared."""
    names = [read_json(folder / "metrics.json", AGAIN)["encoders"][0]["name"] for folder in (one, other)]
    try:
        found = compare(one, other, pairs={names[0]: names[1]}, metrics=metrics, resamples=made.study.resamples,
                        seed=made.study.seed)  # fmt: skip
    except RaddinoError:
        return []
    return list(found.data["rows"])


def _laws(
    made: StudyPlan, conditions: list[dict[str, Any]], leading: dict[tuple[str, str], str]
) -> list[dict[str, Any]]:
    """A power law of every task along every series' axis, or the reason why there is none."""
    asked = [(name, series.axis, key) for name, series in made.study.arms.items() if series.axis for key in leading]
    laws = []
    for name, axis, (unit, task) in track(asked, "fit") if asked else ():
        metric = leading[unit, task]
        cells = [cell for one in conditions if one["series"] == name for cell in one["cells"]
                 if (cell["unit"], cell["task"]) == (unit, task)]  # fmt: skip
        points = [(x, loss_of(metric, value)) for cell in cells for x, value in cell["points"] if x]
        told: dict[str, Any] = {"series": name, "axis": axis, "unit": unit, "task": task, "metric": metric}
        sizes, losses = np.array(points).reshape(-1, 2).T
        try:
            law = fit_power_law(sizes, losses, made.study.resamples, made.study.seed)
        except RaddinoError as error:
            laws.append(told | {"refused": str(error)})
            continue
        laws.append(told | {
            "a": law.a, "b": law.b, "c": law.c, "unit_x": law.unit, "b_low": law.low, "b_high": law.high,
            "c_low": law.floor[0], "c_high": law.floor[1], "losses": law.losses, "sizes": law.sizes, "told": law.told,
            "refused": "",
        })  # fmt: skip
    return laws


def _contamination(made: StudyPlan, found: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """By condition, the gravest word of its arms for each source, over all evaluations, and what trained it."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    for arm in made.arms:
        for unit in made.units:
            metrics = found.get((arm.digest, unit.name)) if not arm.reason else None
            if metrics is None:
                continue
            main = metrics["encoders"][0]
            record = main.get("provenance") or {}
            one = told.setdefault((arm.series, arm.condition), {
                "series": arm.series, "condition": arm.condition, "name": shown_name(main),
                "supervision": record.get("supervision", "unknown"), "sources": {},
            })  # fmt: skip
            for source, word in (main.get("contamination") or {}).items():
                one["sources"][source] = max(word, one["sources"].get(source, GRAVITY[0]), key=GRAVITY.index)
    return list(told.values())


def _absent(made: StudyPlan, found: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks without a number, each reason once with how many arms it is true of."""
    reasons: dict[tuple[str, str, str], set[str]] = {}
    for arm in made.jobs:
        for unit in made.units:
            metrics = found.get((arm.digest, unit.name), {})
            had = {row["task"] for row in metrics.get("rows", [])}
            for gap in metrics.get("absent", []):
                if gap.get("task") and gap["task"] not in had:
                    reasons.setdefault((unit.name, str(gap["task"]), str(gap["reason"])), set()).add(arm.digest)
    return [{"unit": unit, "task": task, "reason": reason, "arms": len(arms)}
            for (unit, task, reason), arms in reasons.items()]  # fmt: skip


def _csv(number: Number) -> dict[str, Any]:
    arm, row = number.arm, number.row
    return {
        "series": arm.series, "condition": arm.condition, "seed": arm.factors.get(SEED, ""), "arm": arm.digest,
        "steps": arm.config.steps if arm.config else None, "images": arm.images or None, "flops": arm.flops or None,
        "parameters": arm.parameters or None, "unit": number.unit,
        **{key: row.get(key) for key in ("task", "metric", "value", "low", "high", "n", "positives", "patients",
                                         "site", "signature")},
    }  # fmt: skip
