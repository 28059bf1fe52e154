"""Tables against counts by hand, on manifests whose truth is known."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from packed_corpus import pack
from raddino.files import read_json
from raddino.inspection.holdings import DECADES, GROUPED, groups_of, holdings, present, write_holdings
from raddino.inspection.inspect import inspect


@pytest.fixture
def manifest() -> pd.DataFrame:
    """400 images of 150 patients of two sources, with machines."""
    draw = np.random.default_rng(0)
    n, patients = 400, 150
    whose = draw.integers(0, patients, n)
    frame = pd.DataFrame({
        "id": [f"i{row}" for row in range(n)],
        "patient": [f"p{number}" for number in whose],
        "study": [f"s{number}" for number in draw.integers(0, 300, n)],
        "source": np.where(whose < 100, "big", "small"),
        "split": np.array(["train", "val", "test"])[whose % 3],
        "view": draw.choice(["PA", "AP", None], n, p=[0.5, 0.3, 0.2]),
        "sex": np.array(["F", "M", None])[whose % 3],
        "age": (whose % 100).astype(float) + draw.integers(0, 3, n),
        "height": draw.integers(100, 120, n), "width": draw.integers(100, 200, n), "length": 2**18,
        "manufacturer": draw.choice(["A", "B", None], n),
        "station": [f"{number % 4:x}" * 20 for number in whose],
        "portable": draw.choice([1.0, 0.0, np.nan], n),
        "year_band": draw.choice(["2010-2014", "2015-2019"], n),
        "label_x": draw.choice([1.0, 0.0, np.nan], n), "label_y": draw.choice([0.2, 0.5, 0.8], n),
        "label_none": np.nan,
    })  # fmt: skip
    return frame.astype(dict.fromkeys(("view", "sex", "manufacturer"), object))


def only(table: pd.DataFrame, **values) -> pd.Series:
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_counts_and_sizes_are_those_of_the_rows(manifest):
    tables = holdings(manifest)
    for by, group in (("all", "all"), ("source", "small"), ("split", "val"), ("year_band", "2010-2014")):
        rows = [row for row in manifest.to_dict("records") if by == "all" or row[by] == group]
        count = only(tables["counts"], by=by, group=group)
        assert count["images"] == len(rows)
        assert count["patients"] == len({row["patient"] for row in rows})
        assert count["studies"] == len({row["study"] for row in rows})
        assert count["mebibytes"] == pytest.approx(len(rows) / 4)
        size = only(tables["sizes"], by=by, group=group)
        assert (size["width_min"], size["width_max"]) == (
            min(row["width"] for row in rows),
            max(row["width"] for row in rows),
        )
        assert size["height_median"] == np.median([row["height"] for row in rows])
        assert size["shapes"] == len({(row["height"], row["width"]) for row in rows})


def test_every_grouping_counts_each_image_once(manifest):
    tables = holdings(manifest)
    assert set(tables["counts"]["by"]) == {
        "all", "source", "split", "manufacturer", "station", "portable", "year_band",
    }  # fmt: skip
    for name in ("counts", "views"):
        assert set(tables[name].groupby("by")["images"].sum()) == {len(manifest)}
    assert set(tables["people"][tables["people"]["by"] == "source"].groupby("by")["patients"].sum()) == {
        manifest["patient"].nunique()
    }


def test_views_and_what_is_missing(manifest):
    tables = holdings(manifest)
    for source in ("big", "small"):
        views = manifest.loc[manifest["source"] == source, "view"]
        expected = Counter("unknown" if pd.isna(view) else view for view in views)
        got = tables["views"].query("by == 'source' and group == @source")
        assert dict(zip(got["view"], got["images"], strict=True)) == expected
        gap = only(tables["missing"], by="source", group=source, column="view")
        assert (gap["missing"], gap["images"]) == (expected["unknown"], len(views))
    assert "kvp" not in set(tables["missing"]["column"])


def test_prevalence_is_among_the_known(manifest):
    table = holdings(manifest)["labels"]
    for label in ("x", "y"):
        values = [value for value in manifest[f"label_{label}"] if value == value]
        row = only(table, by="all", group="all", label=label)
        assert row["known"] == len(values)
        assert row["positive"] == sum(value >= 0.5 for value in values)
        assert row["prevalence"] == pytest.approx(row["positive"] / row["known"], abs=1e-5)
    assert "none" not in set(table["label"])


def test_a_patient_counts_once_with_the_least_age(manifest):
    people = holdings(manifest)["people"].query("by == 'all'")
    ages: dict[str, float] = {}
    sexes = dict(zip(manifest["patient"], manifest["sex"], strict=True))
    for patient, age in zip(manifest["patient"], manifest["age"], strict=True):
        ages[patient] = min(ages.get(patient, np.inf), age)
    expected = Counter(
        ("unknown" if pd.isna(sexes[patient]) else sexes[patient], "90+" if age >= 90 else DECADES[int(age // 10)])
        for patient, age in ages.items()
    )
    assert {(row.sex, row.age): row.patients for row in people.itertuples()} == expected


def test_ages_above_89_are_one_and_disagreement_is_said():
    frame = pd.DataFrame({
        "patient": ["a", "a", "b", "c", "d"], "sex": ["F", "M", "F", None, "M"], "age": [96, 95, 104, np.nan, 89.9],
        "source": "x", "split": "train", "height": 5, "width": 5, "length": 1,
    })  # fmt: skip
    tables = holdings(frame)
    people = tables["people"].query("by == 'all'")
    assert {(row.sex, row.age, row.patients) for row in people.itertuples()} == {
        ("contradictory", "90+", 1), ("F", "90+", 1), ("unknown", "unknown", 1), ("M", "80-89", 1),
    }  # fmt: skip
    ages = only(tables["numbers"], by="all", column="age")
    assert (ages["q3"], ages["known"]) == (90, 4)


def test_stations_are_cut_and_many_groups_are_one():
    frame = pd.DataFrame({"station": [f"{n:020x}"[::-1] for n in range(40) for _ in range(40 - n)]})
    groups = groups_of(frame, "station")
    assert len(set(groups)) == 12
    sizes = Counter(groups)
    assert sizes["all others"] == sum(range(1, 30))
    assert all(len(name) == len("station ") + 8 for name in sizes if name != "all others")
    assert set(groups_of(pd.DataFrame({"portable": [1.0, 0.0, np.nan, True]}), "portable")) == {
        "portable", "not portable", "unknown",
    }  # fmt: skip


def test_a_bare_manifest_has_what_it_can_have():
    frame = pd.DataFrame({"patient": ["a"], "source": ["x"], "split": [None], "height": [4], "width": [6], "length": 9})
    tables = holdings(frame)
    assert set(tables) == {"counts", "sizes"}
    assert set(tables["counts"]["by"]) == {"all", "source"}
    assert tables["counts"]["studies"].tolist() == [None, None]


def test_corpora_are_compared_where_they_are_not_the_sources():
    same = pd.DataFrame({"corpus": [0, 0, 1], "source": ["a", "a", "b"]})
    assert present(same, GROUPED) == ["source"]
    crossed = pd.DataFrame({"corpus": [0, 0, 1], "source": ["a", "b", "b"]})
    assert present(crossed, GROUPED) == ["source", "corpus"]
    local = pd.DataFrame({"corpus": [0, 0, 1], "source": "local"})
    assert present(local, GROUPED) == ["source", "corpus"]
    assert groups_of(local, "corpus").tolist() == ["corpus 1", "corpus 1", "corpus 2"]


def test_a_packed_corpus(tmp_path):
    """Half of the images dark, of their own source, with sizes that are known."""
    draw = np.random.default_rng(0)
    shapes = [(64, 70 + n % 3) for n in range(12)]
    images = [draw.integers(0, 128 if n < 6 else 256, shape, dtype=np.uint8) for n, shape in enumerate(shapes)]
    for image in images:
        image[0, :2] = 0, 255  # packed as they are
    corpus = pack(tmp_path / "a", images, source=["dark"] * 6 + ["bright"] * 6, label_x=[1, 0, 0] * 4)
    found = inspect([corpus], checks=["intensity"], workers=1)
    tables = holdings(found.manifest, found.measures)
    size = only(tables["sizes"], by="source", group="dark")
    assert (size["width_min"], size["width_median"], size["shapes"]) == (70, 71, 3)
    assert only(tables["labels"], by="source", group="dark", label="x")["prevalence"] == pytest.approx(1 / 3, abs=1e-5)
    dark, bright = (only(tables["greys"], by="source", group=name) for name in ("dark", "bright"))
    assert dark["histogram"][:16] == pytest.approx([1 / 16] * 16, abs=0.005)
    assert bright["histogram"] == pytest.approx([1 / 32] * 32, abs=0.005)
    assert dark["mean"] == pytest.approx(63.5 / 255, abs=0.005)


def test_the_file_holds_the_tables_and_no_patient(manifest, tmp_path):
    path = write_holdings(tmp_path / "inspection.json", holdings(manifest))
    data = read_json(path, "again", sealed=True)
    assert data["drift"] is None
    whole = data["holdings"]["counts"][0]
    assert (whole["by"], whole["images"]) == ("all", 400)
    text = path.read_text(encoding="utf-8")
    assert not any(f'"{value}"' in text for name in ("id", "patient", "study") for value in manifest[name])
    assert "1" * 20 not in text
    json.loads(text)
