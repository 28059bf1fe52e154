"""Encoders x tasks: embed once, probe or train, measure with shared patient resamples, write the result folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.benchmark import analyses as _analyses  # noqa: F401  (registers them)
from raddino.benchmark.absent import absence, reason_of
from raddino.benchmark.analyses.base import ANALYSES, READS_CASES, Context, Row
from raddino.benchmark.cases import (
    CaseScores,
    is_case_task,
    misfit_case,
    run_case,
    save_cases,
    variant_name,
)
from raddino.benchmark.checks import check_images, misfit, some, without_differences
from raddino.benchmark.contamination import declare
from raddino.benchmark.contents import contents, describe_task, used_by_source
from raddino.benchmark.cross_validation import (
    FITTED,
    FoldScores,
    check_plan,
    describe_pool,
    fold_predictions,
    fold_rows,
    probe_folds,
    select_pools,
)
from raddino.benchmark.fine_tuned import fine_tune_all
from raddino.benchmark.keep import keep_probes
from raddino.benchmark.leave_one_out import fresh, leave_one_out
from raddino.benchmark.measure import Average, Draw, Measured, Scores, adjust, averages, compare, measure
from raddino.benchmark.plan import load_encoders, plan_suite, select_all
from raddino.benchmark.results import PREDICTED, Results, identify_tuned, identify_variant
from raddino.benchmark.sites import Population, Visit, add_drops, name_at, populate, visits
from raddino.benchmark.suite import CrossValidation, Suite
from raddino.corpus.dataset import labelling
from raddino.corpus.splits import check_patient_splits
from raddino.encoders.base import Encoder
from raddino.encoders.flipped import Flipped
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.files import lock
from raddino.progress import about, track
from raddino.tasks.base import TASKS, Examples, joined
from raddino.tasks.cases import Job
from raddino.tasks.classification import task as _classification  # noqa: F401
from raddino.tasks.fine_tuning.network import why_not
from raddino.tasks.fine_tuning.settings import FineTuneConfig
from raddino.tasks.metadata import task as _metadata  # noqa: F401
from raddino.tasks.multiclass import task as _multiclass  # noqa: F401
from raddino.tasks.probes import PROBES, Loss, Probe, ProbeConfig, Request
from raddino.tasks.probes.base import LinearMap
from raddino.tasks.probes.read import read_features, take

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

log = logging.getLogger(__name__)
BUSY = "another process evaluates into {out}: wait for it, or give another --out"
PART = " ("
"""In a metric's name: of one class or finding, for example ``dice (left lung)``."""


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
        return _cross_validate(
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
    if plan.probe.flips:
        loaded = {name: Flipped(encoder) for name, encoder in bare.items()}
    probed = [one for one in examples if not is_case_task(one.config)]
    cased = [one for one in examples if is_case_task(one.config)]
    measured_on = probed + [visit.examples for visit in visited]
    needed = np.unique(np.concatenate([one.rows for one in measured_on])) if probed else np.empty(0, np.int64)
    listed = _listed(examples, visited)
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
                if probed and (reason := misfit(encoder, plan.probe)):
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
                    found, failed = _probe_all(name, features[name], probed, visited, plan.probe, asked)
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
        absent += _lost(failures, tasks)
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
        rows, undefined = _measure(context, judged, listed, visited, population)
        undefined += [absence(None, None, why) for why in without_differences(rows, judged, identities)]
        further, lost = _analyse(context)
        described = [describe_task(corpus, one, visited) | _notes(one.config.name, judged) for one in listed]
        lacking = absent + undefined + lost
        data = contents(corpus, population, plan, seed, identities, described, rows, lacking, further)
        results = Results(out, data, _predictions(scores | tuned))
        results.withdraw()
        save_cases(out, judged)
        keep_probes(out, corpus, context.scores, bare, specs, plan.probe, precision, rows)
        results.save()
        return results, context


def _cross_validate(
    corpus: Corpus,
    population: Population,
    plan: Suite,
    encoders: Sequence[str | Path | Encoder],
    names: Sequence[str | None] | None,
    out: Path,
    *,
    seed: int,
    device: str,
    embedding: dict[str, Any],
) -> Results:
    """As :func:`evaluate`, in folds."""
    setting = plan.cross_validation
    assert setting is not None
    check_plan(plan)
    pools, absent = select_pools(corpus, plan)
    loaded, identities, failures = load_encoders(population.tested(all_splits=True), encoders, names, device)
    needed = np.unique(np.concatenate([one.rows for one in pools]))
    patches = plan.probe.features == "patches"
    scores: dict[str, dict[str, FoldScores]] = {}
    with lock(out, BUSY.format(out=out)):
        for name, bare in loaded.items():
            with about(name):
                if reason := misfit(bare, plan.probe) or (f"{name}: {FITTED}" if hasattr(bare, "fit") else ""):
                    absent.append(absence(None, name, reason))
                    continue
                failed = failures.setdefault(name, {})
                encoder = Flipped(bare) if plan.probe.flips else bare
                try:
                    features = embed(corpus, encoder, rows=needed, patches=patches, **embedding)
                except Exception as error:
                    failed |= dict.fromkeys([one.config.name for one in pools], reason_of(f"encoder {name}", error))
                    continue
                identities[name]["fingerprint"] = features.encoder
                asked = partial(Request, device=device, encoder=encoder)
                for one in track(pools, f"probe {name} in folds"):
                    try:
                        found = probe_folds(features, one, plan.probe, setting, asked, seed)
                        scores.setdefault(name, {})[one.config.name] = found
                    except Exception as error:
                        failed[one.config.name] = reason_of(f"probe of {name}", error)
        absent += _lost(failures, [one.config.name for one in pools])
        if not scores:
            raise RaddinoError(f"every encoder failed: {absent[-1]['reason']}")
        fingerprints = {name: identities[name]["fingerprint"] for name in scores}
        rows = fold_rows(scores, fingerprints, corpus, setting, seed, labelling(corpus), population.scope)
        rows = [row for row in rows if np.isfinite(row["value"])]
        adjust(rows)
        absent += [absence(None, None, why) for why in without_differences(rows, scores, identities)]
        tasks = [describe_pool(one) | {"by_source": used_by_source(corpus, one)} for one in pools]
        data = contents(corpus, population, plan, seed, identities, tasks, rows, absent, {})
        results = Results(out, data, fold_predictions(scores))
        results.withdraw()
        save_cases(out, {})
        keep_probes(out, corpus, {}, {}, {}, plan.probe, embedding["precision"], [])
        results.save()
        return results


def _probe_all(
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
            own = [one.config.name for one in _listed(examples, visited)]
            return {}, dict.fromkeys(own, reason_of(f"probe of {name}", error))
    found: dict[str, Scores] = {}
    failed: dict[str, str] = {}
    for one in examples:
        scores, reasons = _probe_all(name, features, [one], visited, config, asked)
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
    return {one.config.name: scores[one.config.name] for one in _listed(examples, visited)}


def _linear(probe: Probe, one: Examples, label: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights and biases of a task's outputs, averaged over seeds; None where the probe is no linear map."""
    if not isinstance(probe, LinearMap):
        return None
    own = slice(None) if one.classes else slice(label, label + 1)
    return probe.weight[..., own].mean(0), probe.bias[:, 0, own].mean(0)


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


def _measure(
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


def _lost(failures: dict[str, dict[str, str]], tasks: list[str]) -> list[dict[str, Any]]:
    """Absences of the tasks that encoders failed on; an encoder that could not be loaded failed on all."""
    return [
        absence(task, encoder, reason)
        for encoder, failed in failures.items()
        for task in tasks
        if (reason := failed.get(task, failed.get("")))
    ]


def _listed(examples: list[Examples], visited: list[Visit]) -> list[Examples]:
    """Every task inside, each followed by itself at the sites."""
    found = []
    for one in examples:
        found += [one, *(visit.examples for visit in visited if visit.inside == one.config.name)]
    return found


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
