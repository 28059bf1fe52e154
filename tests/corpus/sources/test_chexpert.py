"""CheXpert: policies for what a report leaves open, official parts, every missing column."""

import csv
import gzip
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.base import read_table
from raddino.corpus.sources.chexpert import LABELS, LabelPolicy, apply_policy
from raddino.errors import ConfigError, RaddinoError

NAN = float("nan")


@pytest.fixture
def root(tmp_path, draw, table):
    """40 train images of 20 patients (a frontal and a lateral each), 6 valid images of 3."""
    root = tmp_path / "CheXpert-v1.0-small"

    def rows(split: str, patients: range) -> list[dict]:
        return [
            {
                "Path": f"CheXpert-v1.0-small/{split}/patient{n:05}/study1/view{i + 1}_{('frontal', 'lateral')[i]}.jpg",
                "Sex": "Female" if n % 2 else "Male", "Age": n, "Frontal/Lateral": ("Frontal", "Lateral")[i],
                "AP/PA": ("AP", "")[i], **dict.fromkeys(LABELS), "Edema": (-1, 1, 0, None)[n % 4], "Pneumothorax": 0,
            }
            for n in patients
            for i in range(2)
        ]  # fmt: skip

    for split, patients in (("train", range(20)), ("valid", range(100, 103))):
        listed = rows(split, patients)
        table(root / f"{split}.csv", listed)
        for row in listed:
            draw(root.parent / row["Path"])
    return root


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, [NAN, 1, 0, 0]),
        ({"uncertain": "zeros"}, [0, 1, 0, 0]),
        ({"uncertain": "ones"}, [1, 1, 0, 0]),
        ({"uncertain": "soft"}, [0.5, 1, 0, 0]),
        ({"unmentioned": "ignore"}, [NAN, 1, 0, NAN]),
        ({"unmentioned": "ignore", "uncertain": "ones"}, [1, 1, 0, NAN]),
    ],
)
def test_policies(root, policy, expected):
    frame = SOURCES["chexpert"].read(root, **policy)
    np.testing.assert_array_equal(frame["label_edema"][:8:2], expected)
    assert frame.attrs["options"] == {"uncertain": "ignore", "unmentioned": "negative", "valid": "val"} | policy


def test_a_row_without_any_label_stays_unknown():
    cells = pd.DataFrame([dict.fromkeys(LABELS), {**dict.fromkeys(LABELS), "Edema": "1.0"}])
    found = apply_policy(cells, LabelPolicy())
    assert found.iloc[0].isna().all()
    assert found.iloc[1].sum() == 1
    assert found.iloc[1].notna().all()


def test_prepared_with_official_validation(root, packed):
    corpus = packed(f"chexpert:{root}", 46, uncertain="soft")
    rows = corpus.manifest
    assert rows["split"].tolist() == ["train"] * 40 + ["val"] * 6
    assert rows["patient"].nunique() == 23
    assert rows["view"].tolist() == ["AP", "LATERAL"] * 23
    assert np.isnan(rows["age"][0])
    assert rows["age"][2] == 1
    assert set(rows["sex"]) == {"M", "F"}
    assert rows["label_edema"][0] == 0.5
    assert "no test images" in corpus.info["source"]["notes"][0]


def test_valid_as_test_and_the_published_test_set(root, draw, table):
    frame = SOURCES["chexpert"].read(root, valid="test")
    assert frame["split"].tolist()[40:] == ["test"] * 6
    assert set(frame["split"][:40]) == {"train", "val"}
    assert frame.groupby("patient_id")["split"].nunique().max() == 1
    path = "test/patient64741/study1/view1_frontal.jpg"
    draw(root / path)
    table(root / "test_labels.csv", [{"Path": path, **dict.fromkeys(LABELS, 0), "Edema": 1}])
    frame = SOURCES["chexpert"].read(root)
    last = frame.iloc[-1]
    assert (last["split"], last["view"], last["label_edema"], last["path"]) == ("test", "FRONTAL", 1, path)
    assert frame.attrs["notes"] == []


def test_missing_columns_and_wrong_policies(root, without):
    with pytest.raises(ConfigError, match="uncertain"):
        SOURCES["chexpert"].read(root, uncertain="maybe")
    without(root / "valid.csv", "AP/PA")
    without(root / "valid.csv", "Support Devices")
    with pytest.raises(RaddinoError, match=r"valid.csv lacks the column\(s\) AP/PA, Support Devices. Get CheXpert"):
        SOURCES["chexpert"].read(root)
    (root / "train.csv").unlink()
    with pytest.raises(RaddinoError, match=r"not found: train.csv"):
        SOURCES["chexpert"].read(root)


def test_the_published_table(published):
    """The release's own ``train.csv``, counted line by line beside."""
    cells = read_table(published, "chexpert_train.csv", ["Path", *LABELS])
    found = apply_policy(cells, LabelPolicy(unmentioned="ignore"))
    with gzip.open(published / "chexpert_train.csv.gz", "rt", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(cells) == len(rows) == 223_414
    for name, column in (("Pleural Effusion", "label_pleural_effusion"), ("Edema", "label_edema")):
        told = Counter(row[name] for row in rows)
        assert (found[column] == 1).sum() == told["1.0"]
        assert found[column].isna().sum() == told["-1.0"] + told[""]
