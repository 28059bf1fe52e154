"""Two result folders, number by number: what can be paired is tested, what cannot is said."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit

from raddino.benchmark.cases import both_metrics, case_metric, read_cases
from raddino.benchmark.checks import some
from raddino.benchmark.measure import DELONG, PAIRED_RANDOMISATION, adjust, randomisation
from raddino.benchmark.results import Results, members_of, shown_name
from raddino.errors import RaddinoError
from raddino.metrics import calibration, ranking, regression
from raddino.metrics.bootstrap import PatientBootstrap, interval
from raddino.metrics.comparison import delong_p
from raddino.metrics.ranking import Floats
from raddino.metrics.scales import carriers_of_average, carriers_of_case, effective_patients
from raddino.tasks.base import Statistic
from raddino.tasks.cases import CASE_TASKS

SAME = ("split", "n", "positives", "patients", "data_fingerprint")
WHOLE = "the whole corpus"
TOLERANCE = 1e-6
SMALLEST_PROBABILITY = 1e-15
PARTIAL = re.compile(r", \d+ of \d+ tasks$")
"""What :func:`~raddino.benchmark.measure.averages` adds to a name."""


@dataclass(frozen=True)
class Comparison:
    """What changed from folder ``a`` to folder ``b``.

    Attributes:
        data: JSON-ready: ``a`` and ``b`` (names of the folders), ``synthetic``, ``seed``, ``resamples``, ``rows``
            (task, encoder, other, metric, a, b, seed_sd_a, seed_sd_b, n, excluded, positives, prevalence, patients,
            split, the two signatures, and ``difference`` b - a with low, high, p, test, p_holm), ``refused`` (task,
            encoder, metric, reason), ``shown`` (display name by encoder, of A and of B) and ``notes``.
    """

    data: dict[str, Any]


def compare(
    a: str | Path,
    b: str | Path,
    *,
    pairs: Mapping[str, str] | None = None,
    metrics: Collection[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Test B against A on the images they share, from ``predictions.parquet`` of both.

    Rows are paired by task, metric and encoder. Differences come from the same resamples of patients on both
    sides; p is DeLong's for the AUROC of a task and that of a paired approximate randomisation elsewhere, with Holm's
    correction over all that was compared within a metric.

    Args:
        a, b: result folders of ``evaluate``.
        pairs: encoder of ``a`` to encoder of ``b``; by default those of one name, or, where each folder holds a
            single encoder, these two.
        metrics: that are compared; None for all.
        resamples: of the patients.
        seed: of the resamples.

    Raises:
        RaddinoError: a folder is no result, no encoder can be paired, or no number can be compared (with the
            first reason).
    """
    if resamples < 1:
        raise RaddinoError(f"resamples must be at least 1, got {resamples}")
    if seed < 0:
        raise RaddinoError(f"seed must be 0 or more, got {seed}")
    first, second = Results.open(a), Results.open(b)
    paired = _pairs(first, second, pairs)
    rows, refused = [], []
    scopes: dict[tuple[str, str], None] = {}
    for encoder, other in paired.items():
        ours, theirs = (_by_number(results, name) for results, name in ((first, encoder), (second, other)))
        for task, metric in dict.fromkeys([*ours, *theirs]):
            if metrics is not None and metric not in metrics:
                continue
            one, two = ours.get((task, metric)), theirs.get((task, metric))
            try:
                if one is None or two is None:
                    raise RaddinoError(_only(first, second, task, "B" if one is None else "A"))
                difference = _difference(first, second, one, two, resamples, seed)
            except RaddinoError as error:
                refused.append({"task": task, "encoder": encoder, "metric": metric, "reason": str(error)})
                continue
            rows.append(_row(one, two, difference))
            scopes[one.get("scope") or WHOLE, two.get("scope") or WHOLE] = None
    if not rows:
        reason = refused[0]["reason"] if refused else "both are empty"
        raise RaddinoError(f"{Path(a).name} and {Path(b).name} have no number that can be compared: {reason}")
    adjust(rows)
    data = {
        "a": Path(a).resolve().name,
        "b": Path(b).resolve().name,
        "synthetic": first.data["synthetic"],
        "seed": seed,
        "resamples": resamples,
        "rows": rows,
        "refused": refused,
        "shown": [{one["name"]: shown_name(one) for one in each.data["encoders"]} for each in (first, second)],
        "notes": _notes(first, second, paired, scopes),
    }
    return Comparison(data)


def _pairs(first: Results, second: Results, wanted: Mapping[str, str] | None) -> dict[str, str]:
    names = [list(dict.fromkeys(row["encoder"] for row in one.data["rows"])) for one in (first, second)]
    if wanted:
        for side, chosen, known in zip("AB", (wanted, wanted.values()), names, strict=True):
            for name in chosen:
                if name not in known:
                    raise RaddinoError(f"{side} has no encoder {name!r}; it has {', '.join(known)}")
        return dict(wanted)
    common = [name for name in names[0] if name in names[1]]
    if common:
        return {name: name for name in common}
    if len(names[0]) == len(names[1]) == 1:
        return {names[0][0]: names[1][0]}
    raise RaddinoError(
        f"no encoder stands in both (A: {', '.join(names[0])}; B: {', '.join(names[1])}): say which belong together"
    )


def _by_number(results: Results, encoder: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["task"], row["metric"]): row for row in results.data["rows"] if row["encoder"] == encoder}


def _difference(
    first: Results, second: Results, one: dict[str, Any], two: dict[str, Any], resamples: int, seed: int
) -> dict[str, Any]:
    """Value, interval and p of B minus A.

    Raises:
        RaddinoError: why the two numbers cannot be compared.
    """
    for field in SAME:
        if one.get(field) != two.get(field):
            shown = [str(row.get(field))[:12] for row in (one, two)]
            raise RaddinoError(f"measured on different data: {field} is {shown[0]} in A and {shown[1]} in B")
    if members_of(one) != members_of(two):
        shown = [some(members_of(row)) or "none" for row in (one, two)]
        raise RaddinoError(f"the averages have other members: {shown[0]} in A, {shown[1]} in B")
    members = one["detail"].get("tasks") or [one["task"]]
    if (cases := _joined_cases(first, second, one, two)) is not None:
        tables = [cases[0]]
        sides = [[Statistic(case_metric(_kind(first, one["task"]), one["metric"], table))] for table in cases]
    else:
        tables = [_joined(first, second, one["encoder"], two["encoder"], task) for task in members]
        sides = [
            [_statistic(row, table["target"], table[column]) for table in tables]
            for row, column in ((one, "score_a"), (two, "score_b"))
        ]
    images = pd.concat(tables).drop_duplicates("id")
    bootstrap = PatientBootstrap(images["patient"], resamples, seed)
    places = [pd.Index(images["id"]).get_indexer(table["id"]) for table in tables]
    for row, statistics in zip((one, two), sides, strict=True):
        value = np.mean([statistic.compute(None) for statistic in statistics])
        if not abs(value - row["value"]) < TOLERANCE * max(1.0, abs(row["value"])):
            raise RaddinoError(f"{row['value']:.4f} in metrics.json, but the predictions beside it give {value:.4f}")

    def mean(side: Sequence[Statistic], weights: Floats) -> Floats:
        return np.mean([part.compute(weights[:, at]) for part, at in zip(side, places, strict=True)], axis=0)

    first_drawn, second_drawn = (bootstrap.distribution(partial(mean, side)) for side in sides)
    if cases is not None:
        m = _carriers(one["metric"], _kind(first, one["task"]), cases[0])
    else:
        classes = [table["target"] if one["positives"] is not None else None for table in tables]
        each = [effective_patients(table["patient"], given) for table, given in zip(tables, classes, strict=True)]
        m = carriers_of_average("", each)
    value = two["value"] - one["value"]
    bounds = interval(value, second_drawn - first_drawn, m)
    test, p = DELONG, np.nan
    if one["metric"] == "auroc" and cases is None and len(tables) == 1:
        table = tables[0]
        p = delong_p(table["target"], table["score_b"], table["score_a"], table["patient"])
    if not np.isfinite(p):
        if cases is None:
            joined = [theirs.beside(ours) for ours, theirs in zip(*sides, strict=True)]
        else:
            ours, theirs = (table.drop(columns=["id", "patient"]) for table in cases)
            joined = [both_metrics(_kind(first, one["task"]), theirs, ours)[one["metric"]]]
        test, p = PAIRED_RANDOMISATION, randomisation(joined, places, images["patient"].to_numpy(), bootstrap)
    return {"to": "A", "value": value, "low": bounds.low, "high": bounds.high, "p": p, "test": test}


def _only(first: Results, second: Results, task: str, side: str) -> str:
    """Why one side alone has a number: its average lacks members on the other, or nothing that can be said."""
    names = {part: {row["task"] for row in one.data["rows"]} for part, one in (("A", first), ("B", second))}
    stem = PARTIAL.sub("", task)
    other = "B" if side == "A" else "A"
    same = sorted(name for name in names[other] - {task} if PARTIAL.sub("", name) == stem)
    return f"only {side} has this number" + (f"; {other} has {same[0]}, of other members" if same else "")


def _joined_cases(
    first: Results, second: Results, one: dict[str, Any], two: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Records of a task's test images on both sides, in one order; None for tasks that have none.

    Raises:
        RaddinoError: the two sides have other images or patients.
    """
    found = [read_cases(side.path, row["task"], row["encoder"]) for side, row in ((first, one), (second, two))]
    if found[0] is None or found[1] is None:
        return None
    if set(found[0]["id"]) != set(found[1]["id"]) or found[0]["id"].duplicated().any():
        raise RaddinoError("measured on different test images")
    other = found[1].set_index("id").loc[found[0]["id"]].reset_index()
    if not np.array_equal(found[0]["patient"].astype(str), other["patient"].astype(str)):
        raise RaddinoError("the test images belong to different patients")
    return found[0], other


def _carriers(metric: str, kind: str, records: pd.DataFrame) -> int:
    computed = CASE_TASKS[kind].statistics(records.drop(columns=["id", "patient"]))
    return carriers_of_case(metric, computed, records["patient"].to_numpy())


def _kind(results: Results, task: str) -> str:
    kinds = (str(one["kind"]) for one in results.data["tasks"] if one["name"] == task)
    if (kind := next(kinds, "")) not in CASE_TASKS:
        raise RaddinoError(f"{results.path.name} has records of {task}, but does not say of which kind")
    return kind


def _joined(first: Results, second: Results, encoder: str, other: str, task: str) -> pd.DataFrame:
    """id, patient, target, score_a, score_b of a task's test images, which both folders must share."""
    parts = []
    for results, name in ((first, encoder), (second, other)):
        table = results.predictions
        parts.append(table[(table["task"] == task) & (table["encoder"] == name) & (table["split"] == "test")])
    one, two = (part.set_index("id") for part in parts)
    if not len(one) or not len(two):
        raise RaddinoError(f"no predictions of {task}")
    if one.index.has_duplicates or two.index.has_duplicates or set(one.index) != set(two.index):
        raise RaddinoError("measured on different test images")
    two = two.loc[one.index]
    if not np.array_equal(one["target"], two["target"]):
        raise RaddinoError("the test images carry different labels")
    if not np.array_equal(one["patient"].astype(str), two["patient"].astype(str)):
        raise RaddinoError("the test images belong to different patients")
    return pd.DataFrame(
        {
            "id": one.index,
            "patient": one["patient"].to_numpy(),
            "target": one["target"].to_numpy(),
            "score_a": one["score"].to_numpy(),
            "score_b": two["score"].to_numpy(),
        }
    )


def _statistic(row: dict[str, Any], target: pd.Series, score: pd.Series) -> Statistic:
    """The metric of a row on predictions.

    Raises:
        RaddinoError: predictions do not suffice for it.
    """
    metric, detail = row["metric"], row["detail"]
    y, s = target.to_numpy(float), score.to_numpy(float)
    simple = {
        "auroc": ranking.auroc,
        "auprc": ranking.auprc,
        "brier": calibration.brier,
        "ece": calibration.expected_calibration_error,
        "mae": regression.mae,
        "r2": regression.r2,
    }
    if metric in simple:
        return Statistic.of(simple[metric], y, s, ranks=metric in ("auroc", "auprc"))
    if metric.removesuffix("_temperature") in simple and "temperature" in detail:
        bounded = np.clip(s, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        scaled = calibration.apply_temperature(logit(bounded), detail["temperature"])
        return Statistic.of(simple[metric.removesuffix("_temperature")], y, scaled)
    if metric.startswith("sensitivity_at_specificity") and "threshold" in detail:
        above = (s >= detail["threshold"]).astype(np.float64)
        return Statistic.of(partial(ranking.sensitivity, threshold=1), y, above)
    if metric == "auroc_binned" and "edges" in detail:
        return Statistic.of(partial(regression.auroc_binned, edges=detail["edges"]), y, s, ranks=True)
    raise RaddinoError(f"{metric} cannot be computed from predictions alone")


def _options(results: Results, task: str) -> dict[str, Any]:
    """Settings of what was trained for a task; empty for probes."""
    found = (row["detail"].get("options") for row in results.data["rows"] if row["task"] == task)
    return next(filter(None, found), {})


def _row(one: dict[str, Any], two: dict[str, Any], difference: dict[str, Any]) -> dict[str, Any]:
    shared = ("task", "encoder", "metric", "n", "excluded", "positives", "prevalence", "patients", "split")
    return {
        **{field: one.get(field) for field in shared},
        "other": two["encoder"],
        "a": one["value"],
        "b": two["value"],
        "seed_sd_a": one.get("seed_sd"),
        "seed_sd_b": two.get("seed_sd"),
        "difference": difference,
        "signature_a": one["signature"],
        "signature_b": two["signature"],
    }


def _notes(first: Results, second: Results, paired: dict[str, str], scopes: Iterable[tuple[str, str]]) -> list[str]:
    """What a reader has to know of the two runs beside the numbers; ``scopes``: of compared rows, in A and in B."""
    notes = [
        f"Trained or tested on other images ({one} in A, {two} in B): differences may come from that."
        for one, two in scopes
        if one != two
    ]
    probes = [one.data["suite"].get("probe") or {} for one in (first, second)]
    changed = sorted(key for key in {*probes[0], *probes[1]} if probes[0].get(key) != probes[1].get(key))
    if changed:
        notes.append(f"The probes were set differently ({', '.join(changed)}): differences may come from that.")
    for task in [one["name"] for one in first.data["tasks"]]:
        options = [_options(one, task) for one in (first, second)]
        if all(options) and (keys := [key for key in options[0] if options[0][key] != options[1].get(key)]):
            notes.append(f"{task} was trained differently ({', '.join(keys)}): differences may come from that.")
    if first.data["seed"] != second.data["seed"]:
        notes.append(f"Other seeds of the probes: {first.data['seed']} in A, {second.data['seed']} in B.")
    prints = [{one["name"]: one.get("fingerprint") for one in results.data["encoders"]} for results in (first, second)]
    same = [name for name, other in paired.items() if prints[0].get(name) == prints[1].get(other) is not None]
    if same:
        notes.append(f"The same weights on both sides: {', '.join(same)}.")
    return notes
