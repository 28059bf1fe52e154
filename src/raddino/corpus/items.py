"""What is to be packed, planned: names to keyed hashes, a million rows as columns, all of them to one digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd

from raddino.corpus.cells import TEXT, spread
from raddino.corpus.identifiers import model_name, station_name
from raddino.corpus.pack import Record
from raddino.errors import ConfigError
from raddino.images.location import states
from raddino.images.mask_codes import is_code
from raddino.images.phi import keyed_hash, patient_hash, study_hash

SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LISTED_TWICE = "listed twice: only the first row is packed"
MOST_NAMESPACES = 100
NEIGHBOURS, ROWS_AT_ONCE = 4096, 65_536


class Items(Sequence[Record]):
    """Rows of a planned table, each a record when it is asked for.

    A record has ``id``, ``file``, ``source``, ``namespace``, ``patient`` (hashed, or None), ``study``, ``split``,
    facts, ``synthetic``, ``labels`` and ``masks`` (name to the files and codes that it unites).
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i: Any) -> Any:
        return Items(self.table[i]) if isinstance(i, slice) else next(iter(Items(self.table.iloc[[i]])))

    def __iter__(self) -> Iterator[Record]:
        kinds = {kind: [name for name in self.table if name.startswith(kind)] for kind in ("label_", "mask_")}
        for row in self.table.astype(object).where(self.table.notna(), None).to_dict("records"):
            labels = {name: row.pop(name) for name in kinds["label_"]}
            masks = {name.removeprefix("mask_"): cell for name in kinds["mask_"] if (cell := row.pop(name))}
            yield {**row, "labels": labels, "masks": masks}


def fill_namespaces(table: pd.DataFrame, default: str | None) -> pd.DataFrame:
    """``table`` with a namespace in each row: its own, else ``default``, else the empty one of everybody.

    Raises:
        ConfigError: what stands there names no hospital or registry, or ``default`` would count nowhere.
    """
    if default is not None and not SAFE_NAME.fullmatch(default):
        raise ConfigError(f"namespace takes 1 to 64 letters, digits, - and _; got {default!r}")
    given = table["namespace"]
    if default is not None and given.notna().all():
        raise ConfigError(f"namespace={default!r} would count nowhere: every image has one already")
    names = given.dropna().unique()
    if len(names) > MOST_NAMESPACES or not all(SAFE_NAME.fullmatch(name) for name in names):
        raise ConfigError(
            f"the column of namespaces holds {len(names)} different values; it names hospitals or registries, at most "
            f"{MOST_NAMESPACES}, in 1 to 64 letters, digits, - and _. Leave it out with columns={{'namespace': ''}}"
        )
    return table.assign(namespace=given.astype(object).where(given.notna(), default or ""))


def pseudonymise(table: pd.DataFrame, key: str) -> tuple[pd.DataFrame, list[Record]]:
    """Rows whose ids, patients and studies are keyed hashes; rows listed twice are set apart.

    Synthetic images keep their names: there is nobody to protect, and a reader can find them again. A patient whose
    split one row gives has it in all.

    Args:
        table: as :func:`raddino.corpus.manifest.read_items` gives it, with :func:`fill_namespaces`.
        key: for hashing.
    """
    of_patient, of_study = (lru_cache(NEIGHBOURS)(partial(hashed, key)) for hashed in (patient_hash, study_hash))

    def hashed(rows: pd.DataFrame) -> pd.DataFrame:
        images: list[str] = []
        patients: list[str | None] = []
        studies: list[str | None] = []
        columns = (_plain(rows[name]) for name in ("name", "source", "namespace", "patient", "study", "synthetic"))
        for name, source, space, patient, study, synthetic in zip(*columns, strict=True):
            keeps = SAFE_NAME.fullmatch if synthetic else _never
            images.append(name if name and keeps(name) else keyed_hash(key, "image", source, name or ""))
            patients.append(patient if patient is None or keeps(patient) else of_patient(space, patient))
            studies.append(study if study is None or keeps(study) else of_study(patients[-1] or space, study))
        return pd.DataFrame({"id": images, "patient": patients, "study": studies}, dtype=TEXT)

    blocks = [hashed(table.iloc[start : start + ROWS_AT_ONCE]) for start in range(0, len(table), ROWS_AT_ONCE)]
    items = table.drop(columns=["name", "patient", "study"]).join(pd.concat(blocks).set_axis(table.index))
    items = items.assign(**_devices(table, key))
    again = items["id"].duplicated()
    repeated = [{"hash": name, "reason": LISTED_TWICE} for name in items.loc[again, "id"]]
    items = items[~again].reset_index(drop=True) if again.any() else items
    told = items[["patient", "split"]].dropna()
    if len(told) and len(told) < len(items):
        split_of_patient = dict(zip(told["patient"], told["split"], strict=True))
        items["split"] = items["split"].fillna(items["patient"].map(split_of_patient))
    return items, repeated


def _devices(table: pd.DataFrame, key: str) -> dict[str, pd.Series]:
    """Models by their known names or hashes, and hashed stations; those of synthetic images keep their names."""

    def told(name: str, synthetic: bool, space: str, cell: Any) -> str | None:
        if synthetic and isinstance(cell, str) and SAFE_NAME.fullmatch(cell):
            return cell
        return model_name(key, cell) if name == "model" else station_name(key, space, cell)

    columns = {}
    for name in ("model", "station"):
        if name in table and table[name].notna().any():
            cells = pd.MultiIndex.from_frame(table[["synthetic", "namespace", name]])
            codes, different = pd.factorize(cells)
            columns[name] = spread([told(name, *cell) for cell in different], codes, table.index)
    return columns


def digest_of(items: pd.DataFrame) -> str:
    """SHA-256 of every value; of each file its size and time of change, and its name in an archive."""
    digest = hashlib.sha256()
    for name in items:
        digest.update(f"\0{name}\0{len(items)}\0".encode())
        for start in range(0, len(items), ROWS_AT_ONCE):
            digest.update(_bytes(items[name].iloc[start : start + ROWS_AT_ONCE]))
    return digest.hexdigest()


def _bytes(values: pd.Series) -> bytes:
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "f":
        return values.where(values.notna(), np.nan).to_numpy("<f8").tobytes()
    cells = _plain(values)
    if values.name == "file":
        cells = states(cells)
    elif str(values.name).startswith("mask_"):
        files = iter(states(part for cell in cells if cell for part in cell if not is_code(part)))
        cells = [cell and [part if is_code(part) else next(files) for part in cell] for cell in cells]
    return json.dumps(cells).encode()


def _plain(values: pd.Series) -> list[Any]:
    """Values of Python, None for what is missing."""
    return values.astype(object).where(values.notna(), None).tolist()


def _never(name: str) -> None:
    return None
