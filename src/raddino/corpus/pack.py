"""One shard from a list of items: the unit of parallel, resumable and cluster-wide packing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from raddino.config import Config
from raddino.corpus.copies import UNSETTLED, Policy
from raddino.corpus.identifiers import SHORTENED, is_placeholder, model_name, station_name
from raddino.corpus.manifest import CONTEXT
from raddino.corpus.render import Rendered, check_frontal, render
from raddino.corpus.shards import ShardWriter, decode_png
from raddino.corpus.splits import split_of
from raddino.files import write_json
from raddino.images.acquisition import ACQUISITION
from raddino.images.errors import ImageError
from raddino.images.likeness import thumbnail, to_text
from raddino.images.location import fetch
from raddino.images.mask_codes import is_code
from raddino.images.phi import patient_hash, study_hash
from raddino.images.wall import Wall, seconds_for

PARTIAL = ".partial"
AT_ONCE = 16
"""Images that are mended together."""
HEADER_FACTS = ("view", "sex", "age", "weight", "bmi", *ACQUISITION)
Record = dict[str, Any]


class Recipe(Config):
    """How images become grey arrays; kept in ``corpus.json``.

    Attributes:
        shorter_side: pixels; images are never enlarged.
        bits: 8 or 16 bits a pixel.
        frontal_only: leave lateral and oblique views out.
        secondary_capture: take DICOM Secondary Capture too.
        splits: proportions of train, val and test for patients without a given split.
        seed: of the split.
        mended: what was done to images before they were packed.
        duplicates: what was done about copies of one picture, see :data:`raddino.corpus.copies.Policy`.
    """

    shorter_side: int = Field(default=518, ge=16, le=8192)
    bits: Literal[8, 16] = 8
    frontal_only: bool = False
    secondary_capture: bool = False
    splits: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 0
    mended: Record = Field(default_factory=dict)
    duplicates: Policy = "ignore"


class Mend(Protocol):
    """What is done to prepared images before they are packed; picklable, and a function of each image alone."""

    @property
    def settings(self) -> Record:
        """What it does, for ``corpus.json``."""

    def __call__(self, images: list[tuple[Rendered, Record]]) -> list[tuple[Rendered, Record] | ImageError]:
        """Each image and row as it is to be packed, or why it is set aside; what was changed stands in the row."""


@dataclass(frozen=True)
class ShardTask:
    """Everything :func:`pack_shard` needs, picklable.

    Attributes:
        out: the corpus folder.
        number: of the shard.
        items: of each image, see :class:`raddino.corpus.items.Items`.
        recipe: how to prepare.
        key: for hashing identifiers found in headers; stays in memory.
        mend: applied to what was prepared.
    """

    out: Path
    number: int
    items: Sequence[Record]
    recipe: Recipe
    key: str
    mend: Mend | None = None

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"{self.number:06d}.tar"

    @property
    def record(self) -> Path:
        """Keeps the shard's rows until the manifest is written; it exists once the shard is whole."""
        return self.out / PARTIAL / f"{self.number:06d}.json"


def pack_shard(task: ShardTask, wall: Wall, advance: Callable[[], None] = lambda: None) -> None:
    """Read, prepare and pack every item; a file that cannot be read is recorded with its reason.

    Args:
        task: the work.
        wall: where files are decoded.
        advance: called after every image; what it raises ends the shard, which then leaves nothing behind.
    """
    rows: list[Record] = []
    skipped: list[Record] = []
    writer = ShardWriter(task.out / "shards" / task.name)
    try:
        for name, prepared in _prepared(task, wall):
            if isinstance(prepared, ImageError):
                skipped.append({"hash": name, "reason": prepared.reason})
            else:
                rows.append(_write(writer, task, *prepared))
            advance()
        size = writer.close()
    except BaseException:
        writer.abandon()
        raise
    write_json(task.record, {"size": size, "rows": rows, "skipped": skipped})


def _prepared(task: ShardTask, wall: Wall) -> Iterator[tuple[str, tuple[Rendered, Record] | ImageError]]:
    """Each item's id with what is to be packed of it, or why it is left out; in order."""
    waiting: list[tuple[str, tuple[Rendered, Record] | ImageError]] = []
    at_once = 1 if task.mend is None else AT_ONCE
    for number, item in enumerate(task.items, start=1):
        prepared: tuple[Rendered, Record] | ImageError
        try:
            prepared = prepare_image(item, task.recipe, task.key, wall)
        except ImageError as error:
            prepared = error
        waiting.append((item["id"], prepared))
        if len(waiting) == at_once or number == len(task.items):
            yield from waiting if task.mend is None else _mended(task.mend, waiting)
            waiting = []


def _mended(
    mend: Mend, waiting: list[tuple[str, tuple[Rendered, Record] | ImageError]]
) -> Iterator[tuple[str, tuple[Rendered, Record] | ImageError]]:
    mended = iter(mend([prepared for _, prepared in waiting if not isinstance(prepared, ImageError)]))
    for name, prepared in waiting:
        yield name, prepared if isinstance(prepared, ImageError) else next(mended)


def prepare_image(item: Record, recipe: Recipe, key: str, wall: Wall) -> tuple[Rendered, Record]:
    """One file, and its masks, ready to be packed, and its manifest row.

    Raises:
        ImageError: the file is unreadable or set aside; its ``reason`` holds nothing private.
    """
    if recipe.frontal_only:
        check_frontal(item["view"])
    file = fetch(item["file"])
    masks, lost = _masks(item["masks"])
    read = [file, *(part for parts in masks.values() for part in parts)]
    frontal_only = recipe.frontal_only and item["view"] is None
    wanted = (file, masks, recipe.shorter_side, recipe.bits, frontal_only, recipe.secondary_capture)
    rendered = wall.call(render, *wanted, seconds=seconds_for(*read))
    notes = [*rendered.notes, *lost]
    if item["patient"] is None and is_placeholder(rendered.identifiers.patient or "named"):
        notes.append("PatientID is a placeholder (anonymous, unknown): counts as without a patient")
    if item["patient"] is None and re.fullmatch(SHORTENED, rendered.identifiers.patient or ""):
        notes.append("PatientID lost its digits in a spreadsheet: different patients may have become one")
    row = _facts(item, rendered, key)
    row["split"] = item["split"] or split_of(row["patient"], recipe.splits, recipe.seed)
    if recipe.duplicates != "ignore":
        row["drawn"] = item["split"] is None
    row |= {"height": rendered.shape[0], "width": rendered.shape[1], **item["labels"]}
    row |= {"warnings": "; ".join(notes) or None, "sha256": rendered.sha256}
    row["sha256_source"] = rendered.sha256_source
    row |= {"sha256_masks": rendered.sha256_masks, "mended": None}
    return rendered, row


def _masks(cells: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str | bytes]], list[str]]:
    """What masks unite, fetched; and a note on each of which a part cannot be had."""
    masks, lost = {}, []
    for name, parts in cells.items():
        try:
            masks[name] = [part if is_code(part) else fetch(part) for part in parts]
        except ImageError as error:
            lost.append(f"mask {name} left out: {error.reason}")
    return masks, lost


def _facts(item: Record, rendered: Rendered, key: str) -> Record:
    """What is known of an image: the manifest's word first, then the header's, identifiers hashed."""
    row = {name: item[name] for name in ("id", "source", "report", *CONTEXT, "licence", "synthetic")}
    told, space = rendered.identifiers, item["namespace"]
    header = vars(rendered.facts) | {"station": station_name(key, space, told.station)}
    header["model"] = rendered.facts.model or model_name(key, told.model)
    row |= {name: header[name] if item[name] is None else item[name] for name in HEADER_FACTS}
    named = told.patient if told.patient and not is_placeholder(told.patient) else None
    patient = item["patient"] or (named and patient_hash(key, space, named))
    row["study"] = item["study"] or (told.study and study_hash(key, patient or space, told.study))
    return {**row, "patient": patient or item["id"], "namespace": space if patient else None}


def _write(writer: ShardWriter, task: ShardTask, rendered: Rendered, row: Record) -> Record:
    """Append the members of one image; returns its row with their places.

    A split that may change until the corpus is whole stands in the manifest alone.
    """
    offset, length = writer.add(f"{row['id']}.png", rendered.png)
    places = {}
    for name, png in rendered.masks.items():
        at, size = writer.add(f"{row['id']}.mask_{name}.png", png)
        places[f"mask_{name}"] = f"{task.name}:{at}:{size}"
    open_facts = (*UNSETTLED, "split") if task.recipe.duplicates == "together" else UNSETTLED
    facts = {name: value for name, value in row.items() if value is not None and name not in open_facts}
    writer.add(f"{row['id']}.json", json.dumps(facts, sort_keys=True).encode())
    if task.recipe.duplicates != "ignore":
        row = {**row, "thumbnail": to_text(thumbnail(decode_png(rendered.png, rendered.shape)))}
    return {**row, "shard": task.name, "offset": offset, "length": length, **places}
