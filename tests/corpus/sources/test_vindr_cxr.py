"""VinDr-CXR: votes of three readers, the consensus untouched, every missing part named."""

import numpy as np
import pandas as pd
import pytest

from raddino.corpus.sources import SOURCES
from raddino.corpus.sources.vindr_cxr import FINDINGS
from raddino.errors import ConfigError, RaddinoError

SEVEN = ["lung_opacity", "cardiomegaly", "pleural_thickening", "aortic_enlargement", "pulmonary_fibrosis",
         "tuberculosis", "pleural_effusion"]  # fmt: skip
TRAIN, TEST = 30, 4


@pytest.fixture
def root(tmp_path, draw, table):
    """30 train images of which image n has n % 4 votes for effusion; 4 test images."""
    names = [name.split("|")[0] for name in FINDINGS]
    votes = [
        {"image_id": f"{n:032x}", "rad_id": f"R{8 + reader}", **dict.fromkeys(names, 0)}
        | {"Pleural effusion": int(reader < n % 4)}
        for n in range(TRAIN)
        for reader in range(3)
    ]  # fmt: skip
    consensus = [{"image_id": f"{100 + n:032x}", **dict.fromkeys(names, 0), "Tuberculosis": n % 2} for n in range(TEST)]
    table(tmp_path / "vindr/annotations/image_labels_train.csv", votes)
    frame = pd.DataFrame(consensus).rename(columns={"Other diseases": "Other disease"})
    table(tmp_path / "vindr/annotations/image_labels_test.csv", frame)
    for split, rows in (("train", votes[::3]), ("test", consensus)):
        for row in rows:
            draw(tmp_path / f"vindr/{split}/{row['image_id']}.dicom", PatientSex="F", PatientAge="061Y", PatientID="")
    return tmp_path / "vindr"


@pytest.mark.parametrize(
    ("readers", "expected"), [("majority", [0, 0, 1, 1]), ("any", [0, 1, 1, 1]), ("soft", [0, 1 / 3, 2 / 3, 1])]
)
def test_votes(root, readers, expected):
    frame = SOURCES["vindr-cxr"].read(root, readers=readers).set_index("id")
    found = [frame.loc[f"{n:032x}", "label_pleural_effusion"] for n in range(4)]
    np.testing.assert_allclose(found, expected)
    test = frame[frame["split"] == "test"]
    assert test["label_tuberculosis"].tolist() == [0, 1, 0, 1]
    assert frame.attrs["options"] == {"readers": readers}


def test_prepared(root, packed):
    corpus = packed(f"vindr-cxr:{root}", TRAIN + TEST, readers="soft")
    rows = corpus.manifest
    assert {f"label_{name}" for name in SEVEN} <= set(rows)
    assert sum(column.startswith("label_") for column in rows) == 28
    assert (rows["split"] == "test").sum() == TEST
    assert 0 < (rows["split"] == "val").sum() < TRAIN / 2
    assert set(rows["sex"]) == {"F"}
    assert set(rows["age"]) == {61.0}
    assert set(rows["view"]) == {"PA"}
    np.testing.assert_allclose(sorted(set(rows["label_pleural_effusion"])), [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    assert "PhysioNet" in rows["licence"][0]
    assert corpus.info["source"]["options"] == {"readers": "soft"}
    assert "no patients" in corpus.info["source"]["notes"][0]


def test_what_is_missing_is_named(root, without):
    without(root / "annotations/image_labels_test.csv", "Tuberculosis")
    without(root / "annotations/image_labels_test.csv", "Other disease")
    with pytest.raises(RaddinoError, match=r"image_labels_test.csv lacks the column\(s\) Tuberculosis, Other dis") as e:
        SOURCES["vindr-cxr"].read(root)
    assert "physionet.org" in str(e.value)
    (root / "annotations/image_labels_test.csv").unlink()
    with pytest.raises(RaddinoError, match=r"not found: annotations/image_labels_test.csv"):
        SOURCES["vindr-cxr"].read(root)


def test_readers_must_be_three_and_images_there(root):
    path = root / "annotations/image_labels_train.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    with pytest.raises(RaddinoError, match=r"1 image without exactly three readers"):
        SOURCES["vindr-cxr"].read(root)
    with pytest.raises(ConfigError, match="readers"):
        SOURCES["vindr-cxr"].read(root, readers="most")


def test_a_copy_without_images_is_refused(root):
    for file in root.glob("*/*.dicom"):
        file.unlink()
    with pytest.raises(RaddinoError, match="none of the first 34 listed images is there"):
        SOURCES["vindr-cxr"].read(root)
