"""IU X-ray: Open-i's XML and images, the Kaggle copy's names, views and splits from files."""

import json

import pytest

from raddino.corpus.sources import SOURCES, closed_sources
from raddino.errors import RaddinoError

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{uid}"/><Abstract><AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">Cough of {uid}.</AbstractText><AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">Normal.</AbstractText></Abstract>{images}</eCitation>"""


def name(uid: int, view: int) -> str:
    """Report 1 has the odd names that Open-i gave to reports with several studies."""
    return f"CXR{uid}_{'1_' if uid == 1 else ''}IM-{uid:04}-{view}001"


@pytest.fixture
def root(tmp_path, draw):
    """Reports 1, 2, 10 with two images each, of which 10 has no findings; report 3 has no image."""
    root = tmp_path / "openi"
    (root / "ecgen-radiology").mkdir(parents=True)
    for uid in (1, 2, 3, 10):
        images = [name(uid, view) for view in (3, 4)] if uid != 3 else []
        panels = "".join(
            f'<parentImage id="{image}"><caption>PA and lateral</caption></parentImage>' for image in images
        )
        text = XML.format(uid=uid, findings="" if uid == 10 else f"Lungs of {uid} are clear.", images=panels)
        (root / f"ecgen-radiology/{uid}.xml").write_text(text, encoding="utf-8")
        for image in images:
            draw(root / f"NLMCXR_png/{image}.png")
    return root


def test_prepared_with_texts(root, packed):
    corpus = packed(f"iu-xray:{root}", 6)
    rows = corpus.manifest
    assert rows["patient"].nunique() == rows["study"].nunique() == 3
    assert rows["report"].fillna("").tolist()[::2] == ["Lungs of 1 are clear.", "Lungs of 2 are clear.", ""]
    assert set(rows["licence"]) == {"CC BY-NC-ND 4.0"}
    assert "iu-xray" not in closed_sources()
    notes = corpus.info["source"]["notes"]
    assert any("does not say which image is the lateral one" in note for note in notes)
    assert "1 of 3 studies have no findings: their report is empty" in notes


def test_columns(root):
    frame = SOURCES["iu-xray"].read(root)
    assert frame["id"].tolist()[:2] == ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"]
    assert frame["patient_id"].tolist() == frame["study_id"].tolist() == ["1", "1", "2", "2", "10", "10"]
    assert frame["indication"][2] == "Cough of 2."
    assert set(frame["comparison"]) == {"None."}
    assert set(frame["impression"]) == {"Normal."}
    assert set(frame["study_order"]) == {0}
    assert "split" not in frame
    assert "view" not in frame


@pytest.mark.parametrize("inside", [True, False])
def test_views_of_the_kaggle_copy_and_its_image_names(root, table, tmp_path, inside):
    for uid in (1, 2, 10):
        for view in (3, 4):
            image = root / f"NLMCXR_png/{name(uid, view)}.png"
            image.rename(root / f"{uid}_IM-{uid:04}-{view}001.dcm.png")
    rows = [
        {"uid": uid, "filename": f"{uid}_IM-{uid:04}-{view}001.dcm.png", "projection": projection}
        for uid in (1, 2, 10) for view, projection in ((3, "Frontal"), (4, "Lateral")) if (uid, view) != (10, 4)
    ]  # fmt: skip
    file = table((root if inside else tmp_path) / "indiana_projections.csv", rows)
    frame = SOURCES["iu-xray"].read(root, **({} if inside else {"projections": file}))
    assert frame["view"].tolist()[:5] == ["Frontal", "Lateral", "Frontal", "Lateral", "Frontal"]
    assert frame["view"].isna().tolist() == [False] * 5 + [True]
    assert frame["path"][0] == "1_IM-0001-3001.dcm.png"


def test_dicom_release(root, draw):
    for image in root.glob("NLMCXR_png/*.png"):
        image.unlink()
    draw(root / "NLMCXR_dcm/1/1_IM-0001-3001.dcm")
    frame = SOURCES["iu-xray"].read(root)
    assert frame["path"][0] == "NLMCXR_dcm/1/1_IM-0001-3001.dcm"
    assert frame["path"][1] == "CXR1_1_IM-0001-4001.png"


def test_split_file(root, tmp_path):
    file = tmp_path / "annotation.json"
    parts = {"train": [{"id": "CXR10_IM-0002", "report": "x"}], "val": ["CXR999"], "test": [{"id": "CXR1_1_IM-0001"}]}
    file.write_text(json.dumps(parts), encoding="utf-8")
    frame = SOURCES["iu-xray"].read(root, split_file=file)
    assert dict(zip(frame["patient_id"], frame["split"], strict=True)) == {"1": "test", "10": "train"}
    assert "2 images of reports that split_file does not list left out" in frame.attrs["notes"]
    assert frame.attrs["options"]["split_file"] == "given"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON of ids"),
        ("[]", "no JSON of ids"),
        ('{"train": [], "val": []}', "no JSON of ids .*KeyError"),
        ('{"train": ["p10"], "val": [], "test": []}', "not like CXR1"),
        ('{"train": ["CXR1"], "val": [], "test": ["CXR1_IM-0001"]}', "lists report 1 under train and test"),
        ('{"train": ["CXR77"], "val": [], "test": []}', "lists none of its reports"),
    ],
)
def test_bad_split_files(root, tmp_path, content, message):
    (tmp_path / "split.json").write_text(content, encoding="utf-8")
    with pytest.raises(RaddinoError, match=message):
        SOURCES["iu-xray"].read(root, split_file=tmp_path / "split.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<eCitation><uId id='CXR2'/>", r"2\.xml cannot be read \(XML is not well-formed"),
        ("<!DOCTYPE x><eCitation/>", r"2\.xml cannot be read .*document type"),
        ("<eCitation/>", r"2\.xml has no uId"),
        ("<eCitation><uId id='other'/></eCitation>", r"2\.xml has no uId"),
    ],
)
def test_bad_reports(root, content, message):
    (root / "ecgen-radiology/2.xml").write_text(content, encoding="utf-8")
    with pytest.raises(RaddinoError, match=message):
        SOURCES["iu-xray"].read(root)


def test_missing_parts(root, tmp_path):
    with pytest.raises(RaddinoError, match=r"not found: ecgen-radiology or NLMCXR_reports.*Get NLMCXR_png.tgz"):
        SOURCES["iu-xray"].read(tmp_path)
    for image in root.glob("NLMCXR_png/*.png"):
        image.unlink()
    with pytest.raises(RaddinoError, match="none of the first 6 listed images is there"):
        SOURCES["iu-xray"].read(root)
    for file in root.glob("ecgen-radiology/*.xml"):
        file.unlink()
    with pytest.raises(RaddinoError, match="names an image"):
        SOURCES["iu-xray"].read(root)
