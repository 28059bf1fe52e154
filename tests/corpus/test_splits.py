"""Patients stay on one side, and where they stand is a function of who they are."""

import pandas as pd
import pytest

from raddino.corpus.splits import check_patient_splits, parse_splits, split_of
from raddino.errors import ConfigError, RaddinoError


def test_shares_are_as_asked():
    splits = pd.Series([split_of(f"patient {n}", (0.6, 0.1, 0.3), 0) for n in range(20_000)])
    shares = splits.value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.6, abs=0.015)
    assert shares["val"] == pytest.approx(0.1, abs=0.01)


def test_extremes_and_seed():
    patients = [f"patient {n}" for n in range(200)]
    assert {split_of(patient, (1, 0, 0), 0) for patient in patients} == {"train"}
    assert {split_of(patient, (0, 0, 1), 0) for patient in patients} == {"test"}
    first, second = ([split_of(patient, (0.5, 0.2, 0.3), seed) for patient in patients] for seed in (0, 1))
    assert first != second
    assert first == [split_of(patient, (0.5, 0.2, 0.3), 0) for patient in patients]


def test_torn_patients_are_named():
    table = pd.DataFrame({"patient": [f"p{n % 9}" for n in range(18)], "split": ["train"] * 9 + ["test"] * 9})
    with pytest.raises(RaddinoError, match=r"9 patient\(s\).*p0, p1, p2, p3, p4 and 4 more"):
        check_patient_splits(table)
    check_patient_splits(table[:9])
    check_patient_splits(pd.DataFrame({"patient": [None, None], "split": ["train", "test"]}))


def test_spellings():
    words = pd.Series(["Training", "VAL", "validation", "dev", "test ", None, ""])
    assert parse_splits(words).tolist() == ["train", "val", "val", "val", "test", None, None]
    with pytest.raises(ConfigError, match="unknown split 'holdout'"):
        parse_splits(pd.Series(["holdout"]))
