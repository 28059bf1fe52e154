"""Cells of other people's tables as text, by hand, whatever pandas made of them."""

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.cells import distinct, objects, shown, spread, strings, text
from raddino.errors import ConfigError


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (7, "7"), (7.0, "7"), (-3.0, "-3"), (7.25, "7.25"), (np.float64(12), "12"), (2.0**53 - 1, "9007199254740991"),
        (2.0**53, "9.0E+15"), (-(2.0**53), "-9.0E+15"), (True, "True"), (Decimal("4.00"), "4"), (Decimal("4.5"), "4.5"),
        (b" \xc3\xa4 ", "ä"), (b"\xff", "\\xff"), ("  a b\t", "a b"), ("ä", "ä"), ("a\udcff", "a\\xff"),
        (date(2001, 2, 3), "2001-02-03"), (datetime(2001, 2, 3), "2001-02-03"),
        (datetime(2001, 2, 3, 4, 5), "2001-02-03T04:05:00"),
        (datetime(2001, 2, 3, tzinfo=timezone(timedelta(hours=1))), "2001-02-03"),
    ],
)  # fmt: skip
def test_a_cell_is_written_as_a_person_would(cell, said):
    assert text(pd.Series([cell, None], dtype=object, index=[5, 3]), "c").to_dict()[5] == said
    assert text(pd.Series([cell, None], dtype=object), "c").isna().tolist() == [False, True]


def test_single_precision_counts_fewer_whole_numbers():
    values = pd.Series([2**24 - 1, 2**24, np.nan], dtype=np.float32)
    assert text(values, "c").fillna("-").tolist() == ["16777215", "1.7E+07", "-"]
    nullable = pd.Series([2**24, None], dtype="Int64")
    assert text(nullable, "c").fillna("-").tolist() == ["16777216", "-"]


@pytest.mark.parametrize("dtype", ["string", object])
def test_spaces_and_nothing(dtype):
    found = text(pd.Series(["", "  ", " x ", None, "y"], dtype=dtype, index=list("abcde")), "c")
    assert found.isna().tolist() == [True, True, False, True, False]
    assert found.dropna().to_dict() == {"c": "x", "e": "y"}


def test_lists_and_records_are_refused_by_name():
    for cell in ([1, 2], {"a", "b"}, np.array([1, 2])):
        with pytest.raises(ConfigError, match="column 'c' holds lists"):
            text(pd.Series([cell], dtype=object), "c")
    with pytest.raises(ConfigError, match="column 'c' holds records"):
        text(pd.Series([{"a": 1}], dtype=object), "c")


def test_lists_are_different_cells_without_order_or_missing_words():
    codes, different = distinct(pd.Series([["b", "a"], ["a", None, "b", np.nan], [], "x", None, ["c"]]), "c")
    assert codes.tolist() == [0, 0, -1, 1, -1, 2]
    assert different == [("a", "b"), "x", ("c",)]
    codes, different = distinct(pd.Series(["b", None, "a", "b"]), "c")
    assert (codes.tolist(), different) == ([0, -1, 1, 0], ["b", "a"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Age (years)", "'Age (years)'"), ("ä%", "'ä%'"), ("a" * 40, repr("a" * 40)), (3, None), ("1 Doe", None),
        ("a" * 41, None), ("a\nb", None), ("_a", "'_a'"), ("", None), ("Doe, Jane", None),
    ],
)  # fmt: skip
def test_names_that_may_be_data_are_not_repeated(name, said):
    assert shown(name) == (said or "(of a name too odd to show)")


def test_objects_are_shared_and_missing_cells_none():
    found = objects(pd.Series(["x" * 50, None, "x" * 50], index=[4, 2, 9], dtype="string"))
    assert found.index.tolist() == [4, 2, 9]
    assert found[2] is None
    assert found[4] is found[9]
    assert spread(["p", "q"], np.array([1, -1, 0]), pd.RangeIndex(3)).tolist() == ["q", None, "p"]
    assert strings(["a\udcff", None]).dtype == object
    assert strings(["a", None]).dtype == pd.StringDtype(na_value=np.nan)
