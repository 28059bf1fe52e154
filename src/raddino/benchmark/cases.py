"""Segmentation and findings beside the probes: their settings, their work, and their records on disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from raddino.benchmark.results import AGAIN, public
from raddino.benchmark.suite import Suite
from raddino.config import Config, validate
from raddino.encoders.kept_spec import kept_spec
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.files import writing
from raddino.tables import read_table, write_table
from raddino.tasks.base import Examples, Statistic, TaskConfig
from raddino.tasks.cases import CASE_TASKS, Cases, Compute, Job
from raddino.tasks.findings import task as _findings  # noqa: F401  (registers it)
from raddino.tasks.segmentation import task as _segmentation  # noqa: F401

FOLDER = "cases"


@dataclass(frozen=True)
class CaseScores:
    """Records of one encoder, or of a variant of it, on one task; what :class:`~.measure.Scores` is to a probe.

    Attributes:
        examples: of the task.
        cases: of its test images.
        model: folder of what was trained, below the result folder.
    """

    examples: Examples
    cases: Cases
    model: str

    seeds = 1

    @property
    def chosen(self) -> dict[str, Any]:
        """What stands beside every number."""
        return {**self.cases.chosen, "model": self.model}

    @property
    def protocol(self) -> str:
        """8 hex digits of the settings and the variant: two heads on one encoder are two things."""
        said = json.dumps([self.cases.chosen.get("options"), self.cases.variant], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:8]

    def statistics(self, seed: int | None = None) -> dict[str, Statistic]:
        """Every metric of the kind; there is one seed."""
        computed = CASE_TASKS[self.examples.config.kind].statistics(self.cases.records)
        return {name: Statistic(compute) for name, compute in computed.items()}


def is_case_task(task: TaskConfig) -> bool:
    """Whether a task trains more than a probe."""
    return task.kind in CASE_TASKS


def with_options(plan: Suite, settings: Mapping[str, Mapping[str, Any]]) -> Suite:
    """The suite with ``settings`` by kind over its tasks' own options, all of them checked.

    Raises:
        ConfigError: an unknown kind, key or value, or options of a task whose kind has none.
    """
    for kind in settings:
        if kind not in CASE_TASKS:
            raise ConfigError(f"no task of kind {kind!r} has options.{did_you_mean(kind, list(CASE_TASKS))}")
        if all(task.kind != kind for task in plan.tasks):
            raise ConfigError(f"options of {kind}, but the suite has no task of this kind: leave them out")
    tasks = []
    for task in plan.tasks:
        if not is_case_task(task):
            if task.options:
                raise ConfigError(f"task {task.name!r}: {task.kind} tasks take no options")
            tasks.append(task)
            continue
        chosen = {**task.options, **settings.get(task.kind, {})}
        try:
            validate(CASE_TASKS[task.kind].options, chosen)
        except ConfigError as error:
            raise ConfigError(f"task {task.name!r}: {error}") from None
        tasks.append(task.model_copy(update={"options": chosen}))
    return plan.model_copy(update={"tasks": tuple(tasks)})


def public_suite(plan: Suite) -> dict[str, Any]:
    """The suite JSON-ready, with every path in options cut down to its last part."""
    said = plan.model_dump(mode="json")
    said["test_on"] = [public(name) for name in said["test_on"]]
    for task in said["tasks"]:
        values = task["options"].items()
        task["options"] = {key: public(value) if isinstance(value, str) else value for key, value in values}
    return said


def misfit_case(job: Job) -> str:
    """Why an encoder cannot serve a task, known before the work; empty when it can."""
    config = job.examples.config
    task = CASE_TASKS[config.kind]
    return task.needs(job.encoder, validate(task.options, config.options))


def run_case(name: str, job: Job) -> list[CaseScores]:
    """Records of the job itself, then of its variants.

    Args:
        name: display name of the encoder.
        job: with ``folder`` the result folder; the task's own is made below it, and ``spec`` as it may be kept there.

    Raises:
        RaddinoError: the work failed.
    """
    config = job.examples.config
    task = CASE_TASKS[config.kind]
    options: Config = validate(task.options, config.options)
    own = Path("models") / slug(config.name) / slug(name)
    folder = job.folder / own
    spec = job.spec and kept_spec(job.spec, folder, job.folder)
    found = []
    for cases in task.run(replace(job, options=options, folder=folder, spec=spec)):
        _check(cases, job.examples)
        found.append(CaseScores(job.examples, cases, own.as_posix()))
    return found


def slug(name: str) -> str:
    """``name`` as a folder: word characters and dashes, with a digest where something else was in it."""
    plain = re.sub(r"[^\w.]+", "-", name).strip("-.") or "task"
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return plain if plain == name else f"{plain[:60]}-{digest}"


def save_cases(folder: Path, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """One ``cases/<task>.parquet`` a task: id, patient, encoder and the records."""
    tables: dict[str, list[pd.DataFrame]] = {}
    for encoder, by_task in scores.items():
        for task, one in by_task.items():
            if isinstance(one, CaseScores):
                at = one.examples.at["test"]
                who = {"encoder": encoder, "id": one.examples.ids[at], "patient": one.examples.patients[at]}
                tables.setdefault(task, []).append(pd.DataFrame(who).join(one.cases.records.reset_index(drop=True)))
    with writing(folder / FOLDER):
        for stale in (folder / FOLDER).glob("*.parquet"):
            stale.unlink()
    for task, parts in tables.items():
        write_table(folder / FOLDER / f"{slug(task)}.parquet", pd.concat(parts, ignore_index=True))


def read_cases(folder: Path, task: str, encoder: str) -> pd.DataFrame | None:
    """id, patient and the records of one encoder; None where the folder has none.

    Raises:
        RaddinoError: the file is damaged.
    """
    file = folder / FOLDER / f"{slug(task)}.parquet"
    if not file.is_file():
        return None
    table = read_table(file, AGAIN, dict.fromkeys(("encoder", "id", "patient"), "text"))
    return table[table["encoder"] == encoder].drop(columns="encoder").reset_index(drop=True)


def case_metric(kind: str, metric: str, records: pd.DataFrame) -> Callable[[Any], Any]:
    """The metric of a kind as a function of image weights on records.

    Raises:
        RaddinoError: the records do not carry it.
    """
    computed = CASE_TASKS[kind].statistics(records.drop(columns=["id", "patient"]))
    if metric not in computed:
        raise RaddinoError(f"{metric} cannot be computed from the records")
    return computed[metric]


def both_metrics(kind: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Compute]:
    """Every metric as a function of the weights (..., 2 N) of our records and then of theirs."""
    return CASE_TASKS[kind].statistics(pd.concat([ours, theirs], ignore_index=True))


def variant_name(encoder: str, cases: Cases) -> str:
    """How the results call a variant."""
    if cases.alone:
        return cases.variant
    return f"{encoder} ({cases.variant})" if cases.variant else encoder


def _check(cases: Cases, examples: Examples) -> None:
    expected = len(examples.at["test"])
    if len(cases.records) != expected:
        raise RaddinoError(f"{len(cases.records)} records for {expected} test images of {examples.config.name}")
