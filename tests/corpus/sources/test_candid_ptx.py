"""CANDID-PTX: pneumothorax from masks, drains and fractures by name, and its closed door."""

import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


@pytest.fixture
def candid(tmp_path, draw, table):
    """Six images of three patients; DICOM files without a suffix, named by their UID."""
    root = tmp_path / "candid"
    masks = ["-1", "5 3 9 2", "-1", "7 1", None, "-1"]
    rows = [
        {
            "SOPInstanceUID": f"1.2.826.{n}",
            "filename": f"P{n // 2}_2015.dcm",
            "EncodedPixels": mask,
            "Report": f"text {n}",
        }
        for n, mask in enumerate(masks)
    ]
    table(root / "Pneumothorax_reports.csv", [*rows, {**rows[1], "EncodedPixels": "11 4"}])
    table(root / "chest_tube.csv", [{"anon_SOPUID": "1.2.826.1", "annotation_ref": 1, "mask_rle": "1 2"}])
    table(root / "acute_rib_fracture.csv", [{"anon_SOPUID": "1.2.826.5", "annotation_ref": 1, "mask_rle": "1 2"}])
    for row in rows:
        draw(root / f"dataset/{row['SOPInstanceUID']}", PatientSex="M")
    return root


def test_candid(candid, packed):
    corpus = packed(f"candid-ptx:{candid}", 6)
    rows = corpus.manifest
    assert rows["patient"].nunique() == 3
    assert rows["label_pneumothorax"].tolist()[:4] == [0, 1, 0, 1]
    assert pd.isna(rows["label_pneumothorax"][4])
    assert rows["label_chest_drain"].tolist() == [0, 1, 0, 0, 0, 0]
    assert rows["label_rib_fracture"].tolist() == [0, 0, 0, 0, 0, 1]
    assert rows["report"].isna().all()
    frame = SOURCES["candid-ptx"].read(candid, reports=True)
    assert frame["report"].tolist() == [f"text {n}" for n in range(6)]


def test_candid_says_that_it_is_closed(candid, without):
    (candid / "chest_tube.csv").unlink()
    with pytest.raises(RaddinoError, match=r"not found: chest_tube.csv\. CANDID-PTX is no longer openly accessible"):
        SOURCES["candid-ptx"].read(candid)
    without(candid / "Pneumothorax_reports.csv", "filename")
    with pytest.raises(RaddinoError, match="chest_tube"):
        SOURCES["candid-ptx"].read(candid)


def test_candid_needs_patients(candid, table):
    rows = pd.read_csv(candid / "Pneumothorax_reports.csv", dtype=str)
    rows.loc[0, "filename"] = None
    table(candid / "Pneumothorax_reports.csv", rows)
    with pytest.raises(RaddinoError, match=r"1 row\(s\) without filename"):
        SOURCES["candid-ptx"].read(candid)
