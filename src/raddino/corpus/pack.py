"""One shard from a list of items: the unit of parallel, resumable and cluster-wide packing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from raddino.config import Config
from raddino.corpus.identifiers import is_placeholder
from raddino.corpus.manifest import CONTEXT
from raddino.corpus.shards import ShardWriter, encode_png
from raddino.corpus.splits import split_of
from raddino.files import write_text
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.intensity import resize_nearest
from raddino.images.mask_codes import decode, is_code
from raddino.images.phi import patient_hash, study_hash
from raddino.images.read import read_image, read_mask, to_grey
from raddino.images.types import Radiograph

PARTIAL = ".partial"
HEADER_FACTS = ("view", "sex", "age", "weight", "bmi")
MASK_ASPECT_TOLERANCE = 0.02
Record = dict[str, Any]


class Recipe(Config):
    """How images become grey arrays; kept in ``corpus.json``.

    Attributes:
        shorter_side: pixels; images are never enlarged.
        bits: 8 or 16 bits a pixel.
        frontal_only: leave lateral and oblique views out.
        splits: proportions of train, val and test for patients without a given split.
        seed: of the split.
    """

    shorter_side: int = Field(default=518, ge=16, le=8192)
    bits: Literal[8, 16] = 8
    frontal_only: bool = False
    splits: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 0


@dataclass(frozen=True)
class ShardTask:
    """Everything :func:`pack_shard` needs, picklable.

    Attributes:
        out: the corpus folder.
        number: of the shard.
        items: of each image, see :class:`raddino.corpus.items.Items`.
        recipe: how to prepare.
        key: for hashing identifiers found in headers; stays in memory.
    """

    out: Path
    number: int
    items: Sequence[Record]
    recipe: Recipe
    key: str

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"{self.number:06d}.tar"

    @property
    def record(self) -> Path:
        """Keeps the shard's rows until the manifest is written; it exists once the shard is whole."""
        return self.out / PARTIAL / f"{self.number:06d}.json"


def pack_shard(task: ShardTask, advance: Callable[[], None] = lambda: None) -> None:
    """Read, prepare and pack every item; a file that cannot be read is recorded with its reason.

    Args:
        task: the work.
        advance: called after every image; what it raises ends the shard, which then leaves nothing behind.
    """
    rows: list[Record] = []
    skipped: list[Record] = []
    writer = ShardWriter(task.out / "shards" / task.name)
    try:
        for item in task.items:
            try:
                image, masks, row = prepare_image(item, task.recipe, task.key)
            except ImageError as error:
                skipped.append({"hash": item["id"], "reason": error.reason})
            except Exception as error:
                skipped.append({"hash": item["id"], "reason": f"unexpected {type(error).__name__}"})
            else:
                rows.append(_write(writer, task.name, image, masks, row))
            advance()
        size = writer.close()
    except BaseException:
        writer.abandon()
        raise
    record = {"size": size, "rows": rows, "skipped": skipped}
    write_text(task.record, json.dumps({**record, "sha256": record_digest(record)}))


def record_digest(record: Record) -> str:
    """SHA-256 of what a shard's record holds beside it."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def prepare_image(item: Record, recipe: Recipe, key: str) -> tuple[np.ndarray, dict[str, np.ndarray], Record]:
    """One file to its packed array (H, W), its masks at the same size, and its manifest row.

    Raises:
        ImageError: the file is unreadable or set aside; its ``reason`` holds nothing private.
    """
    _check_view(item["view"], recipe)
    radiograph = read_image(item["file"])
    row = _facts(item, radiograph, key)
    _check_view(row["view"], recipe)
    image = to_grey(radiograph, recipe.shorter_side, recipe.bits)
    notes = list(radiograph.warnings)
    if item["patient"] is None and is_placeholder(radiograph.identifiers.patient or "named"):
        notes.append("PatientID is a placeholder (anonymous, unknown): counts as without a patient")
    masks = {}
    for name, parts in item["masks"].items():
        try:
            masks[name] = _mask(parts, radiograph.pixels.shape, image.shape)
        except ImageError as error:
            notes.append(f"mask {name} left out: {error.reason}")
    row["split"] = item["split"] or split_of(row["patient"], recipe.splits, recipe.seed)
    row |= {"height": image.shape[0], "width": image.shape[1], **item["labels"]}
    row |= {"warnings": "; ".join(notes) or None, "sha256": digest(image)}
    row["sha256_masks"] = _joint_digest(masks) if masks else None
    return image, masks, row


def _check_view(view: str | None, recipe: Recipe) -> None:
    if recipe.frontal_only and view in ("LATERAL", "OBLIQUE"):
        raise NotARadiograph(f"{view.lower()} view left out")


def _facts(item: Record, radiograph: Radiograph, key: str) -> Record:
    """What is known of an image: the manifest's word first, then the header's, identifiers hashed."""
    row = {name: item[name] for name in ("id", "source", "report", *CONTEXT, "licence", "synthetic")}
    for name in HEADER_FACTS:
        row[name] = getattr(radiograph.facts, name) if item[name] is None else item[name]
    told, space = radiograph.identifiers, item["namespace"]
    named = told.patient if told.patient and not is_placeholder(told.patient) else None
    patient = item["patient"] or (named and patient_hash(key, space, named))
    row["study"] = item["study"] or (told.study and study_hash(key, patient or space, told.study))
    return {**row, "patient": patient or item["id"], "namespace": space if patient else None}


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and little-endian values."""
    header = f"{array.dtype.name}{array.shape}".encode()
    return hashlib.sha256(header + array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _joint_digest(masks: dict[str, np.ndarray]) -> str:
    parts = (f"{name} {digest(mask)}" for name, mask in sorted(masks.items()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _mask(parts: Sequence[str], source_shape: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The greatest value that one of ``parts`` has at each pixel of ``shape``."""
    return reduce(np.maximum, (_layer(part, source_shape, shape) for part in parts))


def _layer(part: str, source_shape: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    mask = decode(part, source_shape) if is_code(part) else read_mask(part)
    aspects = mask.shape[1] / mask.shape[0], source_shape[1] / source_shape[0]
    if abs(aspects[0] / aspects[1] - 1) > MASK_ASPECT_TOLERANCE:
        raise UnreadableImage("its shape is not the image's")
    return resize_nearest(mask, (shape[0], shape[1]))


def _write(writer: ShardWriter, shard: str, image: np.ndarray, masks: dict[str, np.ndarray], row: Record) -> Record:
    """Append the members of one image; returns its row with their places."""
    offset, length = writer.add(f"{row['id']}.png", encode_png(image))
    places = {}
    for name, mask in masks.items():
        at, size = writer.add(f"{row['id']}.mask_{name}.png", encode_png(mask))
        places[f"mask_{name}"] = f"{shard}:{at}:{size}"
    facts = {name: value for name, value in row.items() if value is not None}
    writer.add(f"{row['id']}.json", json.dumps(facts, sort_keys=True).encode())
    return {**row, "shard": shard, "offset": offset, "length": length, **places}
