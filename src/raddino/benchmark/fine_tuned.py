"""Encoders trained further on the labels, beside their own probes: same images, features, criterion and intervals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from raddino.benchmark.measure import Scores
from raddino.benchmark.sites import Visit
from raddino.errors import RaddinoError
from raddino.files import SEAL, UNSEALED, check_seal, draft_of, seal
from raddino.tasks.base import TASKS, Examples, joined
from raddino.tasks.fine_tuning.settings import FineTuneConfig
from raddino.tasks.fine_tuning.tune import Tuned, fine_tune, record
from raddino.tasks.probes.base import ProbeConfig, Request

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

FOLDER = "fine_tuned"
AGAIN = "delete it, and the encoder is trained again"


def fine_tune_all(
    corpus: Corpus,
    encoder: Encoder,
    config: FineTuneConfig,
    examples: Sequence[Examples],
    visited: Sequence[Visit],
    probe: ProbeConfig,
    folder: Path,
    *,
    seed: int,
    device: str,
    precision: str,
) -> dict[str, Scores]:
    """Scores by task name, inside and at sites; labels of the same images share one network.

    What a network put out is kept in ``folder`` and not computed again by the same evaluation.

    Args:
        corpus, encoder, config: what is trained on what, and how.
        examples: of the tasks inside.
        visited: the tasks at sites.
        probe: says by what features and criterion.
        folder: the result folder.
        seed, device, precision: of :func:`~raddino.benchmark.evaluate.evaluate`.
    """
    scores: dict[str, Scores] = {}
    for members in joined(examples):
        first = members[0]
        y = np.concatenate([one.columns for one in members], axis=1)
        own = {one.config.name: label for label, one in enumerate(members)}
        away = [visit for visit in visited if visit.inside in own]
        tested = [first, *(visit.examples for visit in away)]
        groups = [one.rows[one.at["test"]] for one in tested]
        train, val = ((first.rows[first.at[split]], y[first.at[split]]) for split in ("train", "val"))
        labels = tuple(output for one in members for output in one.outputs)
        request = Request(TASKS[first.config.kind].loss, labels, seed, device, encoder)
        key = _key(corpus, encoder, config, probe, precision, request, (*train, *val, *groups))
        train_it = partial(fine_tune, encoder, config, corpus.read, train, val, groups, probe, request, precision)
        file = folder / FOLDER / f"{key}.safetensors"
        tuned = _kept(file) or _keep(file, train_it())
        told = record(config, probe, request, tuned)
        for one, label in [(one, own[one.config.name]) for one in members]:
            scores[one.config.name] = _scores(one, tuned, 0, label, told)
        for place, visit in enumerate(away, start=1):
            scores[visit.examples.config.name] = _scores(visit.examples, tuned, place, own[visit.inside], told)
    return scores


def _scores(one: Examples, tuned: Tuned, place: int, label: int, told: dict[str, Any]) -> Scores:
    """Of the outputs of one label, or of all classes of one; ``place`` of its test images among the others."""
    val, test = (part if one.classes else part[..., label] for part in (tuned.val, tuned.others[place]))
    return Scores(one, val, test, told)


def _key(
    corpus: Corpus,
    encoder: Encoder,
    config: FineTuneConfig,
    probe: ProbeConfig,
    precision: str,
    request: Request,
    arrays: Sequence[np.ndarray],
) -> str:
    settings: Any = [config.model_dump(mode="json"), probe.features, probe.rule(request.loss), precision]
    said = [corpus.fingerprint, encoder.fingerprint, settings, request.loss, request.labels, request.seed]
    digest = hashlib.sha256(json.dumps(said).encode())
    for array in arrays:
        digest.update(f"{array.shape}".encode() + np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()[:20]


def _keep(file: Path, tuned: Tuned) -> Tuned:
    tensors = {"val": tuned.val, **{f"other.{i}": one for i, one in enumerate(tuned.others)}}
    chosen = np.array([tuned.learning_rate, tuned.step])
    file.parent.mkdir(parents=True, exist_ok=True)
    with draft_of(file) as draft:
        contiguous = {name: np.ascontiguousarray(one) for name, one in (tensors | {"chosen": chosen}).items()}
        save_file(contiguous, draft, metadata={SEAL: UNSEALED})
        seal(draft)
    return tuned


def _kept(file: Path) -> Tuned | None:
    """What :func:`_keep` wrote; None where there is nothing. Raises RaddinoError where it is damaged."""
    if not file.is_file():
        return None
    if not check_seal(file, AGAIN):
        raise RaddinoError(f"{file} is damaged (its seal is broken): {AGAIN}")
    with safe_open(file, "numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    others = [tensors[f"other.{i}"] for i in range(len(tensors) - 2)]
    return Tuned(tensors["val"], others, float(tensors["chosen"][0]), int(tensors["chosen"][1]))
