"""NIH ChestX-ray14: official lists, labels, and the real files of the shared data."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.prepare import prepare
from raddino.corpus.sources import SOURCES
from raddino.errors import RaddinoError


@pytest.fixture
def root(tmp_path, draw, table):
    """30 images of 15 patients in two of the archives' folders; the last 5 patients are test."""
    root = tmp_path / "nih"
    rows = [
        {
            "Image Index": f"{n // 2:08}_{n % 2:03}.png",
            "Finding Labels": ["No Finding", "Effusion|Pleural_Thickening", "Fibrosis"][n % 3],
            "Follow-up #": n % 2,
            "Patient ID": n // 2,
            "Patient Age": 40 + n if n else 414,
            "Patient Gender": "MF"[n // 2 % 2],
            "View Position": ["PA", "AP"][n % 2],
        }
        for n in range(30)
    ]
    table(root / "Data_Entry_2017_v2020.csv", rows)
    names = [row["Image Index"] for row in rows]
    (root / "train_val_list.txt").write_text("\n".join(names[:20]) + "\n", encoding="utf-8")
    (root / "test_list.txt").write_text("\n".join(names[20:]), encoding="utf-8")
    for n, name in enumerate(names):
        draw(root / f"images_{1 + n // 15:03}/images/{name}")
    return root


def test_official_split_with_validation_cut_from_train(root, packed):
    rows = packed(f"nih:{root}", 30).manifest
    test = rows["split"] == "test"
    assert test.tolist() == [False] * 20 + [True] * 10
    assert set(rows["split"]) == {"train", "val", "test"}
    assert rows["label_pleural_effusion"].tolist() == [0, 1, 0] * 10
    assert rows["label_pleural_thickening"].tolist() == [0, 1, 0] * 10
    assert rows["label_pulmonary_fibrosis"].tolist() == [0, 0, 1] * 10
    assert rows["label_no_finding"].tolist() == [1, 0, 0] * 10
    assert sum(column.startswith("label_") for column in rows) == 15
    assert np.isnan(rows["age"][0])
    assert rows["age"][1] == 41
    assert rows["sex"].tolist()[:4] == ["M", "M", "F", "F"]


def test_a_patient_is_the_one_of_rsna_and_nobody_of_the_users_own(root, tmp_path, table, packed):
    corpus = packed(f"nih:{root}", 30)
    rows = pd.read_csv(root / "Data_Entry_2017_v2020.csv", dtype=str)
    table(root / "Data_Entry_2017_v2020.csv", rows.assign(**{"Patient ID": rows["Patient ID"].str.zfill(8)}))
    padded = prepare(f"nih:{root}", tmp_path / "padded", workers=1)
    assert padded.manifest["patient"].tolist() == corpus.manifest["patient"].tolist()
    own = {"path": "images_001/images/00000001_000.png", "patient": "1"}
    table(root / "own.csv", [own, {**own, "id": "2", "namespace": "nih"}])
    patients = prepare(root / "own.csv", tmp_path / "own", workers=1).manifest["patient"]
    assert [patient in set(corpus.manifest["patient"]) for patient in patients] == [False, True]


def test_what_does_not_fit_is_named(root, without, table):
    (root / "test_list.txt").write_text("", encoding="utf-8")
    with pytest.raises(RaddinoError, match="10 images of the table in neither"):
        SOURCES["nih"].read(root)
    rows = pd.read_csv(root / "Data_Entry_2017_v2020.csv")
    table(root / "Data_Entry_2017_v2020.csv", rows.rename(columns={"Patient Gender": "Patient Sex"}).iloc[:20])
    assert len(SOURCES["nih"].read(root)) == 20
    table(root / "Data_Entry_2017_v2020.csv", rows.replace("Fibrosis", "Fibrosys").iloc[:20])
    with pytest.raises(RaddinoError, match="labels that ChestX-ray14 does not: Fibrosys"):
        SOURCES["nih"].read(root)
    without(root / "Data_Entry_2017_v2020.csv", "Patient ID")
    without(root / "Data_Entry_2017_v2020.csv", "Patient Gender")
    with pytest.raises(RaddinoError, match=r"lacks the column\(s\) Patient ID, Patient Gender or Patient Sex"):
        SOURCES["nih"].read(root)
    (root / "train_val_list.txt").unlink()
    (root / "Data_Entry_2017_v2020.csv").unlink()
    with pytest.raises(
        RaddinoError, match=r"not found: Data_Entry_2017_v2020.csv or Data_Entry_2017.csv, train_val_lis"
    ):
        SOURCES["nih"].read(root)


def test_the_published_table_on_the_real_images(shared, published, tmp_path, table):
    """Real images, the table as the NIH published it, and lists made from the shared split."""
    told = pd.read_csv(shared / "data/manifest.csv").query("source == 'nih'").set_index("id")
    told.index = told.index.str.removeprefix("nih/")
    entries = pd.read_csv(published / "Data_Entry_2017_v2020.csv.gz")
    entries = entries[entries["Image Index"].str.removesuffix(".png").isin(told.index)]
    assert len(entries) > 500
    table(tmp_path / "nih/Data_Entry_2017_v2020.csv", entries)
    (tmp_path / "nih/images").mkdir()
    for name in told.index:
        (tmp_path / f"nih/images/{name}.jpg").symlink_to(shared / f"data/cxr/images/nih/{name}.jpg")
    held_out = told.loc[entries["Image Index"].str.removesuffix(".png"), "split"].eq("test").to_numpy()
    (tmp_path / "nih/train_val_list.txt").write_text("\n".join(entries["Image Index"][~held_out]), encoding="utf-8")
    (tmp_path / "nih/test_list.txt").write_text("\n".join(entries["Image Index"][held_out]), encoding="utf-8")
    frame = SOURCES["nih"].read(tmp_path / "nih").set_index("id")
    told = told.loc[frame.index]
    for theirs, ours in (
        ("Effusion", "pleural_effusion"),
        ("Pneumonia", "pneumonia"),
        ("Fibrosis", "pulmonary_fibrosis"),
    ):
        np.testing.assert_array_equal(frame[f"label_{ours}"], told[f"nih_{theirs}"])
    assert (frame["sex"] == told["sex"]).all()
    assert (frame["view"] == told["view"]).all()
    assert (frame["split"].eq("test") == told["split"].eq("test")).all()
    numbers = told["patient_id"].str.removeprefix("nih_").str.lstrip("0")
    assert (frame["patient_id"] == numbers).all()
    few = frame.index[:3]
    corpus = prepare(f"nih:{tmp_path / 'nih'}", tmp_path / "corpus", workers=1, where=f"id in {list(few)}")
    assert len(corpus) == 3
    assert min(corpus.read(0).shape) == 518
