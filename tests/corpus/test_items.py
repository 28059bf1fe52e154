"""A patient is one person: under every source, spelling and file, in one corpus and over several."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset

from raddino.corpus.combine import combine
from raddino.corpus.items import Items, digest_of, fill_namespaces, pseudonymise
from raddino.corpus.manifest import read_items
from raddino.corpus.prepare import prepare, summary
from raddino.corpus.splits import split_of
from raddino.errors import ConfigError, RaddinoError
from raddino.images.phi import keyed_hash


def picture(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 18)).astype(np.uint8)).save(path)


def dicom(path, seed: int, patient: str, **header) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    facts = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "SOPInstanceUID": "1.2.3", "Modality": "CR", "PatientID": patient,
        "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "Rows": 20, "Columns": 18,
        "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
        "PixelData": np.random.default_rng(seed).integers(0, 255, 360).astype(np.uint8).tobytes(),
    }  # fmt: skip
    for keyword, value in {**facts, **header}.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def packed(tmp_path):
    """``prepare`` rows, each with a picture of its own unless it has a ``path``."""
    seeds = iter(range(1000))

    def pack(rows: list[dict], name: str = "corpus", **options):
        folder, rows = tmp_path / f"in_{name}", [dict(row) for row in rows]
        for n, row in enumerate(rows):
            if "path" not in row:
                picture(folder / f"{name}{n}.png", next(seeds))
                row["path"] = f"{name}{n}.png"
        folder.mkdir(exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
        return prepare(folder, tmp_path / name, workers=1, **options)

    return pack


def test_a_patient_of_two_sources_is_refused_in_two_splits(packed, tmp_path):
    rows = [{"patient": "7", "source": "clinic", "split": "train"}, {"patient": "7", "source": "ward", "split": "test"}]
    with pytest.raises(RaddinoError, match=r"1 patient stands in two splits: [0-9a-f]{20} .*namespace"):
        packed(rows)
    assert not (tmp_path / "corpus").exists()


def test_a_patient_of_two_sources_is_drawn_to_one_side_and_counts_once(packed, key):
    rows = [{"patient": str(n // 2), "source": ("a", "b")[n % 2]} for n in range(60)]
    corpus = packed(rows)
    table = corpus.manifest
    assert corpus.info["patients"] == table["patient"].nunique() == 30
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert table["split"].tolist() == [split_of(patient, (0.7, 0.1, 0.2), 0) for patient in table["patient"]]
    assert table["patient"].nunique() < table["id"].nunique() == 60
    assert "30 patients stand in more than one source, each as one person" in summary(corpus)
    half = packed(rows, "half", fraction=0.5).manifest
    assert half.groupby("patient").size().eq(2).all()


def test_namespaces_tell_people_with_one_number_apart(packed):
    rows = [{"patient": "7", "source": "a", "split": "train", "namespace": "east"},
            {"patient": "7", "source": "b", "split": "test", "namespace": "west"},
            {"patient": "7", "source": "c", "split": "test", "namespace": "west"}]  # fmt: skip
    corpus = packed(rows)
    patients = corpus.manifest["patient"]
    assert patients[0] != patients[1] == patients[2]
    assert sorted(corpus.info["namespaces"]) == ["east", "west"]
    by_option = packed([{"patient": "7", "split": "test"}], "option", namespace="west")
    assert by_option.manifest["patient"][0] == patients[1]
    everybody = packed([{"patient": "7"}, {"patient": "7", "namespace": "west"}], "default")
    assert everybody.manifest["patient"][0] not in set(patients)
    assert everybody.manifest["patient"][1] == patients[1]
    assert "more than one source" not in summary(everybody)


@pytest.mark.parametrize("wrong", ["", "Jane Doe", "x" * 65, "a/b"])
def test_a_namespace_is_a_word(packed, wrong):
    with pytest.raises(ConfigError, match="1 to 64 letters"):
        packed([{"patient": "7"}], namespace=wrong)
    with pytest.raises(ConfigError, match="would count nowhere"):
        packed([{"patient": "7", "namespace": "a"}], namespace="b")


def test_a_column_of_patients_is_not_taken_for_namespaces_nor_quoted(packed):
    for names in ([f"MRN-{n}" for n in range(101)], ["Jane Doe"]):
        with pytest.raises(ConfigError, match="it names hospitals") as error:
            packed([{"patient": "7", "namespace": name} for name in names])
        assert "MRN" not in str(error.value)
        assert "Doe" not in str(error.value)


def test_header_and_manifest_name_one_person_with_issuer_or_without(packed, tmp_path):
    headers = [{}, {"IssuerOfPatientID": "HOSP"}, {"IssuerOfPatientID": "OTHER"}]
    for n, header in enumerate(headers):
        dicom(tmp_path / f"in_corpus/{n}.dcm", n, "P-4711 ", **header)
    rows = [{"path": f"{n}.dcm", "patient": None, "source": f"s{n}"} for n in range(3)]
    corpus = packed([*rows, {"patient": " P-4711", "source": "table"}])
    assert corpus.info["patients"] == 1
    assert corpus.manifest["split"].nunique() == 1
    folder = prepare(tmp_path / "in_corpus", tmp_path / "again", workers=1, columns={"patient": ""})
    assert set(folder.manifest["patient"][:3]) == set(corpus.manifest["patient"])


def test_a_patient_of_the_headers_in_two_splits_is_refused(packed, tmp_path):
    for n in range(2):
        dicom(tmp_path / f"in_corpus/{n}.dcm", n, "P-4711")
    rows = [{"path": f"{n}.dcm", "source": f"s{n}", "split": ("train", "test")[n]} for n in range(2)]
    with pytest.raises(RaddinoError, match="stands in two splits"):
        packed(rows)
    assert not (tmp_path / "corpus/corpus.json").exists()


def test_spellings_of_one_number_are_one_person(packed):
    corpus = packed([{"patient": name} for name in ("M\u00fcller", "Mu\u0308ller", " M\u00fcller ")])
    assert corpus.info["patients"] == 1


def test_a_study_number_belongs_to_its_patient(packed, tmp_path):
    rows = [{"patient": str(n // 4), "study_id": str(n // 2 % 2), "source": ("a", "b")[n % 2]} for n in range(8)]
    table = packed(rows).manifest
    assert table["study"].nunique() == 4
    assert table["study"].tolist()[::2] == table["study"].tolist()[1::2]
    dicom(tmp_path / "in_header/0.dcm", 0, "0", StudyInstanceUID="1")
    header = packed([{"path": "0.dcm"}], "header").manifest
    assert header["study"][0] == table["study"][2]


def test_combine_sees_a_patient_under_another_source(packed):
    one = packed([{"patient": "7", "source": "a", "split": "train"}], "one")
    other = packed([{"patient": "7", "source": "b", "split": "test"}], "other")
    with pytest.raises(RaddinoError, match=r"1 patient stands in two splits"):
        combine([one, other])
    third = packed([{"patient": "7", "source": "b", "split": "train"}], "third")
    both = combine([one, third])
    assert both.info["patients"] == 1
    assert both.info["namespaces"] == one.info["namespaces"]


def test_corpora_of_two_keys_are_combined_only_where_patients_cannot_be_the_same(packed):
    def one(name: str, key: str, **row):
        return packed([{"patient": "7", "split": "train", **row}], name, key=key)

    keys = "the first of two keys", "the second of two keys"
    mine, theirs = one("mine", keys[0]), one("theirs", keys[1])
    with pytest.raises(
        RaddinoError, match=r"mine and theirs hold patients hashed with two different keys.*RADDINO_KEY"
    ):
        combine([mine, theirs])
    west = [one(f"west{n}", key, namespace="west") for n, key in enumerate(keys)]
    assert len(combine([mine, west[1]])) == 2
    with pytest.raises(RaddinoError, match="hold patients of namespace 'west' hashed"):
        combine([mine, *west])
    with pytest.raises(RaddinoError, match="'west'"):
        combine([combine([mine, west[0]]), west[1]])
    drawn = [one(f"drawn{n}", key, synthetic=True, patient=f"phantom-{n}") for n, key in enumerate(keys)]
    assert drawn[0].info["namespaces"] == {}
    assert len(combine([mine, *drawn])) == 3


def test_images_without_patients_are_combined_under_two_keys(packed):
    parts = [packed([{"split": "train"}], f"part{n}", key=f"one of two keys, no. {n}") for n in range(2)]
    assert [part.info["namespaces"] for part in parts] == [{}, {}]
    assert len(combine(parts)) == 2


def test_the_key_stays_out_of_the_corpus(packed, key):
    corpus = packed([{"patient": "7"}])
    assert corpus.info["namespaces"] == {"": keyed_hash(key, "key")}
    assert key not in (corpus.path / "corpus.json").read_text(encoding="utf-8")


def planned(folder, **options):
    items, repeated = pseudonymise(fill_namespaces(read_items(folder)[0], None), "a key of this test")
    assert not repeated
    return items


def test_items_are_records_one_by_one_and_pickle_their_own_rows_alone(images):
    items = Items(planned(images))
    assert len(items) == 40
    records = list(items)
    assert records[7]["labels"] == {"label_edema": 0.0, "label_effusion": 0.0, "label_no_finding": 1.0}
    assert records[7]["masks"] == {"lungs": (str(images / "png/Doe_Jane_07_lungs.png"),)}
    assert records[7]["report"] is None
    assert items[7] == records[7]
    part = pickle.loads(pickle.dumps(items[10:20]))
    assert list(part) == records[10:20]
    assert len(pickle.dumps(items[10:20])) < len(pickle.dumps(items)) / 2
    json.dumps(records)


def test_the_digest_follows_every_value_and_file(images):
    table = planned(images)
    digests = {digest_of(table)}
    assert digest_of(table.copy()) in digests
    for column in table.columns.drop(["file", "mask_lungs"]):
        changed = table.copy()
        changed[column] = changed[column].astype(object)
        changed.loc[39, column] = "x" if changed[column].dtype == object else 1
        digests.add(digest_of(changed))
    assert len(digests) == len(table.columns) - 1
    for path in ("png/Doe_Jane_39.png", "png/Doe_Jane_39_lungs.png"):
        (images / path).write_bytes(b"another size")
        digests.add(digest_of(table))
        (images / path).unlink()
        digests.add(digest_of(table))
    assert len(digests) == len(table.columns) + 3
    swapped = table.rename(columns={"sex": "view", "view": "sex"})
    assert digest_of(swapped) not in digests


def test_names_that_are_no_text_are_hashed(tmp_path):
    table = pd.DataFrame(
        {"name": ["\udcfc.png", "\udcfd.png"], "patient": ["\udcfc", None], "study": None}, dtype=object
    )
    table = table.assign(source="s", namespace="", split=None, synthetic=False)
    items, _ = pseudonymise(table, "a key of this test")
    assert items["id"].nunique() == 2
