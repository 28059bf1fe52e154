"""CheXmask joined to images of other sources: their splits and terms kept, poor masks left out."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.chexpert import LABELS
from raddino.errors import ConfigError, RaddinoError
from raddino.look.shown import showable

SIZE = {"Height": 60, "Width": 52}


def rle(mask: np.ndarray) -> str:
    """As the authors' helper writes it: along rows, starts from 1."""
    padded = np.concatenate([[0], mask.ravel().astype(int), [0]])
    ends = np.flatnonzero(np.diff(padded)) + 1
    ends[1::2] -= ends[::2]
    return " ".join(map(str, ends))


def box(top: int, left: int) -> np.ndarray:
    mask = np.zeros((60, 52), bool)
    mask[top : top + 20, left : left + 10] = True
    return mask


def masks(name: str, key: str, quality: float) -> dict:
    drawn = {"Left Lung": rle(box(10, 30)), "Right Lung": rle(box(10, 8)), "Heart": rle(box(30, 20))}
    return {key: name, "Dice RCA (Max)": 0.95, "Dice RCA (Mean)": quality, "Landmarks": "[1, 2]", **drawn, **SIZE}


@pytest.fixture
def nih(tmp_path, draw, table):
    """Twelve NIH images, of which CheXmask has ten, two of them poor."""
    names = [f"{n:08}_000.png" for n in range(12)]
    entries = [
        {"Image Index": name, "Finding Labels": "Edema", "Patient ID": n, "Patient Age": 50, "Patient Gender": "M",
         "View Position": "PA"} for n, name in enumerate(names)
    ]  # fmt: skip
    table(tmp_path / "nih/Data_Entry_2017_v2020.csv", entries)
    for name in names:
        draw(tmp_path / f"nih/images/{name}")
    (tmp_path / "nih/train_val_list.txt").write_text("\n".join(names[:9]), encoding="utf-8")
    (tmp_path / "nih/test_list.txt").write_text("\n".join(names[9:]), encoding="utf-8")
    rows = [masks(name, "Image Index", 0.5 if n < 2 else 0.8) for n, name in enumerate(names[:10])]
    table(tmp_path / "chexmask/OriginalResolution/ChestX-Ray8.csv", rows)
    return tmp_path


def test_nih(nih, packed):
    corpus = packed(f"chexmask:{nih / 'chexmask'}", 12, dataset="nih", images=nih / "nih")
    rows = corpus.manifest
    assert set(rows["source"]) == {"nih"}
    assert (rows["split"] == "test").sum() == 3
    assert rows["label_edema"].eq(1).all()
    assert rows["warnings"].isna().all()
    assert sorted(corpus.mask_names) == ["heart", "lungs"]
    assert rows["mask_lungs"].notna().tolist() == [False] * 2 + [True] * 8 + [False] * 2
    expected = (box(10, 30) | box(10, 8))[1::2, 1::2] * 255
    np.testing.assert_array_equal(corpus.read_mask(5, "lungs"), expected)
    np.testing.assert_array_equal(corpus.read_mask(5, "heart"), box(30, 20)[1::2, 1::2] * 255)
    notes = corpus.info["source"]["notes"]
    assert any("masks for 8 of 12 images; 2 below 0.7" in note for note in notes)
    assert str(nih) not in str(corpus.info)
    assert len(showable(corpus)) == 12
    assert list(corpus.info["namespaces"]) == ["nih"]
    assert corpus.info["conventions"] == {"lungs": {"nih": ["without what lies behind the heart"]}}


def test_sides_and_threshold(nih):
    frame = SOURCES["chexmask"].read(nih / "chexmask", dataset="nih", images=nih / "nih", min_rca=0.4, sides=True)
    masks = [name for name in frame if name.startswith("mask_") and not name.endswith("_convention")]
    assert masks == ["mask_left_lung", "mask_right_lung", "mask_heart"]
    assert frame["mask_heart"].notna().sum() == 10
    with pytest.raises(RaddinoError, match=r"no image of nih has a mask of min_rca=0\.9"):
        SOURCES["chexmask"].read(nih / "chexmask", dataset="nih", images=nih / "nih", min_rca=0.9)
    with pytest.raises(ConfigError, match="min_rca"):
        SOURCES["chexmask"].read(nih / "chexmask", dataset="nih", images=nih / "nih", min_rca=7)
    with pytest.raises(RaddinoError, match="not found: the option images"):
        SOURCES["chexmask"].read(nih / "chexmask", dataset="nih")
    with pytest.raises(RaddinoError, match=r"not found: OriginalResolution/Padchest.csv"):
        SOURCES["chexmask"].read(nih / "chexmask", dataset="padchest", images=nih / "nih")


def test_chexpert_images_stay_closed(tmp_path, draw, table, packed):
    """CheXmask names them by the end of their path."""
    rows = []
    for n in range(4):
        path = f"CheXpert-v1.0-small/{'valid' if n == 3 else 'train'}/patient{n:05}/study1/view1_frontal.jpg"
        draw(tmp_path / "chexpert" / path.split("/", 1)[1])
        rows.append({"Path": path, "Sex": "Male", "Age": 40, "Frontal/Lateral": "Frontal", "AP/PA": "AP"})
    labels = dict.fromkeys(LABELS, 0)
    for name, part in (("train", rows[:3]), ("valid", rows[3:])):
        table(tmp_path / f"chexpert/{name}.csv", [{**row, **labels} for row in part])
    told = [masks(row["Path"].split("/", 1)[1], "Path", 0.8) for row in rows]
    table(tmp_path / "chexmask/OriginalResolution/CheXpert.csv.gz", pd.DataFrame(told))
    corpus = packed(f"chexmask:{tmp_path / 'chexmask'}", 4, dataset="chexpert", images=tmp_path / "chexpert")
    assert corpus.manifest["mask_lungs"].notna().all()
    assert len(showable(corpus)) == 0
