"""Patients stay on one side, and where they stand is a function of who they are."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.splits import check_patient_splits, parse_splits, patient_fraction, split_of
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
    with pytest.raises(RaddinoError, match=r"9 patients.*p0, p1, p2, p3, p4 and 4 more"):
        check_patient_splits(table)
    check_patient_splits(table[:9])
    check_patient_splits(pd.DataFrame({"patient": [None, None], "split": ["train", "test"]}))


def test_spellings():
    words = pd.Series(["Training", "VAL", "validation", "dev", "test ", None, ""])
    assert parse_splits(words).tolist() == ["train", "val", "val", "val", "test", None, None]
    with pytest.raises(ConfigError, match="unknown split 'holdout'"):
        parse_splits(pd.Series(["holdout"]))


def test_fractions_of_patients_are_whole_nested_and_as_asked():
    patients = np.repeat([f"patient {n}" for n in range(5000)], 2)
    before = np.zeros(len(patients), bool)
    for fraction in (0.01, 0.05, 0.1, 0.25, 0.9, 1):
        inside = patient_fraction(patients, fraction, 0)
        assert inside.mean() == pytest.approx(fraction, abs=0.02)
        assert (inside[::2] == inside[1::2]).all()
        assert (before <= inside).all()
        before = inside
    assert before.all()
    assert not np.array_equal(patient_fraction(patients, 0.5, 0), patient_fraction(patients, 0.5, 1))
    few = patient_fraction(patients[:100], 0.25, 0)
    assert np.array_equal(few, patient_fraction(patients, 0.25, 0)[:100])


def test_a_fraction_holds_at_least_one_patient_and_is_a_share():
    patients = np.array(["a", "b", "b", "c"], dtype=object)
    least = patient_fraction(patients, 1e-9, 0)
    assert len(set(patients[least])) == 1
    assert (least <= patient_fraction(patients, 0.5, 0)).all()
    assert patient_fraction([], 0.5, 0).shape == (0,)
    for wrong in (0, -0.1, 1.01, float("nan")):
        with pytest.raises(ConfigError, match="above 0 and up to 1"):
            patient_fraction(patients, wrong, 0)


def test_a_fraction_is_independent_of_the_split():
    patients = np.array([f"patient {n}" for n in range(20_000)])
    train = np.array([split_of(patient, (0.7, 0.1, 0.2), 0) == "train" for patient in patients])
    inside = patient_fraction(patients, 0.3, 0)
    assert inside[train].mean() == pytest.approx(inside[~train].mean(), abs=0.03)
