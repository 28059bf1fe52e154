"""Encoders x tasks: embed once, probe or train, measure with shared patient resamples, write the result folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.benchmark import analyses as _analyses  # noqa: F401  (registers them)
from raddino.benchmark.absent import absence, lost, reason_of
from raddino.benchmark.analyses.base import ANALYSES, READS_CASES, Context, Row
from raddino.benchmark.cases import (
    CaseScores,
    is_case_task,
    misfit_case,
    run_case,
    save_cases,
    variant_name,
)
from raddino.benchmark.checks import check_images, misfit, without_differences
from raddino.benchmark.contamination import declare
from raddino.benchmark.contents import contents, describe_task
from raddino.benchmark.evaluate_folds import cross_validate
from raddino.benchmark.fine_tuned import fine_tune_all
from raddino.benchmark.keep import keep_probes
from raddino.benchmark.leave_one_out import fresh, leave_one_out
from raddino.benchmark.measure import Scores
from raddino.benchmark.plan import load_encoders, plan_suite, select_all
from raddino.benchmark.probing import probe_all
from raddino.benchmark.results import BUSY, PREDICTED, Results, identify_tuned, identify_variant
from raddino.benchmark.sites import Population, Visit, populate, visits, with_sites
from raddino.benchmark.suite import CrossValidation, Suite
from raddino.benchmark.tabulate import tabulate
from raddino.corpus.splits import check_patient_splits
from raddino.encoders.base import Encoder
from raddino.encoders.laid_out import as_read
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.files import lock
from raddino.progress import about
from raddino.tasks.base import TASKS, Examples
from raddino.tasks.cases import Job
from raddino.tasks.classification import task as _classification  # noqa: F401
from raddino.tasks.fine_tuning.network import why_not
from raddino.tasks.fine_tuning.settings import FineTuneConfig
from raddino.tasks.metadata import task as _metadata  # noqa: F401
from raddino.tasks.multiclass import task as _multiclass  # noqa: F401
from raddino.tasks.probes import ProbeConfig, Request

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

log = logging.getLogger(__name__)


def evaluate(
    corpus: Corpus,
    encoders: Sequence[str | Path | Encoder],
    *,
    out: str | Path,
    suite: str | Path | None = None,
    targets: list[str] | None = None,
    analyses: Sequence[str] | None = None,
    probe: str | Mapping[str, Any] | ProbeConfig | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    where: str | None = None,
    train_on: Sequence[str] | None = None,
    test_on: Sequence[str] | None = None,
    leave_one_site_out: bool = False,
    cross_validation: CrossValidation | None = None,
    fine_tune: Sequence[str | Mapping[str, Any] | FineTuneConfig] | None = None,
    names: Sequence[str | None] | None = None,
    held_out: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    batch_size: int = 32,
    precision: str = "fp32",
    device: str = "auto",
    cache: Path | None = None,
) -> Results:
    """Judge encoders by probes on the labels of a corpus, and by what is trained on its masks and reports.

    Hyperparameters, thresholds and temperatures are chosen on validation images; the test split is read
    once. The first encoder that can be judged is the reference of all differences. A task without enough data,
    an encoder whose weights are missing or that fails, a probe that fails on one task and an analysis that
    fails lose their own rows only and are listed with the reason. Run again, it reuses every feature that was
    cached and gives the same bytes.

    Args:
        corpus: with splits by patient.
        encoders: specs of :func:`~raddino.encoders.load.load_encoder`, or encoders.
        out: result folder; an earlier result in it is replaced.
        suite: shipped name or YAML file; by default everything the corpus has labels for.
        targets: manifest columns to use instead of a suite; ``"view=AP"`` names a positive value.
        probe: a kind of :data:`~raddino.tasks.probes.PROBES` or its settings, instead of those of the suite.
        options: by kind (segmentation, findings), settings over those of the suite's tasks.
        analyses: names of :data:`~raddino.benchmark.analyses.base.ANALYSES` instead of those of the suite.
        where: pandas query over manifest columns; the evaluation sees no other image.
        train_on, test_on: for external validation, see :class:`~raddino.benchmark.suite.Suite`: probes are trained and
            selected on the sources ``train_on``, tested on their test split and, under the name ``TASK at SITE``, on
            every other site, see :func:`~raddino.benchmark.sites.populate`.
        leave_one_site_out: instead of the two, see :func:`~raddino.benchmark.leave_one_out.leave_one_out`.
        cross_validation: instead of the splits of the corpus and of what the suite says; numbers are means over folds.
        fine_tune: ways in which every encoder is trained on the labels too, see
            :class:`~raddino.tasks.fine_tuning.settings.FineTuneConfig`; each gets rows of its own beside the probe's.
            Analyses look at probes alone.
        names: display names, one an encoder; None for the encoder's own.
        held_out: by display name, sources whose test images you declare not to have been in the encoder's training,
            see :func:`~raddino.benchmark.contamination.declare`.
        seed: of probes and resamples.
        resamples: of the patient bootstrap.
        batch_size, precision, device, cache: of the embedding, see :func:`~raddino.features.extract.embed`.

    Raises:
        RaddinoError: a patient or an image stands in two splits, two images share an id, an encoder, suite or
            analysis is not known, nothing can be measured, another process evaluates into ``out``, or the disk is full
            or refuses.
    """
    check_patient_splits(corpus.manifest)
    check_images(corpus.manifest)
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}")
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    if Path(out).exists() and not Path(out).is_dir():
        raise RaddinoError(f"{out} is a file; --out takes a folder")
    plan = plan_suite(
        corpus, suite, targets, probe, analyses, options, where, train_on, test_on, cross_validation,
        fine_tune, leave_one_site_out, len(encoders),
    )  # fmt: skip
    judge = partial(
        _judge, encoders=list(encoders), names=names, held_out=held_out or {}, seed=seed, resamples=resamples,
        batch_size=batch_size, precision=precision, device=device, cache=cache,
    )  # fmt: skip
    if plan.leave_one_site_out:
        with lock(Path(out), BUSY.format(out=out)):
            return leave_one_out(corpus, plan, Path(out), lambda *turn: judge(*turn, encoders=fresh(encoders)))
    population = populate(corpus, plan)
    if plan.cross_validation:
        if held_out:
            raise ConfigError("held_out speaks of test images, and cross-validation tests all: leave one of them out")
        return cross_validate(
            population.inside, population, plan, encoders, names, Path(out), seed=seed, device=device,
            embedding={"batch_size": batch_size, "cache": cache, "precision": precision},
        )  # fmt: skip
    return judge(population, plan, Path(out))[0]


def _judge(
    population: Population,
    plan: Suite,
    out: Path,
    *,
    encoders: Sequence[str | Path | Encoder],
    names: Sequence[str | None] | None,
    held_out: Mapping[str, Sequence[str]],
    seed: int,
    resamples: int,
    batch_size: int,
    precision: str,
    device: str,
    cache: Path | None,
) -> tuple[Results, Context]:
    """As :func:`evaluate`, of what is to be seen; and what it was computed from."""
    corpus = population.inside
    examples, absent = select_all(corpus, plan)
    loaded, identities, failures = load_encoders(population.tested(), encoders, names, device)
    declare(identities, held_out)
    visited, unvisited = visits(population, examples)
    absent += unvisited
    bare = loaded
    loaded = {name: as_read(encoder, plan.probe.features, plan.probe.flips) for name, encoder in bare.items()}
    probed = [one for one in examples if not is_case_task(one.config)]
    cased = [one for one in examples if is_case_task(one.config)]
    measured_on = probed + [visit.examples for visit in visited]
    needed = np.unique(np.concatenate([one.rows for one in measured_on])) if probed else np.empty(0, np.int64)
    listed = with_sites(examples, visited)
    tasks = [one.config.name for one in listed]
    specs = {
        name: str(spec) if isinstance(spec, str | Path) else None
        for name, spec in zip(identities, encoders, strict=True)
    }

    with lock(out, BUSY.format(out=out)):
        features: dict[str, FeatureSet] = {}
        scores: dict[str, dict[str, Scores]] = {}
        judged: dict[str, dict[str, Scores | CaseScores]] = {}
        tuned: dict[str, dict[str, Scores]] = {}
        for name, encoder in loaded.items():
            with about(name):
                failed: dict[str, str] = {}
                if probed and (reason := misfit(bare[name], plan.probe)):
                    absent.append(absence(None, name, reason))
                elif probed:
                    try:
                        patches = plan.probe.features == "patches"
                        features[name] = embed(
                            corpus, encoder, rows=needed, batch_size=batch_size, cache=cache, precision=precision,
                            patches=patches,
                        )  # fmt: skip
                    except Exception as error:  # foreign code: whatever an encoder raises costs its own rows only
                        failures[name] = dict.fromkeys(tasks, reason_of(f"encoder {name}", error))
                        continue
                    identities[name]["fingerprint"] = features[name].encoder
                    asked = partial(Request, seed=seed, device=device, encoder=encoder)
                    found, failed = probe_all(name, features[name], probed, visited, plan.probe, asked)
                    if found:
                        scores[name] = found
                        judged[name] = dict(found)
                job = partial(
                    Job, corpus, encoder=bare[name], spec=specs[name], options=None, folder=out, seed=seed,
                    batch_size=batch_size, precision=precision, device=device, cache=cache,
                )  # fmt: skip
                failures[name] = failed | _train_all(name, cased, job, judged, identities)
                for method in plan.fine_tune if probed else ():
                    called = f"{name} ({method.words})"
                    identities[called] = identify_tuned(called, identities[name], encoder, method)
                    if why := why_not(bare[name], method, plan.probe.features):
                        absent.append(absence(None, called, why))
                        continue
                    try:
                        tuned[called] = fine_tune_all(
                            corpus, bare[name], method, probed, visited, plan.probe, out,
                            seed=seed, device=device, precision=precision,
                        )  # fmt: skip
                        judged[called] = dict(tuned[called])
                    except Exception as error:
                        failures[called] = dict.fromkeys(tasks, reason_of(f"encoder {called}", error))
        absent += lost(failures, tasks)
        if not judged:
            raise RaddinoError(f"every encoder failed: {absent[-1]['reason']}")

        context = Context(
            corpus=corpus,
            encoders={name: loaded[name] for name in scores},
            features={name: features[name] for name in scores},
            scores={name: _inside(by_task, probed) for name, by_task in scores.items()},
            examples=probed,
            suite=plan,
            fingerprints={name: identities[name]["fingerprint"] for name in judged},
            seed=seed,
            resamples=resamples,
            batch_size=batch_size,
            precision=precision,
            cache=cache,
            scope=population.scope,
            cases=_records(judged),
            case_examples=cased,
        )
        context = replace(context, sites=_sites(context, scores, visited, population))
        rows, undefined = tabulate(context, judged, listed, visited, population)
        undefined += [absence(None, None, why) for why in without_differences(rows, judged, identities)]
        further, failing = _analyse(context)
        described = [describe_task(corpus, one, visited) | _notes(one.config.name, judged) for one in listed]
        lacking = absent + undefined + failing
        data = contents(corpus, population, plan, seed, identities, described, rows, lacking, further)
        results = Results(out, data, _predictions(scores | tuned))
        results.withdraw()
        save_cases(out, judged)
        keep_probes(out, corpus, context.scores, bare, specs, plan.probe, precision, rows)
        results.save()
        return results, context


def _train_all(
    name: str,
    examples: list[Examples],
    job: partial[Job],
    judged: dict[str, dict[str, Scores | CaseScores]],
    identities: dict[str, dict[str, Any]],
) -> dict[str, str]:
    """Put the records of every task, and of its variants, into ``judged``; the reasons of those that failed."""
    failed = {}
    for one in examples:
        try:
            if reason := misfit_case(job(examples=one)):
                failed[one.config.name] = reason
                continue
            for found in run_case(name, job(examples=one)):
                called = variant_name(name, found.cases)
                identities[name]["fingerprint"] = identities[name]["fingerprint"] or job.keywords["encoder"].fingerprint
                identities.setdefault(called, identify_variant(called, identities[name], found.cases.alone))
                judged.setdefault(called, {})[one.config.name] = found
        except Exception as error:
            failed[one.config.name] = reason_of(f"task {one.config.name} of {name}", error)
    return failed


def _records(judged: dict[str, dict[str, Scores | CaseScores]]) -> dict[str, dict[str, CaseScores]]:
    """What was trained, without its variants, by encoder and task."""
    return {
        name: {task: one for task, one in by_task.items() if isinstance(one, CaseScores) and not one.cases.variant}
        for name, by_task in judged.items()
    }


def _notes(task: str, scores: dict[str, dict[str, Scores | CaseScores]]) -> dict[str, Any]:
    """What the first encoder's records say of the task itself."""
    found = [by_task[task] for by_task in scores.values() if task in by_task]
    return next((one.cases.notes for one in found if isinstance(one, CaseScores)), {})


def _analyse(context: Context) -> tuple[dict[str, list[Row]], list[dict[str, Any]]]:
    """Rows of every analysis of the suite, and the reasons of those that failed."""
    found: dict[str, list[Row]] = {}
    failed = []
    for name in context.suite.analyses:
        try:
            if not context.examples and name not in READS_CASES:
                raise RaddinoError("it looks at probes, and no task of this suite is probed")
            rows = ANALYSES[name](context)
            if not rows:
                raise RaddinoError("no task or image has what it asks for")
            found[name] = rows
        except Exception as error:
            failed.append(absence(None, None, reason_of(f"analysis {name}", error)) | {"analysis": name})
    return found, failed


def _sites(
    context: Context, scores: dict[str, dict[str, Scores]], visited: list[Visit], population: Population
) -> dict[str, Context]:
    """What analyses see of each site that a task was measured at."""
    found = {}
    for site in population.sites:
        own = [visit.examples for visit in visited if visit.site is site]
        if own:
            there = {name: _inside(by_task, own) for name, by_task in scores.items()}
            scope = population.scope_at(site.name)
            found[site.name] = replace(context, corpus=site.corpus, examples=own, scores=there, scope=scope,
                                       cases={}, case_examples=())  # fmt: skip
    return found


def _inside(by_task: dict[str, Scores], probed: list[Examples]) -> dict[str, Scores]:
    """The scores of these tasks alone."""
    return {one.config.name: by_task[one.config.name] for one in probed if one.config.name in by_task}


def _predictions(scores: dict[str, dict[str, Scores]]) -> pd.DataFrame:
    """One row an image, task and encoder; validation and test."""
    tables = []
    for encoder, by_task in scores.items():
        for task, one in by_task.items():
            examples, score = one.examples, TASKS[one.examples.config.kind].score
            for split, output in (("val", one.val), ("test", one.test)):
                at = examples.at[split]
                columns = {
                    "task": task,
                    "encoder": encoder,
                    "id": examples.ids[at],
                    "patient": examples.patients[at],
                    "split": split,
                    "target": examples.target[at],
                    "score": score(output.mean(0)),
                }
                tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=sorted(PREDICTED))
