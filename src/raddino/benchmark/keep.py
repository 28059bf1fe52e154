"""The probes of an evaluation, kept beside its results for ``raddino predict``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit

from raddino.benchmark.cases import slug
from raddino.benchmark.measure import Scores
from raddino.corpus.dataset import Corpus
from raddino.encoders.base import Encoder
from raddino.encoders.kept_spec import kept_spec
from raddino.features.forward import resolve_precision
from raddino.files import draft_folder, writing
from raddino.metrics.calibration import fit_softmax_temperature
from raddino.tasks.base import Statistic
from raddino.tasks.probes import ProbeConfig
from raddino.tasks.probes.kept import KeptProbe, ProbeRecord

FOLDER = "probes"
THRESHOLD = "sensitivity_at_"


def keep_probes(
    folder: Path,
    corpus: Corpus,
    scores: Mapping[str, Mapping[str, Scores]],
    encoders: Mapping[str, Encoder],
    specs: Mapping[str, str | None],
    config: ProbeConfig,
    precision: str,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write ``probes/<task>/<encoder>/`` of every linear map, in the place of what stood there.

    Args:
        folder: of the results.
        corpus: trained on.
        scores: by encoder and task; those without a map (kNN, attentive, zero-shot) are not kept.
        encoders, specs: by display name, as they were before any flips.
        config, precision: of the probes and of the embedding.
        rows: of ``metrics.json``.
    """
    signatures: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        signatures.setdefault((row["encoder"], row["task"]), row)
    kept = {}
    for encoder, by_task in scores.items():
        for task, one in by_task.items():
            row = signatures.get((encoder, task), {})
            if one.linear is not None:
                place = Path(slug(task)) / slug(encoder)
                given = specs[encoder]
                spec = given and kept_spec(given, folder / FOLDER / place, folder)
                kept[place] = _kept(corpus, one, encoder, encoders[encoder], spec, config, precision, row)
    if not kept:
        with writing(folder):
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
        return
    with draft_folder(folder / FOLDER) as draft:
        for place, probe in kept.items():
            (draft / place).mkdir(parents=True)
            probe.save(draft / place)


def _kept(
    corpus: Corpus,
    scores: Scores,
    name: str,
    encoder: Encoder,
    spec: str | None,
    config: ProbeConfig,
    precision: str,
    row: Mapping[str, Any],
) -> KeptProbe:
    examples, task = scores.examples, scores.examples.config
    temperature, thresholds = _calibration(scores)
    prepared = corpus.info.get("preparation") or {}
    used = examples.rows[np.isin(examples.split, ("train", "val"))]
    assert scores.linear is not None
    weight, bias = scores.linear
    record = ProbeRecord.model_validate(
        {
            "task": task.name,
            "target": task.target,
            "kind": task.kind,
            "positive": task.positive,
            "classes": list(examples.classes),
            "encoder": name,
            "fingerprint": encoder.fingerprint,
            "spec": spec,
            "features": config.features,
            "flips": config.flips,
            "precision": resolve_precision(precision, encoder),
            "shorter_side": prepared.get("shorter_side"),
            "bits": prepared.get("bits", 8),
            "temperature": temperature,
            "thresholds": thresholds,
            "sources": sorted(corpus.manifest["source"].iloc[used].astype(str).unique()),
            "scope": row.get("scope", ""),
            "corpus": corpus.fingerprint,
            "images": {split: len(at) for split, at in examples.at.items()},
            "signature": row.get("signature", ""),
        }
    )
    return KeptProbe(weight, bias, record)


def _calibration(scores: Scores) -> tuple[float, dict[str, float]]:
    """Temperature, and thresholds on the scale of the probabilities after it, both of validation images."""
    kind = scores.examples.config.kind
    if kind == "multiclass":
        target = scores.examples.target[scores.examples.at["val"]]
        return fit_softmax_temperature(target, scores.val.mean(0)), {}
    if kind != "binary":
        return 1.0, {}
    statistics: dict[str, Statistic] = scores.statistics()
    temperature = float(statistics["brier_temperature"].detail["temperature"])
    plain = {
        name.removeprefix(THRESHOLD): one.detail["threshold"]
        for name, one in statistics.items()
        if name.startswith(THRESHOLD)
    }
    inside = {name: float(value) for name, value in plain.items() if 0 < value < 1}
    return temperature, {name: float(expit(logit(value) / temperature)) for name, value in inside.items()}
