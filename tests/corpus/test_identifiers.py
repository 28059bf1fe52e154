"""Placeholders for patients, and one patient who stands for many."""

import pandas as pd
import pytest

from raddino.corpus.identifiers import clean_ids, dominant_patient, is_placeholder
from raddino.errors import RaddinoError


@pytest.mark.parametrize(
    "name",
    ["ANONYMOUS", "anon", "Anonymized", "anonymous patient", "Anonymous^Patient", "unknown", "N/A", "-", "--", "?",
     "XXX", "_", "no name", "Patient", "de-identified"],
)  # fmt: skip
def test_nobody(name):
    assert is_placeholder(name)


@pytest.mark.parametrize("name", ["0", "1", "P1", "anon-0012", "patient 7", "Ann", "张三", "é", "NA12", "Nan Li", "X"])
def test_somebody(name):
    assert not is_placeholder(name)


def test_numbers_with_an_e_in_them_are_ids():
    ids = pd.Series(["1E5", "12e45", "3e10", "7"], dtype="str")
    assert clean_ids(ids, "patient", "p")[0].tolist() == ids.tolist()
    with pytest.raises(RaddinoError, match="lost their digits"):
        clean_ids(pd.Series(["1e+16"], dtype="str"), "patient", "p")


@pytest.mark.parametrize(
    ("counts", "notes"),
    [([12], 1), ([8], 0), ([101, *[1] * 1000], 1), ([101, *[1] * 3000], 0), ([100, *[50] * 20], 0), ([30, 30], 0)],
)
def test_a_patient_with_more_images_than_a_person_has(counts, notes):
    patients = pd.Series([f"h{n}" for n, count in enumerate(counts) for _ in range(count)])
    said = dominant_patient(patients)
    assert len(said) == notes
    assert all(f"{counts[0]} of {sum(counts)} images" in note and "h0" not in note for note in said)
