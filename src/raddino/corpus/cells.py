"""Cells of any type that a table can hold, to text, and names of columns that may be repeated to the user."""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from raddino.errors import ConfigError

TEXT = pd.StringDtype(na_value=np.nan)
SHOWABLE = re.compile(r"[^\W\d][\w .:()%/+-]{0,39}")


def shown(column: object) -> str:
    """A column's name in quotation marks, fit for an error or a note; one that may be data is not repeated."""
    name = str(column)
    return repr(name) if SHOWABLE.fullmatch(name) else "(of a name too odd to show)"


def distinct(values: pd.Series, name: str) -> tuple[np.ndarray, list[Any]]:
    """(N,) positions in the different cells, -1 where a cell is missing; and those cells, lists as tuples.

    Raises:
        ConfigError: cells that are records, which no column of ours takes.
    """
    try:
        codes, different = pd.factorize(values)
    except TypeError:
        codes, different = pd.factorize(pd.Series([_hashable(cell, name) for cell in values], dtype=object))
    return codes, list(different)


def _hashable(cell: Any, name: str) -> Hashable:
    if isinstance(cell, np.ndarray | list | tuple | set):
        return tuple(sorted(map(str, (one for one in cell if one is not None and one == one)))) or None
    if isinstance(cell, dict):
        raise ConfigError(f"column {shown(name)} holds records, not single values: flatten it, or leave it out")
    return cell


def text(values: pd.Series, column: str, undecodable: str = "backslashreplace") -> pd.Series:
    """Strings without spaces at their ends, missing where there is none.

    Whole numbers are written without a point; a float too large to hold all its digits as ``9.0E+15``.

    Args:
        values: of any type.
        column: its name.
        undecodable: what becomes of bytes that are not UTF-8, see :meth:`bytes.decode`.

    Raises:
        ConfigError: cells that are lists or records.
    """
    if not isinstance(values.dtype, pd.StringDtype):
        kind = getattr(values.dtype, "numpy_dtype", values.dtype)
        single = isinstance(kind, np.dtype) and kind.kind == "f" and kind.itemsize < 8
        exact = int(2 ** (np.finfo(kind if single else np.float64).nmant + 1))
        codes, different = distinct(values, column)
        words = [_word(cell, column, undecodable, exact) for cell in different]
        values = strings([*words, None]).take(codes).set_axis(values.index)
    stripped = values.str.strip()
    return stripped.mask(stripped == "") if (stripped == "").any() else stripped


def strings(words: list[Any]) -> pd.Series:
    """A series of text; of Python's own strings where one holds bytes that are not UTF-8."""
    try:
        return pd.Series(words, dtype=TEXT)
    except UnicodeEncodeError:
        return pd.Series(words, dtype=object)


def objects(values: pd.Series) -> pd.Series:
    """Text as Python's own strings, one object a different text, None where there is none."""
    codes, different = pd.factorize(values)
    return spread(list(different), codes, values.index)


def spread(different: list[Any], codes: np.ndarray, index: pd.Index) -> pd.Series:
    """The cells at the positions ``codes`` (N,), None at -1, as objects."""
    cells = np.full(len(different) + 1, None, dtype=object)
    cells[:-1] = different
    return pd.Series(cells[codes], index=index, dtype=object)


def _word(cell: Any, column: str, undecodable: str, exact: int) -> str:
    if isinstance(cell, str):
        return cell if cell.isascii() else cell.encode("utf-8", "surrogateescape").decode("utf-8", undecodable)
    if isinstance(cell, bytes):
        return cell.decode("utf-8", undecodable)
    if isinstance(cell, tuple):
        raise ConfigError(
            f"column {shown(column)} holds lists, not single values: write one value a row, or leave it out"
        )
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell)) if abs(float(cell)) < exact else f"{float(cell):.1E}"
    if isinstance(cell, Decimal) and cell == cell.to_integral_value():
        return str(int(cell))
    if isinstance(cell, datetime) and cell == datetime.combine(cell.date(), datetime.min.time(), cell.tzinfo):
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, date) else str(cell)
