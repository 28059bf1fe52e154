"""BRAX: age groups, views and the label policy."""

import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.chexpert import LABELS
from raddino.errors import RaddinoError


def test_brax(tmp_path, draw, table, packed, without):
    root = tmp_path / "brax"
    rows = [
        {
            "DicomPath": f"Anonymized_DICOMs/id_{n // 2}/{n}.dcm",
            "PngPath": f"images/id_{n // 2}/Study_{n}/Series_1/image-{n}.png",
            "PatientID": f"id_{n // 2}", "PatientSex": "MFO"[n // 2 % 3],
            "PatientAge": ("60", "85 or more")[n // 2 % 2],
            "AccessionNumber": f"Study_{n // 2}", "StudyDate": 20200101, **dict.fromkeys(LABELS),
            "No Finding": (1, None)[n % 2], "Cardiomegaly": (None, -1)[n % 2],
            "ViewPosition": ("PA", "L", "RL", "AP LLD", None, "RLO")[n % 6],
            "Rows": 30, "Columns": 26, "Manufacturer": n % 2 + 1,
        }
        for n in range(12)
    ]  # fmt: skip
    table(root / "master_spreadsheet_update.csv", rows)
    for row in rows:
        draw(root / row["PngPath"])
    manifest = packed(f"brax:{root}", 12, uncertain="ones").manifest
    assert manifest["patient"].nunique() == 6
    assert manifest["age"].tolist()[:4] == [60, 60, 85, 85]
    assert manifest["view"].tolist()[:6] == ["PA", "LATERAL", "LATERAL", "AP", None, "OBLIQUE"]
    assert manifest["label_cardiomegaly"].tolist() == [0, 1] * 6
    assert manifest["sex"].tolist()[:6] == ["M", "M", "F", "F", None, None]
    assert manifest["manufacturer"].tolist() == ["coded 1", "coded 2"] * 6
    assert manifest["year_band"].isna().all(), "its dates are fictitious"
    without(root / "master_spreadsheet_update.csv", "Manufacturer")
    assert SOURCES["brax"].read(root)["manufacturer"].isna().all()
    without(root / "master_spreadsheet_update.csv", "PngPath")
    with pytest.raises(RaddinoError, match=r"lacks the column\(s\) PngPath. Get BRAX 1.1.0"):
        SOURCES["brax"].read(root)
