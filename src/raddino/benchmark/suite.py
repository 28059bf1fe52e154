"""A suite is a list of tasks: a shipped or own YAML file, or what a corpus has labels for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import Field

from raddino.config import Config, read_yaml, validate
from raddino.errors import ConfigError, did_you_mean
from raddino.tasks.base import PLACES, TEXTS, TaskConfig, target_columns
from raddino.tasks.fine_tuning.settings import FineTuneSetting
from raddino.tasks.probes import LinearConfig, ProbeSetting

SUITES = Path(__file__).parent / "suites"
NUMBERS = ("age", "weight", "bmi")
POSITIVE = {"sex": "M"}
LONGEST_EXAMPLE, MOST_VALUES = 20, 100
KINDS = {"segmentation": "masks", "findings": "report texts"}


class CrossValidation(Config):
    """Repeated cross-validation by patient.

    Attributes:
        folds: one is tested on, one selects, the others train.
        repeats: how often the patients are dealt out anew.
    """

    folds: Annotated[int, Field(ge=3, le=20)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 10


class Suite(Config):
    """What is measured and how.

    Attributes:
        description: one sentence for the report.
        where: pandas query that restricts the images that the evaluation sees at all.
        train_on: sources that probes are trained, selected and first tested on; empty for all but ``test_on``.
        test_on: sources of the corpus, or folders of other corpora, that the same probes are tested on; empty for
            all sources but ``train_on`` where that is given.
        leave_one_site_out: train on all sources but one and test on it, each in turn; instead of the two.
        cross_validation: instead of the splits of the corpus, which then do not count; None for the splits.
        tasks: the tasks, names unique.
        macro: name of an aggregate to the tasks whose AUROC and AUPRC it averages without weights.
        probe: a kind of :data:`~raddino.tasks.probes.PROBES` or its settings; the linear probe by default.
        sensitivities: of validation images, at which ``operating_points`` puts thresholds.
        fine_tune: ways in which the encoders are trained on the labels too, beside the probe.
        analyses: names of :data:`raddino.benchmark.analyses.base.ANALYSES` to run after the main table.
    """

    description: str = ""
    where: str | None = None
    train_on: tuple[str, ...] = ()
    test_on: tuple[str, ...] = ()
    leave_one_site_out: bool = False
    cross_validation: CrossValidation | None = None
    tasks: tuple[TaskConfig, ...]
    macro: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    probe: ProbeSetting = LinearConfig()
    sensitivities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.9, 0.95)
    fine_tune: tuple[FineTuneSetting, ...] = ()
    analyses: tuple[str, ...] = ()


def suite_names() -> list[str]:
    """Names of the shipped suites."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(name: str | Path) -> Suite:
    """A suite by shipped name or path of a YAML file.

    Raises:
        ConfigError: unknown name or key, two tasks of one name, or an aggregate over what it cannot average.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else SUITES / f"{name}.yaml"
    if not path.is_file() and path.parent == SUITES:
        known = suite_names()
        raise ConfigError(
            f"unknown suite {str(name)!r}.{did_you_mean(str(name), known)} Known: {', '.join(known)}, or a .yaml file."
        )
    suite = validate(Suite, read_yaml(path))
    names = [task.name for task in suite.tasks]
    binary = [task.name for task in suite.tasks if task.kind == "binary"]
    twice = sorted({one for one in [*names, *suite.macro] if [*names, *suite.macro].count(one) > 1})
    if twice:
        raise ConfigError(f"suite {path.name}: the name {twice[0]!r} is used twice")
    for aggregate, members in suite.macro.items():
        if len(set(members)) < len(members):
            raise ConfigError(f"suite {path.name}: {aggregate!r} names a task twice")
        for member in members:
            if member not in binary:
                hint = did_you_mean(member, binary)
                raise ConfigError(f"suite {path.name}: {aggregate!r} averages {member!r}, no binary task.{hint}")
    return within(suite.model_copy(update={"where": None}), suite.where)


def within(suite: Suite, where: str | None) -> Suite:
    """The suite, and each of its tasks, restricted to images that satisfy ``where`` too."""
    if where is None:
        return suite
    tasks = tuple(task.model_copy(update={"where": _both(where, task.where)}) for task in suite.tasks)
    return suite.model_copy(update={"where": _both(where, suite.where), "tasks": tasks})


def _both(where: str, own: str | None) -> str:
    return f"({where}) and ({own})" if own else where


def derive_suite(manifest: pd.DataFrame, targets: list[str] | None = None) -> Suite:
    """The suite of everything a corpus may have: sex, age, weight, BMI and every ``label_`` column.

    Args:
        manifest: of the corpus.
        targets: only these columns, of which ``"edema"`` is short for ``"label_edema"``; ``"view=AP"`` names the
            positive value of a text column.

    Raises:
        ConfigError: a target is no column, or is text without a positive value.
    """
    if targets is None:
        labels = [str(column) for column in manifest.columns if str(column).startswith("label_")]
        targets = [name for name in (*POSITIVE, *NUMBERS) if name in manifest and manifest[name].notna().any()] + labels
    tasks = tuple({task.model_dump_json(): task for task in (_task(manifest, target) for target in targets)}.values())
    labelled = tuple(task.name for task in tasks if task.target.startswith("label_"))
    return Suite(
        description="Every target of the corpus with enough images.",
        tasks=tasks,
        macro={"all labels (macro)": labelled} if len(labelled) > 1 else {},
    )


def _task(manifest: pd.DataFrame, target: str) -> TaskConfig:
    column, _, positive = target.partition("=")
    if column not in manifest and f"label_{column}" in manifest:
        column = f"label_{column}"
    if column not in manifest or column in (*PLACES, *TEXTS) or column.startswith("mask_"):
        raise ConfigError(_needs(manifest, column))
    positive = positive or POSITIVE.get(column, "")
    name = column.removeprefix("label_")
    name = column if name in manifest else name
    values = manifest[column].dropna()
    numbers = pd.to_numeric(values, errors="coerce")
    if positive:
        matching = values[values.astype(str).isin([positive, f"{positive}.0"])]
        if matching.empty and column not in POSITIVE:
            words = [word for word in map(str, values.unique()[:MOST_VALUES]) if len(word) <= LONGEST_EXAMPLE]
            hint = did_you_mean(positive, words) or did_you_mean(positive.upper(), words)
            raise ConfigError(f"target {target!r}: no image has {positive!r} in column {column!r}.{hint}")
        value = float(positive) if is_numeric_dtype(matching) else positive
        return TaskConfig(name=name, target=column, kind="binary", positive=value)
    if len(values) and numbers.isna().all():
        example = str(values.iloc[0])
        example = example if len(example) <= LONGEST_EXAMPLE else "VALUE"  # a report's text is not for a terminal
        raise ConfigError(f"target {column!r} holds text; say which value is positive: {column}={example}")
    binary = column.startswith("label_") or numbers.isin([0, 1]).all()
    return TaskConfig(name=name, target=column, kind="binary" if binary else "regression")


def _needs(manifest: pd.DataFrame, target: str) -> str:
    """Why a target cannot be probed, and what it takes: a column, a suite, another name."""
    column = target if target in manifest else _column_of(manifest, target)
    if column in PLACES:
        return f"target {target!r} says what an image is called or where it lies, and is no label"
    kind = "segmentation" if column.startswith("mask_") else "findings" if column in TEXTS else ""
    if not kind:
        known = target_columns(manifest)
        hint = did_you_mean(target, [*known, *(name.removeprefix("label_") for name in known)])
        label = column if column in (*POSITIVE, *NUMBERS, "view") else f"label_{column}"
        remedy = hint or f" It needs a manifest with a column {label!r}; then: raddino prepare"
        return f"target {target!r} is no column of the corpus.{remedy}"
    suites = [name for name in suite_names() if any(task.target == column for task in load_suite(name).tasks)]
    suite = f"--suite {' or '.join(suites) or 'SUITE.yaml'}"
    needed = f"target {target!r} needs {KINDS[kind]} (column {column!r}) and a suite with a task of kind {kind}"
    if column in manifest:
        return f"{needed}: {suite}; see docs/{kind}.md"
    masks = [str(name) for name in manifest if str(name).startswith("mask_")]
    hint = did_you_mean(column, masks if kind == "segmentation" else [])
    missing = f"the corpus has no such column.{hint} Give its manifest one (docs/prepare.md), then: raddino prepare"
    return f"{needed}; {missing}, raddino evaluate {suite}"


def _column_of(manifest: pd.DataFrame, target: str) -> str:
    """The mask or text column that is meant by a name that is no column; the name itself where none is."""
    if target == "findings":
        return "report"
    known = {task.target for name in suite_names() for task in load_suite(name).tasks}
    mask = f"mask_{target}"
    return mask if mask in known or mask in manifest else target
