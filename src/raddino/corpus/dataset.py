"""``Corpus``: a packed corpus, opened and checked in one step and read at random."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from raddino.corpus.remote import mirror
from raddino.corpus.shards import LARGEST_IMAGE, SHARDS, ShardReader, decode_png
from raddino.corpus.where import query
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.files import read_json, sha256
from raddino.storage import is_url, localised, shown_url
from raddino.tables import Kind, TableFile

FORMAT = 2
OUTDATED = {1: ", in which a person under two source names counts as two and may stand in train and in test"}
PLACES = ("offset", "length", "height", "width")
NEEDED: dict[str, Kind] = {
    **dict.fromkeys(("id", "shard", "source", "patient", "split"), "text"),
    **dict.fromkeys(PLACES, "whole"),
    "synthetic": "flag",
}
OPTIONAL: dict[str, Kind] = {
    **dict.fromkeys(("study", "view", "sex", "report", "impression", "indication", "comparison", "licence"), "text"),
    **dict.fromkeys(("warnings", "mended", "sha256", "sha256_source", "sha256_masks"), "text"),
    **dict.fromkeys(("manufacturer", "model", "station", "detector", "year_band", "patient_position"), "text"),
    **dict.fromkeys(("age", "weight", "bmi", "kvp", "exposure_index", "portable", "study_order"), "number"),
}
MASK_PLACE = re.compile(r"([\w.-]+):(\d{1,15}):(\d{1,15})")


class _Info(BaseModel):
    """What readers rely on in ``corpus.json``; it may say more."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    manifest_bytes: NonNegativeInt
    manifest_sha256: str | None = None
    shards: dict[str, NonNegativeInt]
    fingerprint: str = Field(min_length=1, max_length=64)
    synthetic: bool | Literal["mixed"]
    images: NonNegativeInt
    patients: NonNegativeInt
    plan: str = ""
    namespaces: dict[str, str] = Field(default_factory=dict)
    preparation: dict[str, Any] = Field(default_factory=dict)
    source: dict[str, Any] = Field(default_factory=dict)
    sources: dict[str, int] = Field(default_factory=dict)
    splits: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    warnings: dict[str, int] = Field(default_factory=dict)
    masks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class Corpus:
    """Images, masks and facts of one corpus. Picklable; each process opens its own files.

    Attributes:
        path: the folder; for a corpus behind a URL one of the user's cache, see :mod:`raddino.corpus.remote`.
        info: contents of ``corpus.json``.
        manifest: one row an image, RangeIndex; absent text is None, absent numbers are NaN. Read when it is first
            asked for; columns are numbers, flags, and texts of dtype object, or ``str`` where they differ from row to
            row and none is absent.
    """

    def __init__(self, path: Path, info: dict[str, Any], table: TableFile, shards: Path | str) -> None:
        self.path, self.info = path, info
        self._table, self._remedy = table, table.remedy
        self._reader = ShardReader(shards)
        self._shards, self._places = _places(table, info["shards"])

    @classmethod
    def open(cls, path: str | Path) -> Corpus:
        """Open a corpus and check that it is whole: every file's size, the manifest's digest and places.

        Args:
            path: the folder, or a URL.

        Raises:
            RaddinoError: missing, not finished, of another format version, damaged, or with bytes missing.
        """
        place, path, held = _found(path)
        again = "run prepare again with the same settings"
        if not (path / "corpus.json").is_file():
            if (path / ".partial").is_dir():
                raise RaddinoError(f"corpus {path} is half prepared; {again} and it continues")
            raise RaddinoError(f"{path} is no corpus (no corpus.json); make one with: raddino prepare IMAGES --out …")
        again = f"delete the folder and {again}"
        info = _read_info(path / "corpus.json", again)
        sizes = {"manifest.parquet": info["manifest_bytes"]}
        sizes |= {f"{SHARDS}/{name}": size for name, size in info["shards"].items()}
        for name, size in sizes.items():
            if size != (held[name] if name in held else _size(path / name)):
                raise RaddinoError(f"corpus {shown_url(place)}: {name} is missing or cut short; {again}")
        file = path / "manifest.parquet"
        if info.get("manifest_sha256") not in (None, sha256(file)):
            raise RaddinoError(f"corpus {path}: manifest.parquet is not the one that corpus.json describes; {again}")
        table = TableFile(file, again)
        table.check(NEEDED | {name: kind for name, kind in OPTIONAL.items() if name in table.kinds})
        table.check({name: "number" for name in table.kinds if name.startswith("label_")})
        table.check({name: "text" for name in table.kinds if name.startswith("mask_")})
        if len(table) != info["images"]:
            raise RaddinoError(f"{file} has {len(table)} rows, corpus.json says {info['images']}: {again}")
        return cls(path, info, table, f"{place}/{SHARDS}" if is_url(place) else path / SHARDS)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """See the class."""
        return self._table.read()

    @property
    def fingerprint(self) -> str:
        """Digest of every pixel, mask and fact; the same for the same input, settings and key."""
        return self.info["fingerprint"]

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the packed corpora in it."""
        return [self.fingerprint]

    @property
    def weights(self) -> dict[str, float]:
        """How often training draws an image of a source; sources not named count 1 (see ``corpus.combine``)."""
        return {}

    @property
    def synthetic(self) -> bool:
        """True when any image is synthetic (``info["synthetic"]`` says ``"mixed"`` when not all are)."""
        return bool(self.info["synthetic"])

    def __len__(self) -> int:
        return int(self.info["images"])

    def read(self, i: int) -> np.ndarray:
        """Image ``i``: (H, W) uint8 or uint16.

        Raises:
            RaddinoError: its bytes are damaged.
        """
        shards, offsets, lengths = self._shards[0], *self._places[:2]
        return self._image(shards[self._shards[1][i]], int(offsets[i]), int(lengths[i]), i)

    def read_mask(self, i: int, name: str) -> np.ndarray | None:
        """Mask ``name`` of image ``i`` at the image's size: (H, W) uint8 or uint16; None when it has none.

        Raises:
            ConfigError: the corpus has no such mask.
        """
        column = f"mask_{name}"
        if column not in self.manifest:
            known = ", ".join(self.mask_names) or "none"
            raise ConfigError(f"no mask {name!r} here.{did_you_mean(name, self.mask_names)} Known: {known}.")
        location = self.manifest[column].iat[i]
        if pd.isna(location):
            return None
        found = MASK_PLACE.fullmatch(location)
        shard, offset, length = found.groups() if found else ("", 0, 0)
        if int(offset) + int(length) > self.info["shards"].get(shard, -1):
            raise RaddinoError(f"{self._table.path}: {column} of row {i} is no place in a shard: {self._remedy}")
        return self._image(shard, int(offset), int(length), i)

    def _image(self, shard: str, offset: int, length: int, i: int) -> np.ndarray:
        height, width = (int(sides[i]) for sides in self._places[2:])
        data = self._reader.read(shard, offset, length)
        try:
            return decode_png(data, (height, width))
        except (OSError, SyntaxError, ValueError):
            raise RaddinoError(
                f"shard {shard} of corpus {self.path} is damaged at byte {offset}: "
                "delete the corpus folder and prepare it again"
            ) from None

    @property
    def mask_names(self) -> list[str]:
        """Names that :meth:`read_mask` takes."""
        return [str(column).removeprefix("mask_") for column in self.manifest if str(column).startswith("mask_")]

    def rows(self, split: str | None = None, where: str | None = None) -> np.ndarray:
        """Row numbers, ascending.

        Args:
            split: ``"train"``, ``"val"`` or ``"test"``; None for all.
            where: pandas query over manifest columns, for example ``"source == 'nih' and view == 'PA'"``.

        Raises:
            ConfigError: an unknown split, or a query that does not hold here.
        """
        chosen = np.ones(len(self), dtype=bool)
        if split is not None:
            if split not in ("train", "val", "test"):
                hint = did_you_mean(split, ("train", "val", "test"))
                raise ConfigError(f"unknown split {split!r}.{hint} A split is train, val or test.")
            chosen &= (self.manifest["split"] == split).to_numpy()
        if where is not None:
            chosen &= query(self.manifest, where)
        return np.flatnonzero(chosen)


def _found(path: str | Path) -> tuple[str, Path, dict[str, int]]:
    """A corpus's place, the folder of its small files, and the sizes of what is not there."""
    place = str(localised(path)).rstrip("/") or "/"
    return (place, *mirror(place)) if is_url(place) else (place, Path(place), {})


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _read_info(file: Path, again: str) -> dict[str, Any]:
    info = read_json(file, again)
    if info.get("format") != FORMAT:
        found = info.get("format")
        why = OUTDATED.get(found, "") if isinstance(found, int) else ""
        raise RaddinoError(
            f"corpus {file.parent} has format {str(found)[:40]}{why}; this version reads {FORMAT}: prepare the images "
            "again into a new folder"
        )
    try:
        _Info.model_validate(info)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])[:80]
        raise RaddinoError(f"{file} is damaged ({where}: {error.errors()[0]['msg']}): {again}") from None
    for name in info["shards"]:
        if Path(name).name != name or not name.strip("."):
            raise RaddinoError(f"{file} names a shard outside the corpus: {again}")
    return info


def _places(table: TableFile, sizes: dict[str, int]) -> tuple[tuple[list[str], np.ndarray], list[np.ndarray]]:
    """Names of the shards with the number of each row's, and offset, length, height and width of each row.

    Raises:
        RaddinoError: a row lies outside the shards, or is an image of no size or too large a one.
    """
    codes, names = pd.factorize(np.asarray(table.column("shard"), dtype=object), use_na_sentinel=True)
    places = [np.asarray(table.column(name)) for name in PLACES]
    if any(place.dtype.kind not in "iu" for place in places):
        raise RaddinoError(f"{table.path} has an empty cell in {', '.join(PLACES)}: {table.remedy}")
    offset, length, height, width = places = [place.astype(np.int64) for place in places]
    ends = np.array([*(sizes.get(str(name), -1) for name in names), -1])[codes]
    sound = (offset >= 0) & (length > 0) & (length <= ends) & (offset <= ends - length)
    sound &= (height > 0) & (width > 0) & (height <= LARGEST_IMAGE) & (width <= LARGEST_IMAGE // np.maximum(height, 1))
    if not sound.all():
        row = int(np.argmin(sound))
        raise RaddinoError(f"{table.path}: row {row} is no place in a shard or no size of an image: {table.remedy}")
    return ([str(name) for name in names], codes.astype(np.int32)), places


def labelling(corpus: Corpus) -> str:
    """How a public data set was read, for example ``"readers=majority"``; empty for other corpora."""
    options = (corpus.info.get("source") or {}).get("options") or {}
    return ",".join(f"{name}={value}" for name, value in options.items())
