"""Names of findings meet, and stay apart where they mean different things."""

import pytest

from raddino.corpus.sources.findings import label_column


@pytest.mark.parametrize("name", ["Effusion", "Pleural Effusion", "Pleural effusion", "pleural effusion"])
def test_effusions_are_one(name):
    assert label_column(name) == "label_pleural_effusion"


@pytest.mark.parametrize(
    ("nih", "other"),
    [("Fibrosis", "Pulmonary fibrosis"), ("Pleural_Thickening", "Pleural thickening"), ("No Finding", "normal"),
     ("Infiltration", "infiltrates"), ("Edema", "pulmonary edema"), ("Mass", "pulmonary mass")],
)  # fmt: skip
def test_the_same_finding_has_one_column(nih, other):
    assert label_column(nih) == label_column(other)


def test_different_findings_stay_apart():
    names = ["Hernia", "hiatal hernia", "Nodule", "Mass", "Nodule/Mass", "Lung Lesion", "Fracture", "Rib fracture"]
    assert len({label_column(name) for name in names}) == len(names)
