"""From files to a corpus: what is packed, what is left out, what never gets through."""

import io
import json
import re
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

import raddino.corpus.pool as pool
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare, summary
from raddino.errors import ConfigError, RaddinoError
from raddino.images.phi import key_path
from raddino.images.read import read_image, to_grey


def edit(folder: Path, **columns) -> None:
    """Change or drop (None) columns of a folder's manifest."""
    table = pd.read_csv(folder / "manifest.csv")
    for name, values in columns.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(folder / "manifest.csv", index=False)


def every_byte(folder: Path) -> bytes:
    """All file names and contents below a folder, PNG and Parquet also as what they hold."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(path.name.encode())
        if path.is_file():
            parts.append(path.read_bytes())
        if path.suffix == ".parquet":
            parts.append(pd.read_parquet(path).to_csv().encode())
            parts.append(repr(pd.read_parquet(path).columns.tolist()).encode())
    return b"\n".join(parts)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("side", [32, 518])
def test_packed_equals_unpacked(images, tmp_path, bits, side):
    corpus = prepare(images, tmp_path / "corpus", bits=bits, shorter_side=side, workers=1)
    assert len(corpus) == 40
    for i in range(0, 40, 7):
        expected = to_grey(read_image(images / f"png/Doe_Jane_{i:02}.png"), side, bits)
        found = corpus.read(i)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        assert tuple(corpus.manifest.loc[i, ["height", "width"]]) == expected.shape


def test_masks_come_along(images, tmp_path):
    corpus = prepare(images, tmp_path / "corpus", shorter_side=25, workers=1)
    mask = corpus.read_mask(20, "lungs")
    assert mask.shape == corpus.read(20).shape == (30, 25)
    np.testing.assert_array_equal(mask, np.where(np.mgrid[:30, :25][1] < 10, 255, 0))


def test_masks_as_text_are_packed_or_left_out_with_a_reason(images, tmp_path):
    good = ["gaps:60x50:600 300", "runs:30x25:1 25", "polygons:image:0,0 9,0 9,9 0,9", "empty:",
            "union:png/Doe_Jane_04_lungs.png|gaps:60x50:0 60"]  # fmt: skip
    bad = ["gaps:60x50:1 2 3", "runs:60x50:9 2 1 1", "runs:40x50:1 1", "union:empty:|png/absent.png"]
    edit(images, mask_ptx=[*good, *bad, *[None] * 31])
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    found = [corpus.read_mask(i, "ptx") for i in range(len(good))]
    assert {mask.shape for mask in found} == {(60, 50)}
    rows, columns = np.mgrid[:60, :50]
    expected = [(columns >= 10) & (columns < 15), rows < 2, (rows < 9) & (columns < 9), rows < 0, columns < 4]
    np.testing.assert_array_equal(np.stack(found), np.stack(expected) * 255)
    assert corpus.manifest["mask_ptx"].notna().sum() == len(good)
    assert corpus.info["masks"]["ptx"]["images"] == len(good)
    reasons = ["odd count of run-length numbers in the mask", "runs of the mask overlap, are out of order, or start "
               "before 1", "its shape is not the image's", "file not found"]  # fmt: skip
    assert corpus.manifest["warnings"].dropna().tolist() == [f"mask ptx left out: {reason}" for reason in reasons]


def test_another_mask_is_another_corpus(images, tmp_path):
    edit(images, mask_ptx="gaps:60x50:600 300")
    first = prepare(images, tmp_path / "corpus", workers=1).fingerprint
    assert prepare(images, tmp_path / "again", workers=2).fingerprint == first
    edit(images, mask_ptx="gaps:60x50:600 301")
    with pytest.raises(RaddinoError, match="was made from other images"):
        prepare(images, tmp_path / "corpus", workers=1)
    assert prepare(images, tmp_path / "other", workers=1).fingerprint != first


def test_what_stands_around_a_report_is_carried(images, tmp_path):
    plain = prepare(images, tmp_path / "plain", workers=1)
    assert plain.manifest[["impression", "indication", "comparison", "study_order"]].isna().all(axis=None)
    edit(images, impression="Normal.", study_order=[n % 2 for n in range(40)], indication=["Cough", None] * 20)
    told = prepare(images, tmp_path / "told", workers=1)
    assert told.manifest["impression"].eq("Normal.").all()
    assert told.manifest["indication"].tolist()[:2] == ["Cough", None]
    assert told.manifest["comparison"].isna().all()
    assert told.manifest["study_order"].tolist()[:3] == [0, 1, 0]
    assert told.manifest["study_order"].dtype == np.float64
    assert told.fingerprint != plain.fingerprint


def test_manifest_has_facts_labels_and_patients(images, tmp_path):
    table = prepare(images, tmp_path / "corpus", workers=1).manifest
    assert table["id"].is_unique
    assert table["patient"].nunique() == 20
    assert table["split"].value_counts().to_dict() == {"train": 28, "test": 8, "val": 4}
    assert table["age"].tolist() == [20 + n for n in range(40)]
    assert table["view"].value_counts().to_dict() == {"PA": 35, "LATERAL": 5}
    np.testing.assert_array_equal(table["label_edema"], [float(n % 4 == 0) for n in range(40)])
    assert table["label_edema"].dtype == np.float32
    assert table["report"].isna().all()


def test_result_does_not_depend_on_workers(images, tmp_path):
    one = prepare(images, tmp_path / "one", workers=1)
    two = prepare(images, tmp_path / "two", workers=2)
    assert one.fingerprint == two.fingerprint
    assert every_byte(one.path) == every_byte(two.path)


def test_fingerprint_follows_pixels_labels_and_key(images, tmp_path):
    first = prepare(images, tmp_path / "a", workers=1).fingerprint
    edit(images, sex="F")
    facts = prepare(images, tmp_path / "b", workers=1).fingerprint
    Image.fromarray(np.eye(60, 50, dtype=np.uint8)).save(images / "png/Doe_Jane_03.png")
    pixels = prepare(images, tmp_path / "c", workers=1).fingerprint
    Image.fromarray(np.eye(60, 50, dtype=np.uint8)).save(images / "png/Doe_Jane_03_lungs.png")
    masks = prepare(images, tmp_path / "d", workers=1).fingerprint
    other_key = prepare(images, tmp_path / "e", workers=1, key="another key, also long").fingerprint
    assert len({first, facts, pixels, masks, other_key}) == 5


def test_nothing_private_gets_through(images, tmp_path, capfd):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    for keyword, value in {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": "1.2.3.4711.99", "Modality": "CR",
        "PatientName": "Roe^Richard", "PatientID": "HN-8841", "PatientBirthDate": "19400305", "Rows": 30,
        "StudyDate": "20010605", "AccessionNumber": "ACC-77", "StudyInstanceUID": "1.2.3.4711.1",
        "Columns": 40, "InstitutionName": "Mercy West", "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
        "PixelData": np.arange(1200, dtype="<u2").tobytes(),
    }.items():  # fmt: skip
        setattr(dataset, keyword, value)
    dataset.save_as(images / "png/Roe_Richard.dcm", enforce_file_format=True)
    (images / "png/Doe_Jane_broken.png").write_bytes(b"\x89PNG\r\n\x1a\nDoe^Jane")
    prepare(images, tmp_path / "by_manifest", workers=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        corpus = prepare(images / "png", tmp_path / "by_folder", workers=1)
    row = corpus.manifest[corpus.manifest["age"] == 61]
    assert len(row) == 1
    assert row["patient"].item() not in row["id"].item()
    heard = "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in caught) + summary(corpus)
    written = every_byte(tmp_path / "by_manifest") + every_byte(tmp_path / "by_folder") + heard.encode()
    written = re.sub(rb"[0-9a-f]{64}", b"", written)  # a digest may hold any year
    planted = (
        "Doe", "Jane", "MRN-", "2001-06", "200106", "St_Elsewhere", "Roe", "Richard", "HN-8841", "1940", "4711",
        "ACC-77", "Mercy", ".dcm", str(tmp_path), "02_lungs",
    )  # fmt: skip
    assert not [word for word in planted if word.encode() in written]


def test_same_patient_has_one_pseudonym_in_every_corpus(images, tmp_path):
    whole = prepare(images, tmp_path / "whole", workers=1).manifest
    part = prepare(images, tmp_path / "part", workers=1, where="patient_id == 'MRN-0003'").manifest
    assert set(part["patient"]) < set(whole["patient"])
    assert set(part["id"]) == set(whole.loc[whole["patient"] == part["patient"][0], "id"])


def test_unreadable_files_are_listed_and_stop_nothing(images, tmp_path):
    (images / "png/Doe_Jane_05.png").write_bytes(b"not an image")
    (images / "png/Doe_Jane_06.png").unlink()
    (images / "png/Doe_Jane_08_lungs.png").write_bytes(b"")
    Image.fromarray(np.zeros((10, 40), np.uint8)).save(images / "png/Doe_Jane_09_lungs.png")
    Image.fromarray(np.full((60, 50), 9, np.uint8)).save(images / "png/Doe_Jane_10.png")
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    skipped = pd.read_csv(corpus.path / "skipped.csv")
    assert list(skipped.columns) == ["hash", "reason"]
    assert len(corpus) == 37
    assert corpus.info["skipped"] == skipped["reason"].value_counts().to_dict()
    assert set(skipped["reason"]) == {
        "not a DICOM, PNG, JPEG, JPEG 2000 or TIFF file", "file not found", "constant image: all pixels are equal",
    }  # fmt: skip
    assert corpus.manifest["warnings"].dropna().tolist() == [
        "mask lungs left out: empty file",
        "mask lungs left out: its shape is not the image's",
    ]
    assert "left out 1: file not found" in summary(corpus)


def test_a_row_listed_twice_is_packed_once(images, tmp_path):
    table = pd.read_csv(images / "manifest.csv")
    pd.concat([table, table.iloc[:3]]).to_csv(images / "manifest.csv", index=False)
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert len(corpus) == 40
    assert list(corpus.info["skipped"].values()) == [3]


def test_nothing_readable_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(RaddinoError, match="no image could be packed: 1 x not a DICOM"):
        prepare(tmp_path / "in", tmp_path / "corpus", workers=1)


def test_patient_in_two_splits_is_refused(images, tmp_path):
    table = pd.read_csv(images / "manifest.csv")
    table.loc[0, "split"] = "test"
    table.to_csv(images / "manifest.csv", index=False)
    with pytest.raises(RaddinoError, match=r"two splits: [0-9a-f]{20} ") as error:
        prepare(images, tmp_path / "corpus", workers=1)
    assert "MRN" not in str(error.value)
    assert not (tmp_path / "corpus").exists()
    corpus = prepare(images, tmp_path / "corpus", workers=1, columns={"split": ""})
    assert corpus.manifest.groupby("patient")["split"].nunique().max() == 1


def test_hash_splits_do_not_move_when_files_are_added(images, tmp_path):
    edit(images, split=None)
    few = prepare(images, tmp_path / "few", workers=1, where="age < '040Y'").manifest
    many = prepare(images, tmp_path / "many", workers=1).manifest
    moved = few.merge(many, on="id", suffixes=("", "_later"))
    assert len(moved) == len(few)
    assert (moved["split"] == moved["split_later"]).all()


def test_missing_splits_follow_the_patient(images, tmp_path):
    table = pd.read_csv(images / "manifest.csv")
    table.loc[::2, "split"] = None
    table.to_csv(images / "manifest.csv", index=False)
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert corpus.manifest["split"].value_counts().to_dict() == {"train": 28, "test": 8, "val": 4}


def test_without_patients_each_image_is_one_and_a_warning_says_so(images, tmp_path):
    edit(images, patient_id=None, split=None)
    with pytest.warns(UserWarning, match="40 images without a patient"):
        corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert (corpus.manifest["patient"] == corpus.manifest["id"]).all()
    assert "splits may leak" in summary(corpus)


def test_frontal_only_counts_what_it_drops(images, tmp_path):
    corpus = prepare(images, tmp_path / "corpus", frontal_only=True, workers=1)
    assert set(corpus.manifest["view"]) == {"PA"}
    assert corpus.info["skipped"] == {"lateral view left out": 5}


def test_synthetic_images_keep_their_names_and_need_no_key(images, tmp_path, monkeypatch):
    monkeypatch.delenv("RADDINO_KEY")
    edit(images, synthetic=True, id=[f"phantom-{n}" for n in range(40)], source="synthetic")
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert corpus.synthetic
    assert corpus.info["synthetic"] is True
    assert corpus.manifest["id"][3] == "phantom-3"
    assert not key_path().exists()
    edit(images, synthetic=[True] * 20 + [False] * 20)
    mixed = prepare(images, tmp_path / "mixed", workers=1)
    assert mixed.info["synthetic"] == "mixed"
    assert "real and synthetic images are mixed" in summary(mixed)
    assert mixed.manifest["id"][30] != "phantom-30"


def test_shards_are_webdataset_tars(images, tmp_path):
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    shard = sorted((corpus.path / "shards").iterdir())[1]
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            name, _, kind = member.name.partition(".")
            samples.setdefault(name, {})[kind] = tar.extractfile(member).read()
            assert (member.mtime, member.uid, member.uname) == (0, 0, "")
    for name, sample in samples.items():
        row = corpus.manifest.index[corpus.manifest["id"] == name][0]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sample["png"]))), corpus.read(row))
        facts = json.loads(sample["json"])
        assert facts["patient"] == corpus.manifest["patient"][row]
        assert facts["label_edema"] == corpus.manifest["label_edema"][row]
        assert "mask_lungs.png" in sample


def test_interrupted_work_is_continued(images, tmp_path, monkeypatch):
    whole = prepare(images, tmp_path / "whole", workers=1)
    packed = []

    def interrupted(task, wall, advance):
        def stop_inside() -> None:
            advance()
            if packed:
                raise KeyboardInterrupt

        original(task, wall, stop_inside)
        packed.append(task.number)

    original = pool.pack_shard
    monkeypatch.setattr(pool, "pack_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(images, tmp_path / "corpus", workers=1)
    assert packed == [0]
    with pytest.raises(RaddinoError, match="half prepared"):
        Corpus.open(tmp_path / "corpus")
    monkeypatch.setattr(pool, "pack_shard", lambda task, *rest: (packed.append(task.number), original(task, *rest)))
    (tmp_path / "corpus/shards/000001.tar.part").write_bytes(b"half a shard")
    again = prepare(images, tmp_path / "corpus", workers=1)
    assert packed == [0, 1, 2]
    assert every_byte(again.path) == every_byte(whole.path)


def test_finished_work_is_not_repeated(images, tmp_path, monkeypatch):
    first = prepare(images, tmp_path / "corpus", workers=1)
    monkeypatch.setattr(pool, "pack_shard", None)
    assert prepare(images, tmp_path / "corpus", workers=1).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", [{"shorter_side": 40}, {"key": "another key, also long"}, {"seed": 1}])
def test_another_corpus_is_not_overwritten(images, tmp_path, change):
    prepare(images, tmp_path / "corpus", workers=1)
    with pytest.raises(RaddinoError, match="was made from other images, settings or key"):
        prepare(images, tmp_path / "corpus", workers=1, **change)


def test_a_folder_with_other_things_is_not_touched(images, tmp_path):
    with pytest.raises(RaddinoError, match="not empty"):
        prepare(images, images, workers=1)


@pytest.mark.parametrize("wrong", [{"bits": 12}, {"shorter_side": 0}, {"splits": (0.5, 0.5, 0.5)}, {"splits": (1, 0)}])
def test_wrong_settings_are_one_line(images, tmp_path, wrong):
    with pytest.raises(ConfigError) as error:
        prepare(images, tmp_path / "corpus", **wrong)
    assert "\n" not in str(error.value)


def test_real_manifest(shared, tmp_path):
    corpus = prepare(shared / "data/manifest.csv", tmp_path / "corpus", where="group % 40 == 0", workers=1)
    table = corpus.manifest
    source = pd.read_csv(shared / "data/manifest.csv").query("group % 40 == 0").reset_index(drop=True)
    assert len(table) == len(source) > 20
    nih = source["source"] == "nih"
    np.testing.assert_array_equal(table["label_pneumonia"][nih], source["nih_Pneumonia"][nih])
    viral = source["labels"].eq("Viral pneumonia")[source["source"] == "kermany"]
    np.testing.assert_array_equal(table["label_viral_pneumonia"][viral.index], viral)
    assert table["label_viral_pneumonia"][nih].isna().all()
    assert (table["split"] == source["split"]).all()
    assert not corpus.info["skipped"]
    for name, values in (("lungs", {0, 127, 255}), ("zones", set(range(7)))):
        for i in np.flatnonzero(table[f"mask_{name}"].notna())[:3]:
            mask = corpus.read_mask(i, name)
            assert mask.shape == corpus.read(i).shape
            assert set(np.unique(mask)) <= values


def test_real_dicom_folder(shared, tmp_path):
    corpus = prepare(shared / "data/dicom/odd", tmp_path / "corpus", workers=1, source="nema")
    assert corpus.info["skipped"].keys() == {
        "several frames", "colour picture (secondary capture)",
        "PhotometricInterpretation is missing: bright and dark cannot be told apart",
        "secondary capture, which may hold text (--secondary-capture takes it)",
    }  # fmt: skip


def test_a_split_without_images_is_said(images, tmp_path):
    table = pd.read_csv(images / "manifest.csv")
    table.to_csv(images / "manifest.csv", index=False)
    assert "warning" not in summary(prepare(images, tmp_path / "whole", workers=1))
    table[table["split"] == "train"].to_csv(images / "manifest.csv", index=False)
    said = summary(prepare(images, tmp_path / "train", workers=1))
    assert "warning: no image in the val split, which evaluate needs" in said
    assert "warning: no image in the test split, which evaluate needs" in said
    assert "no image in the train split" not in said
