"""Pictures whose header says that they are not stored as they are looked at."""

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from raddino.images.dicom import read_dicom
from raddino.images.elements import values
from raddino.images.orientation import orientation_notes

TURNED = "stored turned or mirrored: PatientOrientation is {}"
CONTRADICTS = "PatientOrientation {} contradicts the view {}"
UNREADABLE = "PatientOrientation cannot be read"


@pytest.mark.parametrize(
    ("view", "orientation", "note"),
    [
        ("PA", "L\\F", None), ("AP", "L\\F", None), ("LL", "A\\F", None), ("RL", "P\\F", None), (None, "A\\F", None),
        (None, "L\\F", None), ("RAO", "L\\F", None), ("LAO", "R\\F", None), ("PA", "LH\\FP", None), ("PA", "", None),
        ("PA", "l\\f", None), ("PA", "\\", None), ("LLD", "L\\F", None), ("PA", None, None),
        *(("PA", said, TURNED.format(said)) for said in ("R\\F", "L\\H", "R\\H", "F\\L", "H\\L", "F\\R", "H\\R")),
        *(("AP", said, TURNED.format(said)) for said in ("R\\F", "L\\H", "F\\L")),
        *((None, said, TURNED.format(said)) for said in ("R\\F", "L\\H", "A\\H", "F\\P")),
        *(("LL", said, TURNED.format(said)) for said in ("A\\H", "F\\A", "R\\F", "H\\P")),
        ("RAO", "L\\H", TURNED.format("L\\H")), ("LLD", "R\\F", TURNED.format("R\\F")),
        ("PA", "RF\\FL", TURNED.format("R\\F")), ("PA", "A\\F", CONTRADICTS.format("A\\F", "PA")),
        ("AP", "P\\F", CONTRADICTS.format("P\\F", "AP")), ("LL", "L\\F", CONTRADICTS.format("L\\F", "LATERAL")),
        *(("PA", said, UNREADABLE) for said in ("L", "L\\X", "L\\F\\P", "LE\\CD", "\\F")),
    ],
)  # fmt: skip
def test_patient_orientation_against_the_view(make_dicom, ramp, view, orientation, note):
    value = None if orientation is None else orientation.split("\\")
    radiograph = read_dicom(make_dicom(ramp, ViewPosition=view, PatientOrientation=value))
    assert radiograph.warnings == (() if note is None else (note,))
    np.testing.assert_array_equal(radiograph.pixels, ramp)


def test_an_orientation_that_is_no_text_cannot_be_read():
    dataset = Dataset()
    tag = tag_for_keyword("PatientOrientation")
    dataset[tag] = RawDataElement(Tag(tag), "FD", 3, b"L\\F", 0, False, True)
    assert values(dataset, "PatientOrientation") == []
    assert orientation_notes(dataset, "PA") == [UNREADABLE]


@pytest.mark.parametrize(
    ("rotation", "flip", "told"),
    [
        (0, "NO", False), (360, None, False), (None, "NO", False), ("", "", False), (90, "NO", True), (180, None, True),
        (270, "YES", True), (0, "YES", True), (None, "yes", True), ("90,0", None, True),
        ([0, 90], None, True),
    ],
)  # fmt: skip
def test_field_of_view(make_dicom_unchecked, ramp, rotation, flip, told):
    data = make_dicom_unchecked(ramp, ViewPosition="PA", FieldOfViewRotation=rotation, FieldOfViewHorizontalFlip=flip)
    note = "stored turned or mirrored: FieldOfViewRotation or FieldOfViewHorizontalFlip says so"
    assert read_dicom(data).warnings == ((note,) if told else ())


@pytest.mark.parametrize(
    ("position", "meaning", "view", "told"),
    [
        ("PA", "postero-anterior", "PA", False),
        ("", "left lateral", "LATERAL", False),
        ("PA", "left lateral", "PA", True),
        ("AP", "postero-anterior", "AP", True),
        ("LLD", "antero-posterior", "AP", False),
        ("PA", "frontal", "PA", False),
    ],
)
def test_two_words_for_the_view(make_dicom, ramp, position, meaning, view, told):
    code = Dataset()
    code.CodeMeaning = meaning
    radiograph = read_dicom(make_dicom(ramp, ViewPosition=position, ViewCodeSequence=[code]))
    assert radiograph.facts.view == view
    assert radiograph.warnings == (("ViewPosition and ViewCodeSequence contradict each other",) if told else ())
