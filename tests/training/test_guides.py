"""Columns as targets: classes, numbers, what is absent, weights, and columns that cannot guide."""

import json

import numpy as np
import pytest

from acquisition_columns import with_acquisition
from memory_corpus import toy_corpus
from raddino.errors import ConfigError, RaddinoError
from raddino.ssl import SslConfig
from raddino.ssl.guides import Guide
from raddino.training import guides
from raddino.training.guides import HEAVIEST, Scale

ROWS = np.arange(0, 240, 2)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    made = toy_corpus(tmp_path_factory.mktemp("toy"))
    made.manifest = with_acquisition(made.manifest).assign(report="x", synthetic=np.arange(240) % 4 == 0)
    return made


def ssl(**columns: str) -> SslConfig:
    return SslConfig(guides=columns)


def read(corpus, config, recorded=None) -> dict[str, Scale]:
    return guides.scales(corpus, ROWS, config, recorded or {})


def test_text_flags_and_numbers_of_two_values_are_classes_others_numbers(corpus):
    found = read(corpus, ssl(manufacturer="remove", synthetic="keep", label_left="keep", age="keep", kvp="remove"))
    assert found["manufacturer"].classes == ("GE", "Philips")
    assert found["synthetic"].classes == ("False", "True")
    assert found["label_left"].classes == ("0", "1")
    assert found["kvp"].classes == ("125", "81")
    assert found["age"].classes == ()
    ages = corpus.manifest["age"].to_numpy()[ROWS]
    assert (found["age"].mean, found["age"].sd) == (pytest.approx(ages.mean()), pytest.approx(ages.std()))
    heads = guides.guides(ssl(manufacturer="remove", age="keep"), found)
    assert heads == [Guide("age", True, 1), Guide("manufacturer", False, 2)]


def test_targets_are_the_values_of_their_rows_and_absent_ones_weigh_nothing(corpus):
    config = ssl(manufacturer="remove", age="keep")
    found = read(corpus, config)
    table = guides.targets(corpus, ROWS, found).numpy()
    assert table.shape == (240, 2, 2)
    assert table.dtype == np.float32
    for row in range(240):
        age, maker = corpus.manifest["age"][row], corpus.manifest["manufacturer"][row]
        assert table[row, 0, 0] == pytest.approx((age - found["age"].mean) / found["age"].sd, abs=1e-6)
        assert table[row, 0, 1] == 1
        assert table[row, 1, 0] == (maker == "Philips")
        assert (table[row, 1, 1] > 0) == (maker in ("GE", "Philips"))


def test_classes_weigh_the_same_whatever_their_shares_and_columns_whatever_is_known(corpus):
    """Over the rows trained on; a number half of which is absent counts as loud as one that is whole."""
    manifest = corpus.manifest.copy()
    rare = np.where(np.arange(240) % 12 == 0, "AP", "PA").astype(object)
    rare[1::4] = None
    manifest["view"] = rare
    manifest.loc[::4, "age"] = np.nan
    other = toy_corpus(corpus.path)
    other.manifest = manifest
    found = read(other, ssl(view="remove", age="keep"))
    table = guides.targets(other, ROWS, found).numpy()[ROWS]
    by_class = [table[(table[:, 1, 0] == number) & (table[:, 1, 1] > 0), 1, 1].sum() for number in (0, 1)]
    np.testing.assert_allclose(by_class, len(ROWS) / 2, rtol=1e-6)
    assert table[:, 0, 1].sum() == pytest.approx(len(ROWS))
    assert set(table[:, 0, 1]) == {0.0, 2.0}


def test_no_image_weighs_more_than_the_bound(corpus):
    other = toy_corpus(corpus.path)
    other.manifest["view"] = np.where(np.arange(240) == 0, "AP", "PA")
    table = guides.targets(other, ROWS, read(other, ssl(view="keep"))).numpy()
    assert table[0, 0, 1] == HEAVIEST < len(ROWS) / 2
    assert table[2, 0, 1] == pytest.approx(len(ROWS) / 2 / (len(ROWS) - 1))


def test_without_guides_there_is_an_empty_table(corpus):
    assert guides.targets(corpus, ROWS, {}).shape == (240, 0, 2)
    assert guides.record({}) == {}


@pytest.mark.parametrize(
    ("column", "match"),
    [
        ("manufactuer", "no column of the corpus. Did you mean 'manufacturer'"),
        ("patient", "'patient' names persons or images"),
        ("id", "'id' names persons or images"),
        ("report", "'report' names persons or images"),
        ("label_none", "label_none is the same in all training images: leave it out"),
        ("source", "source is the same in all training images: leave it out"),
        ("station", "station has 120 values, more than 100 classes: choose a coarser column, or leave it out"),
        ("bmi", "bmi is absent from all training images: leave it out"),
        ("weight", "weight holds numbers without a spread: leave it out"),
    ],
)
def test_what_cannot_guide_is_refused_in_a_line_without_a_value(corpus, column, match):
    other = toy_corpus(corpus.path)
    numbers = np.arange(240.0)
    odd = {"station": [f"site{at}" for at in numbers], "bmi": np.nan, "weight": np.where(numbers == 4, np.inf, numbers)}
    other.manifest = corpus.manifest.assign(**odd)
    with pytest.raises(ConfigError, match=match) as error:
        read(other, ssl(**{column: "remove"}))
    assert "\n" not in str(error.value)
    assert "site" not in str(error.value).replace("'site", "")


def test_what_is_recorded_is_kept_and_unknown_values_count_as_absent(corpus):
    config = ssl(manufacturer="remove", age="keep")
    first = read(corpus, config)
    recorded = json.loads(json.dumps(guides.record(first)))["guides"]
    assert read(corpus, config, recorded) == first
    other = toy_corpus(corpus.path)
    makers = np.array(["Agfa", "Philips", "GE", None, "GE"], dtype=object)[np.arange(240) % 5]
    other.manifest = corpus.manifest.assign(manufacturer=makers, age=corpus.manifest["age"] + 5)
    assert read(other, config, recorded) == first
    table = guides.targets(other, ROWS, first).numpy()
    for maker, value, known in (("Agfa", 0, False), ("Philips", 1, True), ("GE", 0, True), (None, 0, False)):
        assert set(table[makers == maker, 1, 0]) == {value}
        assert all((table[makers == maker, 1, 1] > 0) == known)
    with pytest.raises(ConfigError, match="column manufacturer, these images hold less than two values"):
        guides.scales(other, np.flatnonzero(makers == "GE"), config, recorded)


def test_a_recorded_class_that_no_image_has_takes_no_weight_from_the_others(corpus):
    found = {"manufacturer": Scale(("Agfa", "GE", "Philips"))}
    table = guides.targets(corpus, ROWS, found).numpy()[ROWS, 0]
    assert table[:, 1].sum() == pytest.approx(len(ROWS))
    assert set(table[table[:, 1] > 0, 0]) == {1, 2}


@pytest.mark.parametrize(
    "damaged",
    [None, [], {}, {"classes": 3, "mean": 0, "sd": 1}, {"classes": [1], "mean": 0, "sd": 1},
     {"classes": [], "mean": 0, "sd": 0}, {"classes": [], "mean": "x", "sd": 1},
     {"classes": [], "mean": 1e999, "sd": 1}],
)  # fmt: skip
def test_a_damaged_record_is_refused(corpus, damaged):
    with pytest.raises(RaddinoError, match=r"environment\.json is damaged in 'guides'"):
        read(corpus, ssl(age="keep"), {"age": damaged})
