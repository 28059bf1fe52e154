"""The COVID-19 collection: findings in levels, X-rays only, and its real images."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.prepare import prepare
from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError

HEADER = ("patientid,offset,sex,age,finding,RT_PCR_positive,survival,view,modality,date,location,folder,filename,doi,"
          "url,license,clinical_notes,other_notes,")  # fmt: skip


def test_levels_modality_and_licence(tmp_path, draw, packed):
    rows = [
        "2,0,M,65,Pneumonia/Viral/COVID-19,Y,Y,PA,X-ray,2020,Hanoi,images,a.jpeg,,,CC BY,note one,,",
        "2,3,M,65,Pneumonia/Viral/SARS,Y,Y,L,X-ray,2020,Hanoi,images,b.png,,,,note two,,",
        "5,,,,todo,,,AP Supine,X-ray,2017,,images,c.png,,,,,,",
        "6,,F,40,No Finding,,,AP,X-ray,2017,,images,d.png,,,,,,",
        "7,,F,40,Pneumonia,,,Axial,CT,2017,,volumes,e.nii.gz,,,,,,",
        "8,,F,41,Unknown,,,PA,X-ray,2017,,images,f.png,,,,,,",
    ]
    (tmp_path / "cohen").mkdir()
    (tmp_path / "cohen/metadata.csv").write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    for name in ("a.jpeg", "b.png", "c.png", "d.png", "f.png"):
        draw(tmp_path / "cohen/images" / name)
    manifest = packed(f"cohen:{tmp_path / 'cohen'}", 5, reports=True).manifest
    nan = float("nan")
    np.testing.assert_array_equal(manifest["label_pneumonia"], [1, 1, nan, 0, nan])
    np.testing.assert_array_equal(manifest["label_covid_19"], [1, 0, nan, 0, nan])
    np.testing.assert_array_equal(manifest["label_no_finding"], [0, 0, nan, 1, nan])
    assert not {"label_todo", "label_unknown"} & set(manifest)
    assert manifest["view"].tolist() == ["PA", "LATERAL", "AP", "AP", "PA"]
    assert manifest["year_band"].tolist() == ["2020-2024"] * 2 + ["2015-2019"] * 3
    assert manifest["patient_position"].tolist() == [None, None, "SUPINE", None, None]
    assert manifest["licence"].tolist()[:2] == ["CC BY", "per image, see metadata.csv"]
    assert manifest["report"].tolist()[:2] == ["note one", "note two"]
    (tmp_path / "cohen/metadata.csv").write_text("patientid,sex\n1,M\n", encoding="utf-8")
    with pytest.raises(
        RaddinoError, match=r"lacks the column\(s\) age, finding, view, modality, folder, filename, license"
    ):
        SOURCES["cohen"].read(tmp_path / "cohen")


def test_real_images(shared, tmp_path, table):
    told = pd.read_csv(shared / "data/manifest.csv").query("source == 'cohen'").head(6).reset_index(drop=True)
    (tmp_path / "cohen/images").mkdir(parents=True)
    rows = []
    for _, row in told.iterrows():
        name = row["path"].rsplit("/", 1)[1]
        (tmp_path / f"cohen/images/{name}").symlink_to(shared / "data" / row["path"])
        rows.append({"patientid": row["patient_id"], "sex": row["sex"], "age": row["age"], "finding": row["labels"],
                     "view": row["view"], "modality": "X-ray", "folder": "images", "filename": name,
                     "license": row["licence"]})  # fmt: skip
    table(tmp_path / "cohen/metadata.csv", rows)
    corpus = prepare(f"cohen:{tmp_path / 'cohen'}", tmp_path / "corpus", workers=1)
    assert len(corpus) == 6
    assert corpus.manifest["age"].tolist() == pytest.approx(told["age"].tolist(), nan_ok=True)
    assert corpus.manifest["licence"].tolist() == told["licence"].tolist()
    pneumonia = told["labels"].str.contains("Pneumonia")
    if pneumonia.any():
        np.testing.assert_array_equal(corpus.manifest["label_pneumonia"] == 1, pneumonia)
