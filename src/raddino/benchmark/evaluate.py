"""Encoders x tasks: embed once, probe, measure with shared patient resamples, write the result folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.benchmark.measure import Measured, Scores, adjust, compare, measure, measure_macro
from raddino.benchmark.results import FORMAT, Results, contamination, environment
from raddino.benchmark.suite import Suite, derive_suite, load_suite
from raddino.corpus.splits import check_patient_splits
from raddino.encoders.base import Encoder, load_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.metrics.bootstrap import PatientBootstrap
from raddino.progress import bar
from raddino.tasks.base import TASKS, Examples, select_examples
from raddino.tasks.classification import task as _classification  # noqa: F401
from raddino.tasks.metadata import task as _metadata  # noqa: F401
from raddino.tasks.probe import ProbeConfig, fit_linear_probe

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

log = logging.getLogger(__name__)


def evaluate(
    corpus: Corpus,
    encoders: Sequence[str | Path | Encoder],
    *,
    out: Path,
    suite: str | Path | None = None,
    targets: list[str] | None = None,
    names: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    batch_size: int = 32,
    device: str = "cpu",
    cache: Path | None = None,
) -> Results:
    """Judge frozen encoders by linear probes on the labels of a corpus.

    Hyperparameters, thresholds and temperatures are chosen on validation images; the test split is read once. The
    first encoder is the reference of all differences. A task without enough data, and an encoder that fails, lose
    their own rows only and are listed with the reason.

    Args:
        corpus: with splits by patient.
        encoders: specs of :func:`~raddino.encoders.base.load_encoder`, or encoders.
        out: result folder; an earlier result in it is replaced.
        suite: shipped name or YAML file; by default everything the corpus has labels for.
        targets: manifest columns to use instead of a suite; ``"view=AP"`` names a positive value.
        names: display names, one an encoder.
        seed: of probes and resamples.
        resamples: of the patient bootstrap.
        batch_size, device, cache: of the embedding, see :func:`~raddino.features.extract.embed`.

    Raises:
        RaddinoError: a patient stands in two splits, an encoder or suite is not known, or nothing can be measured.
    """
    check_patient_splits(corpus.manifest)
    if suite is not None and targets is not None:
        raise ConfigError("give a suite or targets, not both")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}")
    plan = load_suite(suite) if suite is not None else derive_suite(corpus.manifest, targets)
    loaded = _load(encoders, names, device)
    examples, absent = _select(corpus, plan)

    scores: dict[str, dict[str, Scores]] = {}
    with bar("evaluate", total=len(loaded) * len(examples)) as shown:
        for name, encoder in loaded.items():
            try:
                rows = np.unique(np.concatenate([one.rows for one in examples]))
                features = embed(corpus, encoder, rows=rows, batch_size=batch_size, cache=cache)
                scores[name] = _probe(features, examples, plan.probe, seed)
            except Exception as error:  # an encoder is foreign code: whatever it raises costs its own rows only
                log.warning("encoder %s failed", name, exc_info=not isinstance(error, RaddinoError))
                reason = str(error) if isinstance(error, RaddinoError) else f"{type(error).__name__} while embedding"
                absent += [{"task": one.config.name, "encoder": name, "reason": reason} for one in examples]
            shown.advance(len(examples), name)
    if not scores:
        raise RaddinoError(f"every encoder failed: {absent[-1]['reason']}")

    rows, undefined = _measure(scores, loaded, plan, corpus.fingerprint, resamples, seed)
    data = {
        "format": FORMAT,
        "synthetic": corpus.info["synthetic"],
        "suite": plan.model_dump(mode="json"),
        "corpus": _describe(corpus),
        "environment": environment(),
        "seed": seed,
        "encoders": [_identify(name, encoder, spec, corpus) for (name, encoder), spec in zip(
            loaded.items(), encoders, strict=True)],
        "tasks": [one.describe() for one in examples],
        "rows": rows,
        "absent": absent + undefined,
    }  # fmt: skip
    results = Results(Path(out), data, _predictions(scores))
    results.save()
    return results


def _load(encoders: Sequence[str | Path | Encoder], names: Sequence[str] | None, device: str) -> dict[str, Encoder]:
    """Encoders by display name, in the given order."""
    if not encoders:
        raise ConfigError("no encoder to evaluate: give at least one, for example hog")
    if names is not None and len(names) != len(encoders):
        raise ConfigError(f"{len(names)} names for {len(encoders)} encoders")
    loaded = [load_encoder(spec, device) if isinstance(spec, str | Path) else spec for spec in encoders]
    shown = list(names) if names is not None else [encoder.name for encoder in loaded]
    for name in shown:
        if shown.count(name) > 1:
            raise ConfigError(f"two encoders are called {name!r}: give each a name of its own, name=path")
    return dict(zip(shown, loaded, strict=True))


def _select(corpus: Corpus, plan: Suite) -> tuple[list[Examples], list[dict[str, Any]]]:
    """Examples of every task that can be measured, and the reasons of those that cannot."""
    examples, absent = [], []
    for task in plan.tasks:
        try:
            examples.append(select_examples(corpus, task))
        except RaddinoError as error:
            absent.append({"task": task.name, "encoder": None, "reason": str(error)})
    if not examples:
        reasons = "; ".join(f"{one['task']}: {one['reason']}" for one in absent)
        raise RaddinoError(f"no task can be measured on this corpus. {reasons}")
    return examples, absent


def _probe(features: FeatureSet, examples: list[Examples], config: ProbeConfig, seed: int) -> dict[str, Scores]:
    """Scores by task name; tasks with the same images share one batched fit."""
    groups: dict[tuple[str, bytes], list[Examples]] = {}
    for one in examples:
        key = TASKS[one.config.kind].loss, one.rows.tobytes()
        groups.setdefault(key, []).append(one)
    scores = {}
    for members in groups.values():
        first = members[0]
        x = _read(features.take(first.rows), config)
        y = np.stack([one.target for one in members], axis=1)
        train, val, test = (first.at[split] for split in ("train", "val", "test"))
        loss = TASKS[first.config.kind].loss
        probe = fit_linear_probe((x[train], y[train]), (x[val], y[val]), loss, config, seed)
        outputs_val, outputs_test = probe.predict(x[val]), probe.predict(x[test])
        for label, one in enumerate(members):
            scores[one.config.name] = Scores(one, outputs_val[..., label], outputs_test[..., label], probe.chosen[label])
    return {one.config.name: scores[one.config.name] for one in examples}


def _read(features: FeatureSet, config: ProbeConfig) -> np.ndarray:
    """(N, D) input of the probe."""
    if config.features == "cls":
        return features.cls
    if features.mean_patch is None:
        raise RaddinoError(f"the probe reads {config.features}, but this encoder has no patch tokens")
    if config.features == "mean_patch":
        return features.mean_patch
    return np.concatenate([features.cls, features.mean_patch], axis=1)


def _measure(
    scores: dict[str, dict[str, Scores]], loaded: dict[str, Encoder], plan: Suite, data: str, resamples: int, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of all tasks and aggregates, and what could not be defined."""
    rows: list[dict[str, Any]] = []
    reference = next(iter(scores))
    aggregates = {
        name: [task for task in members if task in scores[reference]] for name, members in plan.macro.items()
    }
    aggregates = {name: members for name, members in aggregates.items() if members}
    for task in [*scores[reference], *aggregates]:
        first: list[Measured] | None = None
        for name, by_task in scores.items():
            identity = (name, loaded[name].fingerprint)
            if task in aggregates:
                members = [by_task[member] for member in aggregates[task]]
                bootstrap, places = _joint_bootstrap(members, resamples, seed)
                measured = measure_macro(task, members, bootstrap, places, identity, data)
            else:
                one = by_task[task].examples
                bootstrap = PatientBootstrap(one.patients[one.at["test"]], resamples, seed)
                measured = measure(by_task[task], bootstrap, identity, data)
            if first is None:
                first = measured
            else:
                compare(measured, first, by_task.get(task), scores[reference].get(task))
            rows += [one.row for one in measured]
    defined = [row for row in rows if np.isfinite(row["value"])]
    adjust(defined)
    undefined = [
        {"task": row["task"], "encoder": row["encoder"], "reason": f"{row['metric']} is not defined on these images"}
        for row in rows
        if not np.isfinite(row["value"])
    ]
    return defined, undefined


def _joint_bootstrap(members: list[Scores], resamples: int, seed: int) -> tuple[PatientBootstrap, list[np.ndarray]]:
    """A bootstrap over all test images of several tasks, and where each task's images stand among them."""
    tests = [(one.examples, one.examples.at["test"]) for one in members]
    patient_of = {row: patient for one, at in tests for row, patient in zip(one.rows[at], one.patients[at], strict=True)}
    rows = np.array(sorted(patient_of))
    bootstrap = PatientBootstrap([patient_of[row] for row in rows], resamples, seed)
    return bootstrap, [np.searchsorted(rows, one.rows[at]) for one, at in tests]


def _describe(corpus: Corpus) -> dict[str, Any]:
    manifest = corpus.manifest
    return {
        "name": corpus.path.name,
        "fingerprint": corpus.fingerprint,
        "images": len(manifest),
        "patients": int(manifest["patient"].nunique()),
        "sources": {str(source): int(n) for source, n in manifest["source"].value_counts().items()},
    }


def _identify(name: str, encoder: Encoder, spec: str | Path | Encoder, corpus: Corpus) -> dict[str, Any]:
    sources = [str(source) for source in corpus.manifest["source"].unique()]
    return {
        "name": name,
        "spec": str(spec) if isinstance(spec, str | Path) else encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "provenance": encoder.provenance.to_dict(),
        "seen": contamination(encoder.provenance, sources),
    }


def _predictions(scores: dict[str, dict[str, Scores]]) -> pd.DataFrame:
    """One row an image, task and encoder; validation and test."""
    tables = []
    for name, by_task in scores.items():
        for task, one in by_task.items():
            examples = one.examples
            for split, output in (("val", one.val), ("test", one.test)):
                at = examples.at[split]
                tables.append(
                    pd.DataFrame(
                        {
                            "task": task, "encoder": name, "id": examples.ids[at], "patient": examples.patients[at],
                            "split": split, "target": examples.target[at],
                            "score": TASKS[examples.config.kind].score(output.mean(0)),
                        }
                    )
                )  # fmt: skip
    return pd.concat(tables, ignore_index=True)
