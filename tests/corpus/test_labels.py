"""Listed and numeric labels: 1, 0, and not known."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.labels import label_columns, listed_labels, numeric_labels, snake_case
from raddino.errors import ConfigError

NAN = np.nan


def test_names():
    names = ["Pleural_Thickening", "COVID-19", "E.Coli", " No Finding ", "Épanchement", "Œdème", "Größe", "气胸"]
    expected = ["pleural_thickening", "covid_19", "e_coli", "no_finding", "epanchement", "oedeme", "grosse", ""]
    assert [snake_case(name) for name in names] == expected


def test_listed_labels_know_only_their_own_source():
    values = pd.Series(["Edema|Effusion", "Normal", None, "todo", "Effusion", "Viral", ""])
    sources = pd.Series(["a", "a", "a", "b", "b", "b", "b"])
    table, unlisted = listed_labels(values, sources)
    expected = {
        "label_edema": [1, 0, NAN, NAN, NAN, NAN, NAN],
        "label_effusion": [1, 0, NAN, NAN, 1, 0, NAN],
        "label_normal": [0, 1, NAN, NAN, NAN, NAN, NAN],
        "label_viral": [NAN, NAN, NAN, NAN, 0, 1, NAN],
    }
    assert set(table) == set(expected)
    assert unlisted == {"a": {"viral": 2}, "b": {"edema": 2, "normal": 2}}
    for name, column in expected.items():
        np.testing.assert_array_equal(table[name], np.array(column, np.float32))


def test_numeric_labels():
    values = numeric_labels(pd.Series([1, 0, None, -1, 0.33]), "x")
    np.testing.assert_array_equal(values, np.array([1, 0, NAN, NAN, 0.33], np.float32))
    np.testing.assert_array_equal(numeric_labels(pd.Series([True, False]), "x"), [1, 0])


@pytest.mark.parametrize("values", [[0, 2], ["yes", "no"], [-2, 0]])
def test_other_values_are_refused(values):
    with pytest.raises(ConfigError, match="'x' is taken for a label"):
        numeric_labels(pd.Series(values), "x")


def test_columns_by_prefix():
    columns = ["label_Edema", "nih_Mass", "nihilism", "other_x", "NIH_Hernia"]
    found = label_columns(columns, ["NIH"])
    assert found == {"label_edema": ["label_Edema"], "label_mass": ["nih_Mass"], "label_hernia": ["NIH_Hernia"]}
