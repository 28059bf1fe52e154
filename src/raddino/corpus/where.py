"""``where``: which rows of a table satisfy a pandas query that someone else may have written."""

from __future__ import annotations

import ast
import re

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from raddino.errors import ConfigError, did_you_mean

BACKTICKS = re.compile(r"`([^`'\"\n\r#]*)`")
PATTERN = re.compile(r"(?:[^\\*+?{}()]|\\[^0-9])*")
"""What ``str.contains`` searches for: without repetition and groups a search takes time in proportion to the text."""
ARGUMENTS = {
    "isin": ("values",), "isna": (), "notna": (), "between": ("left", "right", "inclusive"),
    "contains": ("pat", "case", "na", "regex"), "startswith": ("pat", "na"), "endswith": ("pat", "na"),
    "lower": (), "upper": (),
}  # fmt: skip
"""Methods of a column, and of its ``.str``, by the names of their arguments."""
METHODS = ("str", *ARGUMENTS)
LONGEST, DEEPEST, MOST = 2**16, 100, 500
"""Characters, levels, and parts (values in lists not counted) of a query."""
SHOWN = 200
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
PLAIN = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Invert, ast.USub, ast.UAdd, ast.BitAnd,
    ast.BitOr, *ARITHMETIC, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn,
    ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple, ast.Attribute, ast.Call, ast.BinOp, ast.keyword,
)  # fmt: skip


def query(table: pd.DataFrame, where: str) -> np.ndarray:
    """Which rows of ``table`` satisfy a pandas query, as (N,) bool.

    Suites are passed around, so a query can compare and nothing else: columns and constants, ``and or not & | ~``,
    ``+ - * / // %`` of numbers, and the methods :data:`METHODS` with constants. No outside variable is in its reach,
    and what it costs grows with its length and the rows alone.

    Raises:
        ConfigError: one line with what is wrong and, for a misspelt column, the nearest name.
    """
    try:
        _refuse_other_than_comparisons(table, where)
        answer = np.asarray(table.eval(where, local_dict={}, global_dict={}, engine="python"))
        if answer.dtype != bool or answer.shape != (len(table),):
            raise ValueError("it is not a comparison that holds or fails for each row")
        return answer
    except Exception as error:  # pandas raises many kinds
        words = " ".join(str(error).split())[:SHOWN] or type(error).__name__
        unknown = getattr(error, "name", None) or words.split("'")[1] if "'" in words else ""
        hint = did_you_mean(str(unknown), [str(column) for column in table.columns])
        said = repr(where if len(where) <= SHOWN else f"{where[:SHOWN]}…")
        raise ConfigError(f"where={said} cannot be applied: {words}.{hint}") from None


def _refuse_other_than_comparisons(table: pd.DataFrame, where: str) -> None:
    if len(where) > LONGEST:
        raise ValueError(f"it has {len(where)} characters; {LONGEST} are taken")
    quoted = BACKTICKS.findall(where)
    numbers = {str(name) for name in table if _is_number(table[name])} | {f"__{at}" for at, name in enumerate(quoted)
               if name in table and _is_number(table[name])}  # fmt: skip
    names = iter(range(len(quoted)))
    try:
        tree = ast.parse(BACKTICKS.sub(lambda _: f"__{next(names)}", where).strip(), mode="eval")
    except (MemoryError, RecursionError):
        raise ValueError("it is nested too deeply") from None
    level: list[ast.AST] = [tree]
    parts = 0
    for _ in range(DEEPEST):
        for node in level:
            _refuse(node, numbers)
        parts += sum(not isinstance(node, ast.Constant | ast.Load) for node in level)
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            break
    if level or parts > MOST:
        raise ValueError(f"it is nested too deeply or has more than {MOST} parts")


def _refuse(node: ast.AST, numbers: set[str]) -> None:
    if isinstance(node, ast.Attribute) and node.attr not in METHODS:
        raise ValueError(f".{node.attr} is not one of {', '.join(METHODS)}")
    if isinstance(node, ast.Call):
        _refuse_call(node)
    elif isinstance(node, ast.List | ast.Tuple) and not all(_is_constant(one) for one in node.elts):
        raise ValueError("a list holds constants only")
    elif isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitAnd | ast.BitOr):
        if not isinstance(node.op, ARITHMETIC) or not all(_is_numeric(one, numbers) for one in (node.left, node.right)):
            raise ValueError("it computes with other than + - * / // % of numbers")
    elif not isinstance(node, PLAIN):
        raise ValueError(f"it holds a {type(node).__name__}; columns are compared, nothing else")


def _refuse_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Attribute):
        raise ValueError("it calls a function")
    if node.func.attr not in ARGUMENTS:
        raise ValueError(f".{node.func.attr} is not one of {', '.join(METHODS)}")
    known = ARGUMENTS[node.func.attr]
    given = dict(zip(known, node.args, strict=False)) | {one.arg: one.value for one in node.keywords}
    if len(node.args) > len(known) or not set(given) <= set(known):
        raise ValueError(f".{node.func.attr}() takes {', '.join(known) or 'nothing'}")
    for value in given.values():
        if not _is_constant(value) and not isinstance(value, ast.List | ast.Tuple):
            raise ValueError(f".{node.func.attr}() takes constants only")
    pattern, plain = given.get("pat"), given.get("regex")
    literal = isinstance(plain, ast.Constant) and plain.value is False
    harmless = isinstance(pattern, ast.Constant) and PATTERN.fullmatch(str(pattern.value)) is not None
    if node.func.attr == "contains" and not (literal or harmless):
        raise ValueError("str.contains takes words with | between them; for * + ? {} () as signs add regex=False")


def _is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
    )


def _is_numeric(node: ast.AST, numbers: set[str]) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.UnaryOp):
        return _is_numeric(node.operand, numbers)
    if isinstance(node, ast.BinOp):  # its own parts are looked at when their turn comes
        return isinstance(node.op, ARITHMETIC)
    return isinstance(node, ast.Name) and node.id in numbers


def _is_number(values: pd.Series | pd.DataFrame) -> bool:
    return isinstance(values, pd.Series) and is_numeric_dtype(values.dtype) and not is_bool_dtype(values.dtype)
