"""RSNA Pneumonia: boxes and classes to labels, and the NIH patient behind an image."""

import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


def test_rsna(tmp_path, draw, table, packed, without):
    root, images = tmp_path / "rsna", [f"0004cfab-14fd-4e49-80ba-63a80b6bd{n:03}" for n in range(6)]
    boxes = [{"patientId": name, "x": 1 if n > 3 else None, "Target": int(n > 3)} for n, name in enumerate(images)]
    kinds = ["Normal", "Normal", "No Lung Opacity / Not Normal", "Normal", "Lung Opacity", "Lung Opacity"]
    table(root / "stage_2_train_labels.csv", [*boxes, boxes[5]])
    table(root / "stage_2_detailed_class_info.csv",
          [{"patientId": name, "class": kind} for name, kind in zip(images, kinds, strict=True)])  # fmt: skip
    for name in images:
        draw(
            root / f"stage_2_train_images/{name}.dcm",
            PatientID=name,
            PatientAge="051Y",
            PatientSex="F",
            ViewPosition="PA",
            ConversionType="WSD",
        )
    corpus = packed(f"rsna-pneumonia:{root}", 6)
    assert corpus.manifest["label_pneumonia"].tolist() == [0, 0, 0, 0, 1, 1]
    assert corpus.manifest["label_no_finding"].tolist() == [1, 1, 0, 1, 0, 0]
    assert set(corpus.manifest["age"]) == {51.0}
    assert any("patients=nih" in note for note in corpus.info["source"]["notes"])
    with pytest.raises(RaddinoError, match=r"not found: pneumonia-challenge-dataset-mappings_2018.json"):
        SOURCES["rsna-pneumonia"].read(root, patients="nih")
    mapping = root / "pneumonia-challenge-dataset-mappings_2018.json"
    mapping.write_text('[{"subset_img_id": "x"}]', encoding="utf-8")
    with pytest.raises(RaddinoError, match="no list of subset_img_id and img_id"):
        SOURCES["rsna-pneumonia"].read(root, patients="nih")
    entries = [{"subset_img_id": name, "img_id": f"{n // 3:08}_{n:03}.png"} for n, name in enumerate(images)]
    mapping.write_text(pd.DataFrame(entries).to_json(orient="records"), encoding="utf-8")
    frame = SOURCES["rsna-pneumonia"].read(root, patients="nih")
    assert frame["patient_id"].tolist() == ["0"] * 3 + ["1"] * 3
    assert (frame["namespace"] == "nih").all()
    mapping.write_text(pd.DataFrame(entries[1:]).to_json(orient="records"), encoding="utf-8")
    with pytest.raises(RaddinoError, match="names no NIH image for 1 of the images"):
        SOURCES["rsna-pneumonia"].read(root, patients="nih")
    without(root / "stage_2_train_labels.csv", "Target")
    with pytest.raises(RaddinoError, match=r"stage_2_train_labels.csv lacks the column\(s\) Target"):
        SOURCES["rsna-pneumonia"].read(root)
