"""Placeholders for patients, and one patient who stands for many."""

import pandas as pd
import pytest

from raddino.corpus.identifiers import clean_ids, dominant_patient, is_placeholder
from raddino.errors import RaddinoError, counted


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
    for shortened in ("1e+16", "1.23457e11", "1,23E11"):
        with pytest.raises(RaddinoError, match="lost digits"):
            clean_ids(pd.Series([shortened], dtype="str"), "patient", "p")


@pytest.mark.parametrize(
    ("ids", "alike"),
    [
        (["A1", "a1"], 1),
        (["A 1", "A1", "a\u200b1"], 2),
        (["\uff211", "A1"], 1),
        (["M\u00fcller", "Mu\u0308ller"], 0),
        (["A1", "A2", "12"], 0),
    ],
)
def test_ids_that_look_alike_are_told(ids, alike):
    found, notes = clean_ids(pd.Series(ids, dtype="str"), "patient", "p")
    assert found.tolist() == ids
    assert len(notes) == bool(alike)
    assert all(note.startswith(f"{counted(alike, 'id')} in column 'p' unlike another") for note in notes)


@pytest.mark.parametrize(
    ("counts", "notes"),
    [([12], 1), ([8], 0), ([101, *[1] * 1000], 1), ([101, *[1] * 3000], 0), ([100, *[50] * 20], 0), ([30, 30], 0)],
)
def test_a_patient_with_more_images_than_a_person_has(counts, notes):
    patients = pd.Series([f"h{n}" for n, count in enumerate(counts) for _ in range(count)])
    said = dominant_patient(patients)
    assert len(said) == notes
    assert all(f"{counts[0]} of {sum(counts)} images" in note and "h0" not in note for note in said)


@pytest.mark.parametrize(("ids", "told"), [
    (["1234567890123450000", "1234567890123460000", "1234567890123470000", "1234567890123480000",
      "1234567890123490000"], True),
    (["1234567890123450000", "1234567890123460000", "1234567890123470000", "1234567890123480000"], False),
    (["1234567890123450000", "1234567890123460000", "1234567890123470000", "1234567890123480000",
      "1234567890123490001"], False),
    (["123456789012000", "123456789013000", "123456789014000", "123456789015000", "123456789016000"], False),
])  # fmt: skip
def test_long_numbers_that_all_end_in_zeros_were_rounded(ids, told):
    _, notes = clean_ids(pd.Series(ids, dtype="str"), "patient", "pid")
    assert [f"the {len(ids)} ids of more than 15 digits" in note for note in notes] == [True] * told
