"""Encoders x tasks: embed once, probe, measure with shared patient resamples, write the result folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.benchmark.measure import Draw, Measured, Scores, adjust, compare, measure
from raddino.benchmark.results import FORMAT, Results, contamination, environment
from raddino.benchmark.suite import Suite, derive_suite, load_suite
from raddino.corpus.splits import check_patient_splits
from raddino.encoders.base import Encoder
from raddino.encoders.load import load_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.progress import track
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
    out: str | Path,
    suite: str | Path | None = None,
    targets: list[str] | None = None,
    names: Sequence[str | None] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    batch_size: int = 32,
    device: str = "auto",
    cache: Path | None = None,
) -> Results:
    """Judge frozen encoders by linear probes on the labels of a corpus.

    Hyperparameters, thresholds and temperatures are chosen on validation images; the test split is read
    once. The first encoder is the reference of all differences. A task without enough data, and an encoder
    that fails, lose their own rows only and are listed with the reason.

    Args:
        corpus: with splits by patient.
        encoders: specs of :func:`~raddino.encoders.load.load_encoder`, or encoders.
        out: result folder; an earlier result in it is replaced.
        suite: shipped name or YAML file; by default everything the corpus has labels for.
        targets: manifest columns to use instead of a suite; ``"view=AP"`` names a positive value.
        names: display names, one an encoder; None for the encoder's own.
        seed: of probes and resamples.
        resamples: of the patient bootstrap.
        batch_size, device, cache: of the embedding, see :func:`~raddino.features.extract.embed`.

    Raises:
        RaddinoError: a patient stands in two splits, an encoder or suite is not known, or nothing can be
            measured.
    """
    check_patient_splits(corpus.manifest)
    if suite is not None and targets is not None:
        raise ConfigError("give a suite or targets, not both")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1, got {resamples}")
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, got {seed}")
    if Path(out).exists() and not Path(out).is_dir():
        raise RaddinoError(f"{out} is a file; --out takes a folder")
    plan = load_suite(suite) if suite is not None else derive_suite(corpus.manifest, targets)
    loaded = _load(encoders, names, device)
    examples, absent = _select(corpus, plan)
    needed = np.unique(np.concatenate([one.rows for one in examples]))

    scores: dict[str, dict[str, Scores]] = {}
    fingerprints: dict[str, str] = {}
    for name, encoder in loaded.items():
        try:
            features = embed(corpus, encoder, rows=needed, batch_size=batch_size, cache=cache)
            scores[name] = _probe(name, features, examples, plan.probe, seed)
            fingerprints[name] = features.encoder
        except Exception as error:  # foreign code: whatever an encoder raises costs its own rows only
            expected = isinstance(error, RaddinoError)
            log.warning("encoder %s failed", name, exc_info=not expected)
            reason = str(error) if expected else f"encoder failed with {type(error).__name__}"
            absent += [_absence(one.config.name, name, reason) for one in examples]
    if not scores:
        raise RaddinoError(f"every encoder failed: {absent[-1]['reason']}")

    rows, undefined = _measure(scores, fingerprints, plan.macro, corpus.fingerprint, resamples, seed)
    data = {
        "format": FORMAT,
        "synthetic": corpus.info["synthetic"],
        "suite": plan.model_dump(mode="json"),
        "corpus": _describe(corpus),
        "environment": environment(),
        "seed": seed,
        "encoders": [
            _identify(name, encoder, spec, fingerprints.get(name), corpus)
            for (name, encoder), spec in zip(loaded.items(), encoders, strict=True)
        ],
        "tasks": [one.describe() for one in examples],
        "rows": rows,
        "absent": absent + undefined,
    }
    results = Results(Path(out), data, _predictions(scores))
    results.save()
    return results


def _load(
    encoders: Sequence[str | Path | Encoder], names: Sequence[str | None] | None, device: str
) -> dict[str, Encoder]:
    """Encoders by display name, in the given order."""
    if not encoders:
        raise ConfigError("no encoder to evaluate: give at least one, for example hog")
    names = names or [None] * len(encoders)
    if len(names) != len(encoders):
        raise ConfigError(f"{len(names)} names for {len(encoders)} encoders")
    loaded = [load_encoder(spec, device) if isinstance(spec, str | Path) else spec for spec in encoders]
    shown = [name or encoder.name for name, encoder in zip(names, loaded, strict=True)]
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
            absent.append(_absence(task.name, None, str(error)))
    if not examples:
        reasons = "; ".join(f"{one['task']}: {one['reason']}" for one in absent)
        raise RaddinoError(f"no task can be measured on this corpus. {reasons}")
    return examples, absent


def _probe(
    encoder: str, features: FeatureSet, examples: list[Examples], config: ProbeConfig, seed: int
) -> dict[str, Scores]:
    """Scores by task name; tasks with the same images share one batched fit."""
    groups: dict[tuple[str, bytes], list[Examples]] = {}
    for one in examples:
        groups.setdefault((one.config.kind, one.rows.tobytes()), []).append(one)
    scores = {}
    for members in track(list(groups.values()), f"probe {encoder}"):
        kind, at = members[0].config.kind, members[0].at
        x = _read(features.take(members[0].rows), config)
        y = np.stack([one.target for one in members], axis=1)
        train, val = ((x[at[split]], y[at[split]]) for split in ("train", "val"))
        probe = fit_linear_probe(train, val, TASKS[kind].loss, config, seed)
        outputs = {split: probe.predict(x[at[split]]) for split in ("val", "test")}
        for label, one in enumerate(members):
            scores[one.config.name] = Scores(
                one, outputs["val"][..., label], outputs["test"][..., label], probe.chosen[label]
            )
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
    scores: dict[str, dict[str, Scores]],
    fingerprints: dict[str, str],
    macro: dict[str, tuple[str, ...]],
    data: str,
    resamples: int,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of all tasks and aggregates, and what is not defined on these images."""
    reference = next(iter(scores.values()))
    parts = {task: [task] for task in reference}
    for aggregate, listed in macro.items():
        present = [task for task in listed if task in reference]
        if len(present) > 1:
            parts[aggregate] = present
    rows = []
    for name, tasks in parts.items():
        reference_scores = [reference[task] for task in tasks]
        draw = Draw.of([one.examples for one in reference_scores], resamples, seed)
        first: list[Measured] = []
        for encoder, by_task in scores.items():
            members = [by_task[task] for task in tasks]
            measured = measure(name, members, draw, encoder, fingerprints[encoder], data)
            if first:
                compare(measured, first, members, reference_scores)
            first = first or measured
            rows += [one.row for one in measured]
    defined = [row for row in rows if np.isfinite(row["value"])]
    adjust(defined)
    undefined = [
        _absence(row["task"], row["encoder"], f"{row['metric']} is not defined on these images")
        for row in rows
        if not np.isfinite(row["value"])
    ]
    return defined, undefined


def _absence(task: str, encoder: str | None, reason: str) -> dict[str, Any]:
    return {"task": task, "encoder": encoder, "reason": reason}


def _describe(corpus: Corpus) -> dict[str, Any]:
    manifest = corpus.manifest
    return {
        "name": corpus.path.name,
        "fingerprint": corpus.fingerprint,
        "images": len(manifest),
        "patients": int(manifest["patient"].nunique()),
        "sources": {str(source): int(n) for source, n in manifest["source"].value_counts().items()},
    }


def _identify(
    name: str, encoder: Encoder, spec: str | Path | Encoder, fingerprint: str | None, corpus: Corpus
) -> dict[str, Any]:
    sources = [str(source) for source in corpus.manifest["source"].unique()]
    return {
        "name": name,
        "spec": Path(spec).name if isinstance(spec, str | Path) else encoder.name,
        "fingerprint": fingerprint,
        "dim": encoder.dim,
        "provenance": encoder.provenance.to_dict(),
        "seen": contamination(encoder.provenance, sources, corpus.fingerprint),
    }


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
    return pd.concat(tables, ignore_index=True)
