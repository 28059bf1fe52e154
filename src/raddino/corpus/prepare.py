"""``prepare``: files in, a packed corpus out; atomic, resumable and without a trace of who was imaged."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from raddino import __version__
from raddino.config import validate
from raddino.corpus.dataset import FORMAT, Corpus
from raddino.corpus.manifest import CONTEXT, FACTS, canonical_items, read_items
from raddino.corpus.pack import PARTIAL, Recipe, Record, ShardTask
from raddino.corpus.pool import pack_all
from raddino.corpus.seal import seal, summary
from raddino.corpus.sources import split_spec
from raddino.corpus.splits import check_patient_splits, check_proportions, patient_fraction
from raddino.errors import ConfigError, RaddinoError
from raddino.images.mask_codes import is_code
from raddino.images.phi import keyed_hash, load_key
from raddino.progress import bar

__all__ = ["prepare", "summary"]

SMALLEST_SHARD, LARGEST_SHARD, SHARDS = 16, 512, 64
SYNTHETIC_KEY = "synthetic images have no patient"
SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LISTED_TWICE = "listed twice: only the first row is packed"


def prepare(
    images: str | Path,
    out: str | Path,
    *,
    columns: dict[str, str] | None = None,
    source: str | None = None,
    shorter_side: int = 518,
    bits: int = 8,
    frontal_only: bool = False,
    secondary_capture: bool = False,
    key: str | None = None,
    workers: int | None = None,
    where: str | None = None,
    splits: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    source_options: dict[str, Any] | None = None,
    fraction: float = 1.0,
) -> Corpus:
    """Read, prepare and pack images into a corpus folder.

    Interrupted, it goes on where it stopped when called again with the same arguments; finished, it returns
    the corpus. A file that cannot be read is listed in ``skipped.csv`` by keyed hash and reason, and stops
    nothing.

    Args:
        images: a folder, a glob, a ``.csv`` / ``.parquet`` manifest (also a folder that holds
            ``manifest.csv``), or ``NAME:FOLDER`` with a data set of :data:`raddino.corpus.sources.SOURCES`.
        out: the corpus folder, new or from an interrupted run.
        columns: our column to the manifest's, see :func:`raddino.corpus.manifest.read_items`.
        source: the data set's name where the manifest gives none.
        shorter_side: pixels; images are reduced to it and never enlarged.
        bits: 8 or 16 bits a pixel.
        frontal_only: leave lateral and oblique views out.
        secondary_capture: take DICOM Secondary Capture too, see :func:`raddino.images.admit.admit`; a data set that was
            published as such takes it without being asked.
        key: for hashing identifiers, see :func:`raddino.images.phi.load_key`.
        workers: processes; None for one a core. The result does not depend on it.
        where: pandas query that rows of the manifest must satisfy.
        splits: proportions of train, val and test for patients whose split the manifest does not give.
        seed: of those splits, and of ``fraction``.
        source_options: of the data set that ``NAME:FOLDER`` names, e.g. ``{"readers": "any"}``; kept in
            ``corpus.json`` under ``source``.
        fraction: share of the patients, drawn by hash and nested; where only a DICOM header tells the patient,
            images count singly.

    Raises:
        RaddinoError: nothing to read, ``out`` holds something else, a patient stands in two splits, no image
            left.
    """
    out = Path(out)
    check_proportions(splits)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    if out.exists() and not out.is_dir():
        raise RaddinoError(f"{out} is a file; --out takes a folder")
    spec = split_spec(images)
    secondary_capture = secondary_capture or (spec is not None and spec[0].secondary_capture)
    values: Record = {"shorter_side": shorter_side, "bits": bits, "frontal_only": frontal_only}
    values |= {"secondary_capture": secondary_capture, "splits": tuple(splits), "seed": seed}
    recipe = validate(Recipe, values)
    made_by: Record = {}
    if spec:
        if source is not None:
            raise ConfigError(f"source is given twice: {images} names one, source={source!r} another")
        raw = spec[0].read(spec[1], **(source_options or {}))
        made_by["source"] = {"name": spec[0].name, **raw.attrs}
        table, classes = canonical_items(raw, spec[1], columns, where)
    elif source_options:
        raise ConfigError(f"source_options need images like vindr-cxr:FOLDER; {images} names no source")
    else:
        table, classes = read_items(images, columns, source, where, exclude=out)
    key = SYNTHETIC_KEY if table["synthetic"].all() else load_key(key)
    items, repeated = _pseudonymise(table, key)
    if fraction != 1:
        inside = patient_fraction([item["patient"] or item["id"] for item in items], fraction, seed)
        items = [item for item, chosen in zip(items, inside, strict=True) if chosen]
        made_by["fraction"] = fraction
    check_patient_splits(pd.DataFrame(items, columns=["patient", "split"]))
    plan = _plan(items, recipe, key)
    if _begin(out, plan):
        return Corpus.open(out)
    tasks = _tasks(out, items, recipe, key)
    todo = [task for task in tasks if not task.record.is_file()]
    with bar("prepare", total=len(items), done=len(items) - sum(len(task.items) for task in todo)) as shown:
        pack_all(todo, workers, shown)
    info = {"preparation": recipe.model_dump(mode="json"), "plan": plan, **made_by}
    return seal(out, tasks, repeated, classes, info)


def _pseudonymise(table: pd.DataFrame, key: str) -> tuple[list[Record], list[Record]]:
    """Rows to items whose ids, patients and studies are keyed hashes; a row listed twice is set apart.

    Synthetic images keep their names: there is nobody to protect, and a reader can find them again.
    """
    labels = [column for column in table if column.startswith("label_")]
    masks = [column for column in table if column.startswith("mask_")]
    items: dict[str, Record] = {}
    repeated = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):

        def pseudonym(kind: str, name: str | None, row: dict[Any, Any] = row) -> str | None:
            if name is None or (row["synthetic"] and SAFE_NAME.fullmatch(name)):
                return name
            return keyed_hash(key, kind, row["source"], name)

        item = {name: row[name] for name in ("file", "source", "split", "synthetic", *FACTS)}
        item["id"] = pseudonym("image", row["name"] or "")
        item["patient"] = pseudonym("patient", row["patient"])
        item["study"] = pseudonym("study", row["study"])
        item["labels"] = {name: row[name] for name in labels}
        item["masks"] = {name.removeprefix("mask_"): row[name] for name in masks if row[name]}
        if item["id"] in items:
            repeated.append({"hash": item["id"], "reason": LISTED_TWICE})
        items.setdefault(item["id"], item)
    split_of_patient = {item["patient"]: item["split"] for item in items.values() if item["split"]}
    for item in items.values():
        if item["patient"] and not item["split"]:
            item["split"] = split_of_patient.get(item["patient"])
    return list(items.values()), repeated


def _plan(items: list[Record], recipe: Recipe, key: str) -> str:
    """Keyed digest of all that the result depends on; of each file its size and time of change.

    What an image's reports leave unsaid (:data:`~raddino.corpus.manifest.CONTEXT`) does not count.
    """
    digest = hashlib.sha256(f"{FORMAT} {__version__} {recipe.model_dump_json()}".encode())
    for item in items:
        parts = [(name, part) for name, parts in item["masks"].items() for part in parts]
        states = [_state(part) for part in (item["file"], *(part for _, part in parts))]
        told = {name: value for name, value in item.items() if name not in ("file", "masks")}
        told = {name: value for name, value in told.items() if name not in CONTEXT or value is not None}
        digest.update(json.dumps([told, [name for name, _ in parts], states], sort_keys=True).encode())
    return keyed_hash(key, "plan", digest.hexdigest())


def _state(part: str) -> tuple[int, int] | str | None:
    """Size and time of change of a file, None without one; a mask's code as it is."""
    if is_code(part):
        return part
    stat = os.stat(part) if os.path.isfile(part) else None
    return (stat.st_size, stat.st_mtime_ns) if stat else None


def _begin(out: Path, plan: str) -> bool:
    """Make or re-enter the work folder; True when the corpus is already complete.

    Raises:
        RaddinoError: ``out`` holds something that these inputs and settings did not make.
    """
    marker = out / PARTIAL / "plan"
    other = f"{out} was made from other images, settings or key; choose another --out, or delete it first"
    if (out / "corpus.json").is_file():
        if Corpus.open(out).info["plan"] != plan:
            raise RaddinoError(other)
        return True
    if marker.is_file():
        if marker.read_text() != plan:
            raise RaddinoError(other)
    elif out.is_dir() and any(out.iterdir()):
        raise RaddinoError(f"{out} is not empty and holds no corpus; choose another --out")
    (out / "shards").mkdir(parents=True, exist_ok=True)
    marker.parent.mkdir(exist_ok=True)
    marker.write_text(plan)
    for part in (*(out / "shards").glob("*.part"), *marker.parent.glob("*.part")):
        part.unlink()
    return False


def _tasks(out: Path, items: list[Record], recipe: Recipe, key: str) -> list[ShardTask]:
    """Consecutive items to shards: at least 64 of them where there are enough images, for as many cores."""
    size = min(LARGEST_SHARD, max(SMALLEST_SHARD, math.ceil(len(items) / SHARDS)))
    return [
        ShardTask(out, number, items[start : start + size], recipe, key)
        for number, start in enumerate(range(0, len(items), size))
    ]
