"""Elements that are missing, empty, several, or not what they should be."""

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from raddino.images.elements import first, number, says_yes, text, told, unusable, values


def dataset(**elements) -> Dataset:
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, []),
        ({"ViewPosition": ""}, []),
        ({"ViewPosition": None}, []),
        ({"ViewPosition": "PA"}, ["PA"]),
        ({"ViewPosition": ["PA", "AP"]}, ["PA", "AP"]),
    ],
)
def test_values(elements, expected):
    found = dataset(**elements)
    assert values(found, "ViewPosition") == expected
    assert first(found, "ViewPosition") == (expected[0] if expected else None)
    assert text(found, "ViewPosition") == (expected[0] if expected else "")
    assert told(found, "ViewPosition") == bool(expected)


def test_text_loses_what_pads_it():
    found = dataset()
    found.add_new("PatientComments", "LT", "\0 a b \r\n\t")
    assert text(found, "PatientComments") == "a b"


@pytest.mark.parametrize(("written", "yes"), [
    ("YES", True), ("y", True), ("True", True), ("1", True), ("NO", False), ("", False), ("0", False), ("MAYBE", False),
])  # fmt: skip
def test_yes(written, yes):
    assert says_yes(dataset(PatientComments=written), "PatientComments") is yes


@pytest.mark.parametrize(("value", "found", "bad"), [
    (3.5, 3.5, True), (-2, -2, True), (0, 0, False), (1e9, 1e9, True), (-1e9, -1e9, True), (1.1e9, None, True),
    (-1.1e9, None, True), (float("inf"), None, True), (float("nan"), None, True),
])  # fmt: skip
def test_numbers(value, found, bad):
    held = dataset(TubeAngle=value)
    assert number(held, "TubeAngle") == found
    assert unusable(held, "TubeAngle") is bad
    assert not unusable(Dataset(), "TubeAngle")


def test_raw_elements_that_only_hold_blanks_say_nothing():
    for value, says in ((b"  ", False), (b"", False), (b" x ", True)):
        raw = Dataset()
        raw[0x00101030] = RawDataElement(Tag(0x00101030), "DS", len(value), value, 0, False, True)
        assert told(raw, "PatientWeight") is says
        assert unusable(raw, "PatientWeight") is says
