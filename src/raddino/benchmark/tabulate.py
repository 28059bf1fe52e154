"""The rows of the main table: every task and average, of every encoder, here and at other sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raddino.benchmark.absent import absence
from raddino.benchmark.analyses.base import Context
from raddino.benchmark.cases import CaseScores
from raddino.benchmark.checks import some
from raddino.benchmark.measure import Average, Draw, Measured, Scores, adjust, averages, compare, measure
from raddino.benchmark.sites import Population, Visit, add_drops, name_at
from raddino.corpus.dataset import Corpus, labelling
from raddino.tasks.base import Examples

PART = " ("
"""In a metric's name: of one class or finding, for example ``dice (left lung)``."""


def tabulate(
    context: Context,
    scores: dict[str, dict[str, Scores | CaseScores]],
    examples: list[Examples],
    visited: list[Visit],
    population: Population,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of all tasks and aggregates, and what is not defined on these images."""
    data, labels = context.corpus.fingerprint, labelling(context.corpus)
    by_name = {one.config.name: one for one in examples}
    corpora = {None: context.corpus} | {site.name: site.corpus for site in population.sites}
    sites = {visit.examples.config.name: (visit.inside, visit.site.name) for visit in visited}
    parts, absent = [Average(name, [name]) for name in by_name], []
    means = averages(context.suite.macro, by_name)
    for site in corpora:
        there = means if site is None else averages(_macro_at(context.suite.macro, site), by_name)
        for home, one in zip(means, there, strict=True):
            if site is not None:
                sites[one.name] = home.name, site
            if len(one.tasks) > 1:
                parts.append(one)
            else:
                absent.append(absence(one.name, None, f"fewer than two of its {one.listed} tasks can be measured"))
    rows = []
    found: dict[str, dict[str, list[Measured]]] = {}
    for part in parts:
        name, tasks = part.name, part.tasks
        site = sites[name][1] if name in sites else None
        scope = population.scope if site is None else population.scope_at(site)
        excluded = _excluded(corpora[site], [by_name[task] for task in tasks])
        draw = Draw.of([by_name[task] for task in tasks], context.resamples, context.seed)
        reference: tuple[list[Measured], list[Scores | CaseScores]] | None = None
        for encoder, by_task in scores.items():
            lacking = [task for task in tasks if task not in by_task]
            if lacking and name not in by_name:
                absent.append(absence(name, encoder, f"no value for {some(lacking)}"))
            if lacking:
                continue
            members = [by_task[task] for task in tasks]
            weights = "/".join(filter(None, [context.fingerprints[encoder], members[0].protocol]))
            try:
                measured = measure(
                    name, members, draw, encoder, weights, data, labels, scope, listed=part.listed, excluded=excluded
                )
                if reference:
                    compare(measured, reference[0], members, reference[1], draw)
            except ValueError as error:
                absent.append(absence(name, encoder, f"cannot be measured: {error}"))
                continue
            if encoder == next(iter(scores)):
                reference = measured, members
            rows += [one.row for one in measured]
            found.setdefault(encoder, {})[name] = measured
    add_drops(found, sites)
    defined = [row for row in rows if np.isfinite(row["value"])]
    adjust(defined)
    absent += [
        absence(row["task"], row["encoder"], f"{row['metric']} is not defined on these images")
        for row in rows
        if not np.isfinite(row["value"]) and (PART not in row["metric"] or row["metric"].startswith("dice"))
    ]
    return defined, absent


def _macro_at(macro: Mapping[str, Sequence[str]], site: str) -> dict[str, list[str]]:
    return {name_at(name, site): [name_at(task, site) for task in listed] for name, listed in macro.items()}


def _excluded(corpus: Corpus, tasks: list[Examples]) -> int:
    """Test images that some of the tasks ask for and none can use."""
    test = np.flatnonzero(corpus.manifest["split"].astype(str).to_numpy() == "test")
    asked = np.concatenate([corpus.rows(where=one.config.where) for one in tasks])
    return len(np.setdiff1d(np.intersect1d(asked, test), np.concatenate([one.rows for one in tasks])))
