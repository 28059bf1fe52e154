"""``Corpus``: a packed corpus, opened and checked in one step and read at random."""

from __future__ import annotations

import ast
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.corpus.shards import ShardReader, decode_png
from raddino.errors import ConfigError, RaddinoError, did_you_mean

FORMAT = 2
OUTDATED = {1: ", in which a person under two source names counts as two and may stand in train and in test"}
BACKTICKS = re.compile(r"`[^`'\"\n\r#]*`")
QUERY_METHODS = ("isin", "isna", "notna", "between", "str", "contains", "startswith", "endswith", "lower", "upper")
NEEDED = ("id", "shard", "offset", "length", "source", "patient", "split", "synthetic")


class Corpus:
    """Images, masks and facts of one corpus folder. Picklable; each process opens its own files.

    Attributes:
        path: the folder.
        info: contents of ``corpus.json``.
        manifest: one row an image, RangeIndex; absent text is None, absent numbers are NaN.
    """

    def __init__(self, path: Path, info: dict[str, Any], manifest: pd.DataFrame) -> None:
        self.path, self.info, self.manifest = path, info, manifest
        self._reader = ShardReader(path / "shards")

    @classmethod
    def open(cls, path: str | Path) -> Corpus:
        """Open a corpus folder and check that it is whole.

        Raises:
            RaddinoError: missing, not finished, of another format version, or with bytes missing.
        """
        path = Path(path)
        again = "run prepare again with the same settings"
        if not (path / "corpus.json").is_file():
            if (path / ".partial").is_dir():
                raise RaddinoError(f"corpus {path} is half prepared; {again} and it continues")
            raise RaddinoError(f"{path} is no corpus (no corpus.json); make one with: raddino prepare IMAGES --out …")
        try:
            info = json.loads((path / "corpus.json").read_text())
            if info["format"] != FORMAT:
                raise RaddinoError(
                    f"corpus {path} has format {info['format']}{OUTDATED.get(info['format'], '')}; this version reads "
                    f"{FORMAT}: prepare the images again into a new folder"
                )
            sizes = {"manifest.parquet": info["manifest_bytes"]}
            sizes |= {f"shards/{name}": size for name, size in info["shards"].items()}
        except (ValueError, KeyError, TypeError):
            raise RaddinoError(f"{path / 'corpus.json'} is damaged; delete the folder and {again}") from None
        for name, size in sizes.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size:
                raise RaddinoError(f"corpus {path}: {name} is missing or cut short; delete the folder and {again}")
        manifest = _read_manifest(path, again)
        for column in manifest.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in manifest.dtypes]]:
            values = manifest[column].astype(object)
            manifest[column] = values.where(values.notna(), None)
        return cls(path, info, manifest)

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
        return len(self.manifest)

    def read(self, i: int) -> np.ndarray:
        """Image ``i``: (H, W) uint8 or uint16."""
        shards, offsets, lengths = self._locations
        return self._image(shards[i], int(offsets[i]), int(lengths[i]))

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
        shard, offset, length = location.split(":")
        return self._image(shard, int(offset), int(length))

    def _image(self, shard: str, offset: int, length: int) -> np.ndarray:
        data = self._reader.read(shard, offset, length)
        try:
            return decode_png(data)
        except (OSError, SyntaxError, ValueError):
            raise RaddinoError(
                f"shard {shard} of corpus {self.path} is damaged at byte {offset}: "
                "delete the corpus folder and prepare it again"
            ) from None

    @property
    def mask_names(self) -> list[str]:
        """Names that :meth:`read_mask` takes."""
        return [column.removeprefix("mask_") for column in self.manifest if column.startswith("mask_")]

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

    @cached_property
    def _locations(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        table = self.manifest
        return table["shard"].tolist(), table["offset"].to_numpy(), table["length"].to_numpy()


def _read_manifest(path: Path, again: str) -> pd.DataFrame:
    """``manifest.parquet`` with the columns that every corpus has."""
    try:
        manifest = pd.read_parquet(path / "manifest.parquet")
    except Exception as error:  # pyarrow raises many kinds
        words = f"cannot be read ({type(error).__name__})"
    else:
        missing = [column for column in NEEDED if column not in manifest]
        if not missing:
            return manifest
        words = f"lacks the column {missing[0]!r}"
    raise RaddinoError(f"corpus {path}: manifest.parquet {words}; delete the folder and {again}")


def _refuse_side_effects(where: str) -> None:
    for node in ast.walk(ast.parse(BACKTICKS.sub("column", where).strip(), mode="eval")):
        if isinstance(node, ast.Attribute) and node.attr not in QUERY_METHODS:
            raise ValueError(f".{node.attr} is not one of {', '.join(QUERY_METHODS)}")
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Attribute):
            raise ValueError("it calls a function")


def labelling(corpus: Corpus) -> str:
    """How a public data set was read, for example ``"readers=majority"``; empty for other corpora."""
    options = (corpus.info.get("source") or {}).get("options") or {}
    return ",".join(f"{name}={value}" for name, value in options.items())


def query(table: pd.DataFrame, where: str) -> np.ndarray:
    """Which rows of ``table`` satisfy a pandas query, as (N,) bool.

    Suites are passed around, so a query can compare and nothing else: no outside variable is in its reach, and no
    method but ``QUERY_METHODS``.

    Raises:
        ConfigError: one line with what is wrong and, for a misspelt column, the nearest name.
    """
    try:
        _refuse_side_effects(where)
        answer = np.asarray(table.eval(where, local_dict={}, global_dict={}, engine="python"))
        if answer.dtype != bool or answer.shape != (len(table),):
            raise ValueError("it is not a comparison that holds or fails for each row")
        return answer
    except Exception as error:
        words = " ".join(str(error).split())
        unknown = getattr(error, "name", None) or words.split("'")[1] if "'" in words else ""
        hint = did_you_mean(str(unknown), [str(column) for column in table.columns])
        raise ConfigError(f"where={where!r} cannot be applied: {words}.{hint}") from None
