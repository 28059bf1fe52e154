"""What the weights of a run have seen: its own images, and all that the weights saw from which it started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raddino.corpus.dataset import Corpus
from raddino.encoders.base import ENCODERS, Provenance
from raddino.encoders.export import RECORD
from raddino.encoders.load import load_encoder
from raddino.encoders.seen_images import SeenImages
from raddino.encoders.weights import RANDOM, RANDOM_MARKER
from raddino.errors import RaddinoError
from raddino.files import read_json, sha256
from raddino.ssl import SslConfig
from raddino.training.checkpoint import is_checkpoint
from raddino.training.settings import PretrainConfig

OWN, EXPORTED = "raddino.json", RECORD
ENVIRONMENT = "environment.json"
REMEDY = "restore the file"
UNRECORDED = "no record"


def run_record(
    config: PretrainConfig, corpus: Corpus, rows: np.ndarray, environment: dict[str, Any], trained: bool
) -> Provenance:
    """The record of a run's weights after training, for its ``environment.json`` and its encoders.

    A run that goes on with other images (``--fork``) keeps those of before on record.

    Args:
        config: of the run.
        corpus, rows: what it trains on.
        environment: ``environment.json`` as the run's folder holds it, empty for a new run.
        trained: whether the folder holds a checkpoint to go on from.

    Raises:
        RaddinoError: a record beside the initial weights, or in ``environment``, is damaged or of other weights.
    """
    table = corpus.manifest.iloc[rows]
    own = Provenance(
        sources=sorted(map(str, table["source"].unique())),
        supervision="labels" if "(keep)" in (words := guided(config.ssl)) else "self-supervised",
        licence="other",
        synthetic=synthetic(table["synthetic"]),
        note=words,
        corpora={key: list(config.splits) for key in corpus.fingerprints},
    )
    if trained and "provenance" in environment:
        earlier = _read(environment["provenance"], Path(ENVIRONMENT))
        same = replace(earlier, before=[]) == own
        return replace(own, before=earlier.before if same else earlier.trainings)
    return replace(own, before=initial_record(config.init).trainings if config.init else [])


def initial_record(named: str | Path) -> Provenance:
    """What is on record of weights to start from; of those without a record nothing is known.

    Args:
        named: encoder folder, ``step_N`` folder of a run, Hugging Face folder, or weights file, beside which the record
            of ``raddino export`` is found; or an encoder by its name, ``dinov2-base``.

    Raises:
        RaddinoError: the record is damaged, or of other weights than those beside it.
    """
    init = Path(named)
    if not init.exists() and str(named).partition(":")[0] in ENCODERS:
        return load_encoder(str(named), "cpu").provenance
    if is_checkpoint(init):
        run = init.parents[1]
        told = _json(run / ENVIRONMENT).get("provenance") or _json(run / "encoder" / OWN).get("provenance")
        return _read(told, run / ENVIRONMENT) if told else _unrecorded("")
    folder, weights = (init, init / "model.safetensors") if init.is_dir() else (init.parent, init)
    digest = sha256(weights) if weights.is_file() else ""
    if (folder / RANDOM_MARKER).is_file():
        return Provenance(sources=[], supervision="none", sha256=digest or None, note=RANDOM)
    if init.is_dir() and (own := _json(folder / OWN)):
        if own.get("sha256", digest) != digest:
            raise RaddinoError(f"{folder / OWN} describes other weights than {weights.name}: save the encoder again")
        return replace(_read(own.get("provenance"), folder / OWN), sha256=digest)
    exported = _json(folder / EXPORTED)
    files = exported.get("files")
    about = files.get(weights.name) if isinstance(files, dict) else None
    if isinstance(about, dict) and about.get("sha256") == digest:
        return replace(_read(exported.get("provenance"), folder / EXPORTED), sha256=digest)
    return _unrecorded(digest)


def initial_images(named: str | Path) -> SeenImages | None:
    """Digests beside weights to start from, see :func:`initial_record`; None where there are none."""
    init = Path(named)
    if not init.exists() and str(named).partition(":")[0] in ENCODERS:
        return getattr(load_encoder(str(named), "cpu"), "seen_images", None)
    if is_checkpoint(init):
        return SeenImages.load(init.parents[1])
    recorded = init.is_dir() or initial_record(init).note != UNRECORDED
    return SeenImages.load(init if init.is_dir() else init.parent) if recorded else None


def at_step(record: Provenance, step: int, batch_size: int) -> Provenance:
    """The record of a run's weights after ``step`` steps; before the first, of those that it started from."""
    last = record.before[0] if record.before else None
    started = f" Started from weights with sha256 {last.sha256 or 'not recorded'}." if last else ""
    if step:
        words = f" {record.note}" if record.note else ""
        return replace(record, note=f"After {step} steps of {batch_size} images.{started}{words}")
    note = f"Initial weights, not trained here.{started}"
    return replace(last, before=record.before[1:], note=note) if last else Provenance(licence="other", note=note)


def guided(ssl: SslConfig) -> str:
    """Which columns guided a training, in words; empty where none did."""
    if not ssl.guides or not ssl.guide_weight:
        return ""
    told = ", ".join(f"{column} ({what})" for column, what in ssl.guides)
    return f"Guided by the manifest's columns {told}."


def synthetic(values: Any) -> bool | str:
    """Whether images are synthetic: all, none, or ``"mixed"``."""
    return bool(values.all()) if values.nunique() == 1 else "mixed"


def _unrecorded(digest: str) -> Provenance:
    return Provenance(sources=None, supervision="unknown", sha256=digest or None, note=UNRECORDED)


def _json(file: Path) -> dict[str, Any]:
    return read_json(file, REMEDY) if file.is_file() else {}


def _read(told: Any, file: Path) -> Provenance:
    try:
        return Provenance.from_dict(told)
    except RaddinoError as error:
        raise RaddinoError(f"{file}: {error}; {REMEDY}") from None
