"""CANDID-PTX: pneumothorax from masks, drains and fractures by name, and its closed door."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


@pytest.fixture
def candid(tmp_path, draw, square, table):
    """Six images of three patients; DICOM files without a suffix, named by their UID."""
    root = tmp_path / "candid"
    masks = ["-1", "307200 102400", "-1", "7 1", None, "-1"]
    rows = [
        {
            "SOPInstanceUID": f"1.2.826.{n}",
            "filename": f"P{n // 2}_2015.dcm",
            "EncodedPixels": mask,
            "Report": f"text {n}",
        }
        for n, mask in enumerate(masks)
    ]
    table(root / "Pneumothorax_reports.csv", [*rows, {**rows[1], "EncodedPixels": "0 10240"}])
    table(
        root / "chest_tube.csv",
        [
            {"anon_SOPUID": f"1.2.826.{n}", "annotation_ref": 1, "mask_rle": mask}
            for n, mask in ((1, "524288 20480"), (1, "0 20480"), (2, "-1"))
        ],
    )
    table(root / "acute_rib_fracture.csv", [{"anon_SOPUID": "1.2.826.5", "annotation_ref": 1, "mask_rle": "1 2"}])
    for row in rows:
        draw(root / f"dataset/{row['SOPInstanceUID']}", PatientSex="M", **square)
    return root


def test_candid(candid, packed):
    corpus = packed(f"candid-ptx:{candid}", 6, shape=(32, 32))
    rows = corpus.manifest
    assert rows["patient"].nunique() == 3
    assert rows["label_pneumothorax"].tolist()[:4] == [0, 1, 0, 1]
    assert pd.isna(rows["label_pneumothorax"][4])
    assert rows["label_chest_drain"].tolist() == [0, 1, 1, 0, 0, 0]
    assert rows["label_rib_fracture"].tolist() == [0, 0, 0, 0, 0, 1]
    assert rows["report"].isna().all()
    assert rows["warnings"].isna().all()
    columns = np.arange(32) * 32 + 16
    inside = (columns < 10) | ((columns >= 300) & (columns < 400))
    np.testing.assert_array_equal(corpus.read_mask(1, "pneumothorax"), np.tile(inside * 255, (32, 1)))
    np.testing.assert_array_equal(corpus.read_mask(1, "chest_drain").any(axis=0), (columns < 20) | (columns == 528))
    given = {name: [corpus.read_mask(i, name) is not None for i in range(6)] for name in corpus.mask_names}
    assert given == {"pneumothorax": [True] * 4 + [False, True], "chest_drain": [True] * 2 + [False] + [True] * 3,
                     "rib_fracture": [True] * 6}  # fmt: skip
    assert not corpus.read_mask(0, "pneumothorax").any()
    assert not corpus.read_mask(0, "chest_drain").any()
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
    with pytest.raises(RaddinoError, match=r"1 row without filename"):
        SOURCES["candid-ptx"].read(candid)
