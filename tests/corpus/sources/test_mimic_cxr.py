"""MIMIC-CXR in both releases: official split, labels by study, and MIMIC-IV within a stated window."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.chexpert import LABELS
from raddino.errors import RaddinoError

NAN = float("nan")


@pytest.fixture(params=["mimic-cxr-jpg", "mimic-cxr"])
def release(request) -> str:
    return request.param


@pytest.fixture
def roots(tmp_path, draw, table, release):
    """8 images of 4 subjects, one study of two images each, on 2180-05-20; MIMIC-IV beside them."""
    root, iv = tmp_path / release, tmp_path / "mimiciv"
    rows = [
        {"dicom_id": f"02aa804e-bde0afdd-{n:08}", "subject_id": 10000032 + n // 2, "study_id": 50414267 + n // 2,
         "ViewPosition": ("PA", "LATERAL")[n % 2], "Rows": 30, "Columns": 26, "StudyDate": 21800520, "StudyTime": 1.5,
         "PerformedProcedureStepDescription": ("CHEST (PORTABLE AP)", "CHEST (PA AND LAT)", None, "CHEST (AP)")[n // 2],
         "PatientOrientationCodeSequence_CodeMeaning": ("Erect", "Recumbent", None, "Erect")[n // 2]}
        for n in range(8)
    ]  # fmt: skip
    table(root / "mimic-cxr-2.0.0-metadata.csv.gz", rows)
    splits = ["train", "train", "validate", "test"]
    table(root / "mimic-cxr-2.0.0-split.csv.gz",
          [{key: row[key] for key in ("dicom_id", "study_id", "subject_id")} | {"split": splits[n // 2]}
           for n, row in enumerate(rows)])  # fmt: skip
    for labeler, edema in (("chexpert", -1), ("negbio", 1)):
        table(root / f"mimic-cxr-2.0.0-{labeler}.csv.gz",
              [{"subject_id": 10000032 + n, "study_id": 50414267 + n, **dict.fromkeys(LABELS),
                "Edema": edema, "Pneumothorax": n % 2} for n in range(3)])  # fmt: skip
    for row in rows:
        study = f"files/p10/p{row['subject_id']}/s{row['study_id']}"
        draw(root / f"{study}/{row['dicom_id']}{'.jpg' if release.endswith('jpg') else '.dcm'}")
        text = " INDICATION: Fever.\n\n COMPARISON: None.\n\n FINDINGS: study\n of {}.\n IMPRESSION: Fine.\n"
        (root / f"{study}.txt").write_text(text.format(row["subject_id"]), encoding="utf-8")
    table(iv / "hosp/patients.csv.gz",
          [{"subject_id": 10000032 + n, "gender": "MF"[n % 2], "anchor_age": age, "anchor_year": 2177}
           for n, age in enumerate([50, 86, 91])])  # fmt: skip
    omr = [
        (10000032, "2180-05-18", "Weight (Lbs)", "200"), (10000032, "2180-05-21", "Weight (Lbs)", "150"),
        (10000032, "2180-05-21", "Weight (Lbs)", "154"), (10000032, "2180-05-20", "Weight (Lbs)", "9000"),
        (10000032, "2180-05-25", "BMI (kg/m2)", "24.5"), (10000032, "2180-05-20", "Blood Pressure", "120/80"),
        (10000033, "2180-06-19", "Weight (Lbs)", "180"), (10000033, "2180-06-20", "BMI (kg/m2)", "31"),
        (10000033, "2180-05-01", "Height (Inches)", "70"), (10000034, "2180-05-10", "Weight", "80"),
    ]  # fmt: skip
    table(iv / "hosp/omr.csv.gz", pd.DataFrame(omr, columns=["subject_id", "chartdate", "result_name", "result_value"]))
    charts = [
        (10000034, "2180-05-19 23:59:00", 226512, 81.5),
        (10000034, "2180-05-19 07:00:00", 224639, 70),
        (10000034, "2180-05-19 07:00:00", 226730, 180),
        (10000034, "2180-05-20 07:00:00", 220045, 88),
    ]
    table(
        iv / "icu/chartevents.csv.gz", pd.DataFrame(charts, columns=["subject_id", "charttime", "itemid", "valuenum"])
    )
    return root, iv


def test_prepared_with_split_labels_and_facts(roots, release, packed):
    root, iv = roots
    corpus = packed(f"{release}:{root}", 8, mimic_iv=str(iv))
    rows = corpus.manifest[::2].reset_index(drop=True)
    assert rows["split"].tolist() == ["train", "train", "val", "test"]
    assert set(rows["source"]) == {"mimic-cxr"}
    assert corpus.manifest["study"].nunique() == 4
    assert corpus.manifest["view"].tolist() == ["PA", "LATERAL"] * 4
    assert rows["sex"].tolist() == ["M", "F", "M", None]
    np.testing.assert_array_equal(rows["age"], [53, 89, NAN, NAN])
    np.testing.assert_allclose(rows["weight"], [154 * 0.45359237, 180 * 0.45359237, NAN, NAN], atol=0.01)
    np.testing.assert_allclose(rows["bmi"], [24.5, 180 * 0.45359237 / 1.778**2, NAN, NAN], atol=0.01)
    np.testing.assert_array_equal(rows["label_edema"], [NAN] * 4)
    np.testing.assert_array_equal(rows["label_pneumothorax"], [0, 1, 0, NAN])
    np.testing.assert_array_equal(rows["label_fracture"], [0, 0, 0, NAN])
    np.testing.assert_array_equal(rows["portable"], [1, 0, NAN, 0])
    assert rows["patient_position"].tolist() == ["ERECT", "RECUMBENT", None, "ERECT"]
    assert set(rows["year_band"]) == {"shifted"}
    told = corpus.info["source"]
    assert told["options"]["mimic_iv"] == "given"
    assert told["options"]["window_days"] == 30
    assert "within 30 days" in told["notes"][0]
    assert str(iv) not in (corpus.path / "corpus.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(("window", "weights", "bmis"), [(0, [0, 0], [0, 0]), (1, [1, 0], [0, 0]), (29, [1, 0], [1, 0]),
                                                         (31, [1, 1], [1, 1])])  # fmt: skip
def test_the_window_is_a_window(roots, release, window, weights, bmis):
    root, iv = roots
    frame = SOURCES[release].read(root, mimic_iv=iv, window_days=window)
    assert frame["weight"].notna().tolist()[:4:2] == [bool(known) for known in weights]
    assert frame["bmi"].notna().tolist()[:4:2] == [bool(known) for known in bmis]
    if window == 31:
        assert frame["bmi"][2] == 31


def test_charted_weights_and_bmi_from_height(roots, release):
    root, iv = roots
    frame = SOURCES[release].read(root, mimic_iv=iv, chartevents=True)
    assert frame["weight"][4] == 81.5
    assert frame["bmi"][4] == pytest.approx(81.5 / 1.8**2, abs=0.01)


def test_labelers_reports_and_tables_elsewhere(roots, release, tmp_path):
    root, _ = roots
    assert SOURCES[release].read(root, labeler="negbio")["label_edema"].tolist()[:6] == [1] * 6
    assert "report" not in SOURCES[release].read(root)
    frame = SOURCES[release].read(root, reports=True)
    assert frame["report"][0] == "study of 10000032."
    (tmp_path / "tables").mkdir()
    for file in root.glob("*.csv.gz"):
        file.rename(tmp_path / "tables" / file.name)
    assert len(SOURCES[release].read(root, tables=tmp_path / "tables")) == 8
    with pytest.raises(
        RaddinoError, match=r"not found: mimic-cxr-2.0.0-split.csv, .*metadata.csv, .*chexpert.csv. Get"
    ):
        SOURCES[release].read(root)


def test_report_texts_by_section(roots, release):
    root, _ = roots
    (root / "files/p10/p10000033/s50414268.txt").write_bytes(b"IMPRESSION: \xe9 fine.\r\n")
    (root / "files/p10/p10000034/s50414269.txt").unlink()
    frame = SOURCES[release].read(root, reports=True)
    studies = frame[::2].reset_index(drop=True)
    assert studies["report"].tolist() == ["study of 10000032.", "", None, "study of 10000035."]
    assert studies["indication"].tolist() == ["Fever.", "", None, "Fever."]
    assert studies["comparison"].tolist() == ["None.", "", None, "None."]
    assert studies["impression"].tolist() == ["Fine.", "\ufffd fine.", None, "Fine."]
    assert (frame[1::2].reset_index(drop=True)["report"].fillna("-") == studies["report"].fillna("-")).all()
    assert "2 of 4 studies have no findings text: their report is empty" in frame.attrs["notes"]
    whole = SOURCES[release].read(root, reports=True, section="whole")
    assert whole["report"][0] == ("INDICATION: Fever. COMPARISON: None. FINDINGS: study of 10000032. IMPRESSION: Fine.")
    with pytest.raises(RaddinoError, match="section"):
        SOURCES[release].read(root, reports=True, section="impresion")


def test_order_of_studies_without_their_dates(roots, release, table):
    """Subject 10000032 gets the first three studies: the last by date, then two of one day."""
    root, _ = roots
    rows = pd.read_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", dtype=str)
    rows["subject_id"] = ["10000032"] * 6 + ["10000035"] * 2
    rows["StudyDate"] = ["21810101"] * 2 + ["21800520"] * 4 + [None] * 2
    rows["StudyTime"] = ["80000.5"] * 2 + ["93000.25", "93000.25", "5959.0", "5959.0"] + ["1.5"] * 2
    table(root / "mimic-cxr-2.0.0-metadata.csv.gz", rows)
    for row in rows.itertuples():
        text = root / f"files/p10/p{row.subject_id}/s{row.study_id}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text("FINDINGS: x", encoding="utf-8")
    frame = SOURCES[release].build(root, SOURCES[release].options(reports=True))
    np.testing.assert_array_equal(frame["study_order"], [2, 2, 1, 1, 0, 0, NAN, NAN])
    assert not any("date" in name.lower() or "time" in name.lower() for name in frame.columns)


def test_everything_missing_is_named_at_once(roots, release, tmp_path, table):
    root, iv = roots
    (root / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    (iv / "hosp/omr.csv.gz").unlink()
    with pytest.raises(RaddinoError, match=r"not found: mimic-cxr-2.0.0-split.csv, hosp/omr.csv\. Get MIMIC-CXR"):
        SOURCES[release].read(root, mimic_iv=iv)
    with pytest.raises(RaddinoError, match="the option mimic_iv, which chartevents needs"):
        SOURCES[release].read(root, chartevents=True)
    table(root / "mimic-cxr-2.0.0-split.csv", [{"dicom_id": "02aa804e-bde0afdd-00000000", "split": "train"}])
    with pytest.raises(RaddinoError, match=r"no split for 7 images"):
        SOURCES[release].read(root)
    table(iv / "hosp/omr.csv", [{"subject_id": 1, "chartdate": 1}])
    table(
        root / "mimic-cxr-2.0.0-split.csv",
        [{"dicom_id": f"02aa804e-bde0afdd-{n:08}", "split": "train"} for n in range(8)],
    )
    with pytest.raises(RaddinoError, match=r"omr.csv lacks one of the columns"):
        SOURCES[release].read(root, mimic_iv=iv)
    for text in root.glob("files/*/*/*.txt"):
        text.unlink()
    with pytest.raises(RaddinoError, match="not found: the reports"):
        SOURCES[release].read(root, reports=True)
