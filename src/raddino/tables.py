"""Parquet files that anyone may have written: bounded before they are read, of plain columns, digest checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from raddino.errors import RaddinoError
from raddino.files import SEAL, UNSEALED, check_seal, draft_of, seal

Kind = Literal["text", "number", "whole", "flag", "vector", "nothing"]
MOST_CELLS, MOST_BYTES, MOST_COLUMNS, MOST_GROUPS = 2**28, 2**32, 4096, 1024
ROWS_PER_BYTE = 64
"""Rows that a byte of a file may stand for: tables of measurements do not repeat themselves more often."""
FEW_BYTES = 4
"""A text that is stored once for each row takes at least these, its length."""
LARGEST_TEXTS = 2**30
TEXT = pd.StringDtype("pyarrow", na_value=np.nan)


def write_table(path: Path, table: pd.DataFrame, about: Mapping[str, str] | None = None) -> None:
    """Write a table without its index, with ``about`` in the metadata and its digest, whole or not at all."""
    made = pa.Table.from_pandas(table, preserve_index=False)
    with draft_of(path) as draft:
        parquet.write_table(made.replace_schema_metadata({**(about or {}), SEAL: UNSEALED}), draft)
        seal(draft)


def read_table(path: Path, remedy: str, needed: Mapping[str, Kind] | None = None) -> pd.DataFrame:
    """A whole table, see :class:`TableFile`, with the columns ``needed``."""
    file = TableFile(path, remedy)
    file.check(needed or {})
    return file.read()


class TableFile:
    """A Parquet file of numbers, flags and texts.

    Args:
        path: of the file.
        remedy: what the user can do when it is damaged.
        vectors: columns that may hold lists of floats, all of one length; they are for the caller to read.

    Raises:
        RaddinoError: missing, damaged, larger than any table of ours when it is unpacked, or with columns of other
            types.
    """

    def __init__(self, path: Path, remedy: str, vectors: tuple[str, ...] = ()) -> None:
        self.path, self.remedy = path, remedy
        if not path.is_file():
            raise RaddinoError(f"{path} is missing: {remedy}")
        with self._reading():
            said = self._meta.metadata or {}
            self.about = {key.decode(): value.decode() for key, value in said.items() if key != b"pandas"}
            if SEAL in self.about and not check_seal(path, remedy):
                raise ValueError("its seal is broken")
            self._refuse_bombs()
            schema = self._meta.schema.to_arrow_schema()
            self.kinds: dict[str, Kind] = {
                name: "vector" if name in vectors and _is_vector(schema.field(name).type) else _kind(name, schema)
                for name in schema.names
            }
            self.rows = self._meta.num_rows

    def __len__(self) -> int:
        return self.rows

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}

    def check(self, needed: Mapping[str, Kind]) -> None:
        """Refuse a table without one of the columns ``needed``, or with one of another kind.

        A whole number is a number too; a column without any value fits.
        """
        for name, kind in needed.items():
            if name not in self.kinds:
                raise RaddinoError(f"{self.path} lacks the column {name!r}: {self.remedy}")
            found = self.kinds[name]
            fits = found in (kind, "nothing") or (kind == "number" and found == "whole")
            if not fits and len(self):
                raise RaddinoError(f"{self.path} has {found} in column {name!r}, not {kind}: {self.remedy}")

    def read(self, names: Iterable[str] | None = None) -> pd.DataFrame:
        """Columns, all by default: absent text is None, absent numbers are NaN.

        Texts that differ in most rows, none of them absent, lie in Arrow's memory (dtype ``str``).
        """
        columns = {name: _series(self.column(name)) for name in (self.kinds if names is None else names)}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self)), copy=False)

    def column(self, name: str) -> np.ndarray | pd.api.extensions.ExtensionArray:
        """(N,) values of one column, a numpy or pandas array."""
        with self._reading():
            if self.kinds[name] not in ("text", "nothing"):
                return self._plain.read([name], use_threads=False).column(0).to_pandas().to_numpy()
            if self._differ(name):
                found = self._plain.read([name], use_threads=False).column(0).cast(pa.large_string())
                return TEXT.__from_arrow__(found) if not found.null_count else found.to_numpy()
            return _shared(self._shared.read([name], use_threads=False).column(0))

    @cached_property
    def _meta(self) -> parquet.FileMetaData:
        return parquet.read_metadata(self.path)

    @cached_property
    def _plain(self) -> parquet.ParquetFile:
        return parquet.ParquetFile(self.path, pre_buffer=False)

    @cached_property
    def _shared(self) -> parquet.ParquetFile:
        texts = [name for name, kind in self.kinds.items() if kind == "text"]
        return parquet.ParquetFile(self.path, pre_buffer=False, read_dictionary=texts)

    def _differ(self, name: str) -> bool:
        """Whether a text is stored for each row, and all of them together can be held."""
        at, groups = list(self.kinds).index(name), range(self._meta.num_row_groups)
        # a row is read first: Arrow raises where a column is damaged, and its metadata would end the process
        rows = [next(self._shared.iter_batches(1, row_groups=[group], columns=[name]), None) for group in groups]
        chunks = [self._meta.row_group(group).column(at) for group in groups]
        if sum(chunk.total_uncompressed_size for chunk in chunks) < FEW_BYTES * len(self) + 2**20:
            return False
        longest = 0
        for row, chunk in zip(rows, chunks, strict=True):
            if row is not None and chunk.has_dictionary_page:  # the texts that may stand in more rows than are stored
                texts = row.column(0)
                texts = texts.dictionary if pa.types.is_dictionary(texts.type) else texts
                longest = max(longest, pc.max(pc.binary_length(texts)).as_py() or 0)
        return longest * len(self) <= LARGEST_TEXTS

    def _refuse_bombs(self) -> None:
        rows, columns = self._meta.num_rows, self._meta.num_columns
        if columns > MOST_COLUMNS or self._meta.num_row_groups > MOST_GROUPS:
            raise ValueError(f"{columns} columns in {self._meta.num_row_groups} row groups")
        if rows * columns > MOST_CELLS or rows > ROWS_PER_BYTE * self.path.stat().st_size:
            raise ValueError(f"{rows} rows of {columns} columns in {self.path.stat().st_size} bytes")
        sizes = [self._meta.row_group(group).total_byte_size for group in range(self._meta.num_row_groups)]
        if sum(sizes) > MOST_BYTES or min(sizes, default=0) < 0:
            raise ValueError(f"{sum(sizes)} bytes when it is unpacked")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except RaddinoError:
            raise
        except ValueError as error:
            words = " ".join(str(error).split())[:120] if type(error) is ValueError else "not a readable Parquet file"
            raise RaddinoError(f"{self.path} is damaged ({words}): {self.remedy}") from None
        except Exception as error:  # pyarrow raises many kinds
            raise RaddinoError(f"{self.path} is damaged ({type(error).__name__}): {self.remedy}") from None


def _is_vector(of: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(of) and pa.types.is_float32(of.value_type)


def _kind(name: str, schema: pa.Schema) -> Kind:
    """What a column holds. Raises ValueError for any other type."""
    of = schema.field(name).type
    of = of.value_type if pa.types.is_dictionary(of) else of
    if pa.types.is_boolean(of):
        return "flag"
    if pa.types.is_integer(of):
        return "whole"
    if pa.types.is_floating(of):
        return "number"
    if pa.types.is_string(of) or pa.types.is_large_string(of):
        return "text"
    if pa.types.is_null(of):
        return "nothing"
    raise ValueError(f"column {name!r} is of type {str(of)[:40]}")


def _shared(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) strings and None, every text in memory once. Raises ValueError where they would fill it when written out."""
    if not pa.types.is_dictionary(column.type):
        return np.full(len(column), None) if pa.types.is_null(column.type) else column.to_numpy()
    parts, size = [], 0
    for chunk in column.chunks:
        size += pc.sum(pc.take(pc.binary_length(chunk.dictionary).cast("int64"), chunk.indices)).as_py() or 0
        if size > MOST_BYTES:
            raise ValueError(f"{size} bytes of text")
        texts = np.array([*chunk.dictionary.to_pylist(), None], dtype=object)
        parts.append(texts[chunk.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)


def _series(values: Any) -> pd.Series:
    return pd.Series(values, dtype=values.dtype, copy=False)  # pandas would make NaN of None in a type it infers
