"""PadChest: label lists, broader findings, projections, years, and the published table."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.base import numbers, read_table
from raddino.corpus.sources.padchest import COLUMNS, LAYOUT, _labels
from raddino.errors import RaddinoError
from raddino.images.acquisition import parse_manufacturer, parse_year_band

LISTS = [
    "['normal']",
    "['loculated pleural effusion', 'COPD signs']",
    "['unchanged']",
    None,
    "['pulmonary edema', 'laminar atelectasis']",
    "['pleural effusion', '']",
    "['hydropneumothorax']",
    "['exclude']",
]


@pytest.fixture
def root(tmp_path, draw, table):
    """8 images of 4 patients in folders 0 and 1, one more with projection EXCLUDE."""
    root = tmp_path / "padchest"
    rows = [
        {
            "": n, "ImageID": f"2168401113669640_{n}.png", "ImageDir": n % 2,
            "Manufacturer_DICOM": ("PhilipsMedicalSystems", "ImagingDynamicsCompanyLtd")[n % 2],
            "StudyDate_DICOM": 20140915,
            "StudyID": 20536686640136348236148679891455886468 + n // 2,
            "PatientID": f"83986048869429233166798823568{n // 2}",
            "PatientBirth": 1930.0 + n, "PatientSex_DICOM": "FMO"[n // 2 % 3],
            "Projection": ["PA", "L", "AP", "AP_horizontal", "COSTAL", "UNK", "PA", "PA", "EXCLUDE"][n],
            "Report": " sin hallazg .", "MethodLabel": "Physician" if n % 2 else "RNN_model",
            "Labels": [*LISTS, "['mass']"][n],
        }
        for n in range(9)
    ]  # fmt: skip
    table(root / LAYOUT[0], rows)
    for row in rows[:8]:
        draw(root / f"{row['ImageDir']}/{row['ImageID']}", deep=True)
    return root


def test_prepared(root, packed):
    corpus = packed(f"padchest:{root}", 8, min_count=1)
    rows = corpus.manifest
    nan = float("nan")
    np.testing.assert_array_equal(rows["label_pleural_effusion"], [0, 1, nan, nan, 0, 1, 1, nan])
    np.testing.assert_array_equal(rows["label_pneumothorax"], [0, 0, nan, nan, 0, 0, 1, nan])
    np.testing.assert_array_equal(rows["label_atelectasis"], [0, 0, nan, nan, 1, 0, 0, nan])
    np.testing.assert_array_equal(rows["label_edema"], [0, 0, nan, nan, 1, 0, 0, nan])
    np.testing.assert_array_equal(rows["label_no_finding"], [1, 0, nan, nan, 0, 0, 0, nan])
    np.testing.assert_array_equal(rows["label_copd"], [0, 1, nan, nan, 0, 0, 0, nan])
    assert not {"label_unchanged", "label_exclude", "label_"} & set(rows)
    assert rows["view"].tolist() == ["PA", "LATERAL", "AP", "AP", None, None, "PA", "PA"]
    assert rows["manufacturer"].tolist() == ["Philips", "Imaging Dynamics"] * 4
    assert set(rows["year_band"]) == {"2010-2014"}
    assert rows["patient_position"].tolist() == [*[None] * 3, "RECUMBENT", *[None] * 4]
    assert rows["age"].tolist() == [84.0 - n for n in range(8)]
    assert rows["sex"].tolist() == ["F", "F", "M", "M", None, None, "F", "F"]
    assert rows["patient"].nunique() == rows["study"].nunique() == 4
    assert corpus.info["source"]["notes"] == ["1 image with projection EXCLUDE left out"]


def test_only_physicians_and_common_labels(root):
    frame = SOURCES["padchest"].read(root, labelled_by="physician", min_count=2, reports=True)
    assert [column for column in frame if column.startswith("label_")] == ["label_pleural_effusion"]
    np.testing.assert_array_equal(frame["label_pleural_effusion"].notna(), [0, 1, 0, 0, 0, 1, 0, 0])
    assert frame["report"][0] == "sin hallazg ."


def test_missing_columns(root, without):
    without(root / LAYOUT[0], "Projection")
    with pytest.raises(RaddinoError, match=r"lacks the column\(s\) Projection. Get the image archives"):
        SOURCES["padchest"].read(root)


def test_the_published_table(published):
    """The release's own file as torchxrayvision carries it, counted by plain text search."""
    rows = read_table(published, LAYOUT[0], COLUMNS).iloc[:20_000]
    labels = _labels(rows["Labels"], 100)
    for name in ("cardiomegaly", "pneumonia", "scoliosis"):
        said = rows["Labels"].fillna("").str.contains(f"'{name}'|'atypical {name}'")
        assert (labels[f"label_{name}"] == 1).sum() == said.sum() > 100
    assert "label_chest_drain" not in labels
    age = numbers(rows["StudyDate_DICOM"].str[:4]) - numbers(rows["PatientBirth"])
    assert pd.Series(age).median() == pytest.approx(61, abs=6)


def test_the_published_manufacturers_and_years(published):
    """The makers that the release names, and years that its publishers say: 2009 to 2017 (and a few before)."""
    rows = read_table(published, LAYOUT[0], ["Manufacturer_DICOM", "StudyDate_DICOM"])
    makers = rows["Manufacturer_DICOM"].map(
        {name: parse_manufacturer(name) for name in set(rows["Manufacturer_DICOM"])}
    )
    assert makers.value_counts().to_dict() == {"Philips": 81084, "Imaging Dynamics": 79777}
    years = rows["StudyDate_DICOM"].str[:4]
    bands = years.map({year: parse_year_band(year) for year in set(years)})
    assert bands.value_counts().to_dict() == {
        band: int(numbers(years).between(*limits).sum())
        for band, limits in (("2005-2009", (2005, 2009)), ("2010-2014", (2010, 2014)), ("2015-2019", (2015, 2019)))
    }
