"""One corpus from the same images as files, in archives, behind URLs and on a medium; to the byte, but for names."""

import hashlib
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.fileset import FileSet

from compressed_dicom import drawn
from raddino.corpus.find import find
from raddino.corpus.items import digest_of
from raddino.corpus.manifest import read_items
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError, RaddinoError


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(folder.rglob("*.png")):
            made.write(file, file.relative_to(folder))
    return path


def tarred(folder: Path, path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as made:
        for file in sorted(folder.rglob("*.png")):
            made.add(file, f"./{file.relative_to(folder)}")
    return path


MAKE = {"x.zip": zipped, "x.tar": tarred, "x.tgz": lambda folder, path: tarred(folder, path, "w:gz")}


def shards(out: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(out.glob("shards/*")))).hexdigest()


def pixels(corpus) -> list[str]:
    return sorted(corpus.manifest["sha256"])


@pytest.mark.parametrize("name", MAKE)
def test_a_manifest_names_members(images, tmp_path, name, capfd):
    """Images and masks in an archive, ids as before: shards, manifest and fingerprint are the same."""
    table = pd.read_csv(images / "manifest.csv")
    table["id"] = table["path"]
    table.to_csv(images / "manifest.csv", index=False)
    whole = prepare(images, tmp_path / "whole", workers=1)
    (tmp_path / "packed").mkdir()
    archive = MAKE[name](images, tmp_path / "packed" / name)
    table["path"] = [f"{name}::{path}" for path in table["path"]]
    table["mask_lungs"] = [f"{name}::{path}" for path in table["mask_lungs"]]
    table.to_csv(archive.parent / "manifest.csv", index=False)
    for workers in (1, 2):
        corpus = prepare(archive.parent, tmp_path / f"corpus{workers}", workers=workers)
        assert corpus.fingerprint == whole.fingerprint
        assert shards(corpus.path) == shards(whole.path)
        assert (corpus.path / "manifest.parquet").read_bytes() == (whole.path / "manifest.parquet").read_bytes()
    shown = capfd.readouterr()
    assert "Doe" not in shown.out + shown.err
    assert find(archive.parent, corpus.manifest["id"][0]).startswith(f"{archive}::png/Doe_Jane_")


@pytest.mark.parametrize("name", MAKE)
def test_an_archive_is_a_folder(images, tmp_path, name):
    (images / "manifest.csv").unlink()
    whole = prepare(images, tmp_path / "whole", workers=1)
    archive = MAKE[name](images, tmp_path / name)
    corpus = prepare(archive, tmp_path / "corpus", workers=2)
    assert pixels(corpus) == pixels(whole)
    (tmp_path / "below/deep").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "below/deep" / name)
    shutil.copy(images / "png/Doe_Jane_00.png", tmp_path / "below/plain")
    table, _ = read_items(tmp_path / "below")
    assert table["name"].tolist()[:2] == ["plain", f"deep/{name}::png/Doe_Jane_00.png"]
    assert len(table) == 81
    assert len(prepare(tmp_path / "below", tmp_path / "mixed", workers=1).manifest) == len(whole.manifest) + 1
    assert len(read_items(f"{tmp_path}/below/**/{name}")[0]) == 80


def test_an_archive_alone_needs_no_suffix(images, tmp_path):
    archive = zipped(images, tmp_path / "export")
    assert len(read_items(archive)[0]) == 80


def test_a_name_that_promises_an_archive_and_is_none(images, tmp_path):
    shutil.copytree(images / "png", tmp_path / "in")
    (tmp_path / "in/Doe_Jane_00.png").rename(tmp_path / "in/Doe.zip")
    (tmp_path / "in/Roe.tar.gz").write_bytes(b"no archive")
    corpus = prepare(tmp_path / "in", tmp_path / "corpus", workers=1)
    assert len(corpus.manifest) == 79
    assert corpus.info["skipped"]["not a DICOM, PNG, JPEG, JPEG 2000 or TIFF file"] == 1


def test_what_archives_hold_besides_is_said(images, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", encoding="utf-8") as made:
        made.add(images / "png/Doe_Jane_00.png", "1.png")
        made.addfile(tarfile.TarInfo("MEDIA/DICOMDIR"))
        for name in ("Doe_John.png", "Roe.png"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            made.addfile(link)
    corpus = prepare(tmp_path / "x.tar", tmp_path / "corpus", workers=1)
    assert len(corpus.manifest) == 1
    notes = " ".join(corpus.info["notes"])
    assert "passed over: 2 links, pipes, devices and other members of archives that are no files" in notes
    assert "passed over: 1 DICOMDIR files" in notes
    assert "Doe" not in notes


def test_members_that_are_not_read_are_listed(images, tmp_path):
    archive = zipped(images / "png", tmp_path / "x.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] = 1
    archive.write_bytes(data)
    corpus = prepare(archive, tmp_path / "corpus", workers=1)
    assert corpus.info["skipped"]["encrypted in its archive: unpack it"] == 1
    lost = pd.read_csv(corpus.path / "skipped.csv").set_index("reason")["hash"]["encrypted in its archive: unpack it"]
    assert find(archive, lost) == f"{archive}::Doe_Jane_00.png"


def test_masks_that_are_not_read_are_noted(images, tmp_path):
    zipped(images, images / "x.zip")
    table = pd.read_csv(images / "manifest.csv")
    table["mask_lungs"] = [f"x.zip::{name}" for name in table["mask_lungs"]]
    table.loc[3, "mask_lungs"] = "x.zip::png/none.png"
    table.to_csv(images / "manifest.csv", index=False)
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert corpus.info["warnings"] == {"mask lungs left out: its archive has no such member": 1}
    assert corpus.info["masks"]["lungs"]["images"] == 39


def test_a_changed_archive_is_another_plan(images, tmp_path):
    archive = zipped(images, tmp_path / "x.zip")
    table = read_items(archive)[0]
    before = digest_of(table)
    assert digest_of(read_items(archive)[0]) == before
    os.utime(archive, ns=(1, 1))
    assert digest_of(read_items(archive)[0]) != before
    swapped = table.assign(file=table["file"].to_numpy()[::-1])
    assert digest_of(swapped) != digest_of(table)


def test_signs_in_names_of_files(images, tmp_path):
    (tmp_path / "a::b").mkdir()
    shutil.copy(images / "png/Doe_Jane_00.png", tmp_path / "a::b/x.zip::1.png")
    zipped(images, tmp_path / "a::b/x.zip")
    table = read_items(tmp_path / "a::b")[0]
    assert len(table) == 81
    assert len(prepare(tmp_path / "a::b", tmp_path / "corpus", workers=1).manifest) == 80


# --- URLs


@pytest.fixture
def bucket():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


def put(fs, folder: Path, url: str) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            fs.pipe_file(f"{url}/{file.relative_to(folder)}", file.read_bytes())


@pytest.mark.parametrize("url", ["memory://data", "memory://data/manifest.csv"])
def test_a_manifest_behind_a_url(images, tmp_path, bucket, url):
    whole = prepare(images, tmp_path / "whole", workers=1)
    put(bucket, images, "/data")
    corpus = prepare(url, tmp_path / "corpus", workers=2)
    assert corpus.fingerprint == whole.fingerprint
    assert shards(corpus.path) == shards(whole.path)
    assert prepare(url, tmp_path / "corpus").fingerprint == whole.fingerprint
    bucket.pipe_file("/data/png/Doe_Jane_00.png", b"changed")
    with pytest.raises(RaddinoError, match="made from other images"):
        prepare(url, tmp_path / "corpus")


def test_a_folder_and_archives_behind_a_url(images, tmp_path, bucket):
    (images / "manifest.csv").unlink()
    whole = prepare(images, tmp_path / "whole", workers=1)
    put(bucket, images / "png", "/data")
    bucket.pipe_file("/data/.hidden/1.png", b"x")
    corpus = prepare("memory://data", tmp_path / "corpus", workers=2)
    assert pixels(corpus) == pixels(whole)
    for name, make in MAKE.items():
        bucket.pipe_file(f"/packed/{name}", make(images, tmp_path / name).read_bytes())
        one = prepare(f"memory://packed/{name}", tmp_path / f"of-{name}", workers=2)
        assert pixels(one) == pixels(whole)
    table = read_items("memory://packed")[0]
    assert len(table) == 240
    assert table["name"][0] == "x.tar::png/Doe_Jane_00.png"


def test_a_local_manifest_of_urls(images, tmp_path, bucket):
    whole = prepare(images, tmp_path / "whole", workers=1)
    put(bucket, images, "/data")
    table = pd.read_csv(images / "manifest.csv")
    table["id"] = table["path"]
    table["path"] = [f"memory://data/{path}" for path in table["path"]]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    corpus = prepare(tmp_path / "manifest.csv", tmp_path / "corpus", workers=1, columns={"mask_lungs": ""})
    assert pixels(corpus) == pixels(whole)


def test_file_urls_are_paths(images, tmp_path):
    whole = prepare(images, tmp_path / "whole", workers=1)
    corpus = prepare(f"file://{images}", f"file://{tmp_path}/corpus", workers=1)
    assert (tmp_path / "corpus/corpus.json").is_file()
    assert corpus.fingerprint == whole.fingerprint
    table = pd.read_csv(images / "manifest.csv")
    table["path"] = [f"file://{images}/{path}" for path in table["path"]]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    assert pixels(
        prepare(tmp_path / "manifest.csv", tmp_path / "again", workers=1, columns={"mask_lungs": ""})
    ) == pixels(whole)


def test_urls_that_lead_nowhere(images, tmp_path, bucket):
    for url, told in (
        ("memory://nothing", "no file in memory://nothing"),
        ("memory://nothing/manifest.csv", "manifest memory://nothing/manifest.csv does not exist"),
        ("http://user:secret@localhost/x", "URLs that begin with http:// are not read, only file, memory, s3, gs"),
        ("ftp://user:secret@localhost/x", "are not read"),
    ):
        with pytest.raises(RaddinoError, match=told) as error:
            prepare(url, tmp_path / "corpus", workers=1)
        assert "\n" not in str(error.value)
        assert "secret" not in str(error.value)
    table = pd.read_csv(images / "manifest.csv")
    table.loc[3, "path"] = "http://localhost/x.png"
    table.to_csv(images / "manifest.csv", index=False)
    with pytest.raises(ConfigError, match="are not read"):
        prepare(images, tmp_path / "corpus", workers=1)
    bucket.pipe_file("/odd/manifest.csv", b"\xff\xfe")
    with pytest.raises(RaddinoError, match=r"manifest memory://odd/manifest\.csv is text in UTF-16"):
        prepare("memory://odd", tmp_path / "corpus", workers=1)


def test_an_object_that_goes_is_listed(images, tmp_path, bucket):
    put(bucket, images, "/data")
    bucket.rm_file("/data/png/Doe_Jane_05.png")
    corpus = prepare("memory://data", tmp_path / "corpus", workers=1)
    assert corpus.info["skipped"] == {"file not found": 1}


# --- DICOMDIR


def dicom(patient: str, seed: int) -> Dataset:
    grey = drawn(8, 60, 50) if seed == 0 else np.roll(drawn(8, 60, 50), seed, 0)
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"1.2.3.4.{seed + 1}"
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.PatientID, made.PatientName, made.Modality, made.BodyPartExamined = patient, "Doe^Jane", "DX", "CHEST"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"1.2.3.5.{seed}", f"1.2.3.6.{seed}"
    made.StudyDate, made.StudyTime, made.StudyID, made.AccessionNumber = "20010605", "120000", "1", "1"
    made.SeriesNumber, made.InstanceNumber = 1, 1
    made.Rows, made.Columns = grey.shape
    made.SamplesPerPixel, made.PixelRepresentation, made.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    made.PixelData = grey.astype(np.uint8).tobytes()
    return made


@pytest.fixture
def medium(tmp_path) -> Path:
    """A DICOMDIR of four images of two patients in nested folders, and a file that it does not name."""
    held = FileSet()
    for seed in range(4):
        held.add(dicom(f"MRN-{seed // 2}", seed))
    held.write(tmp_path / "medium")
    dicom("MRN-9", 9).save_as(tmp_path / "medium/STRAY", enforce_file_format=True)
    return tmp_path / "medium"


def test_a_dicomdir_is_the_list(medium, tmp_path, capfd):
    corpus = prepare(medium / "DICOMDIR", tmp_path / "corpus", workers=1)
    assert len(corpus.manifest) == 4
    assert corpus.manifest["patient"].nunique() == 2
    folder = prepare(medium, tmp_path / "folder", workers=1)
    assert len(folder.manifest) == 5
    assert "passed over: 1 DICOMDIR files" in " ".join(folder.info["notes"])
    assert set(pixels(corpus)) < set(pixels(folder))
    assert sorted(corpus.manifest["id"]) == sorted(set(folder.manifest["id"]) & set(corpus.manifest["id"]))
    shown = capfd.readouterr()
    assert "Doe" not in shown.out + shown.err


def test_names_on_the_disk_in_other_cases_and_with_versions(medium, tmp_path):
    for path in sorted(medium.rglob("*"), key=lambda path: -len(path.parts)):
        if path.name != "DICOMDIR":
            path.rename(path.with_name(path.name.lower() + (";1" if path.is_file() else "")))
    assert len(prepare(medium / "DICOMDIR", tmp_path / "corpus", workers=1).manifest) == 4


def rewrite(medium: Path, change) -> None:
    """Change the records of images."""
    from pydicom import dcmread

    held = dcmread(medium / "DICOMDIR")
    change([record for record in held.DirectoryRecordSequence if record.DirectoryRecordType == "IMAGE"])
    held.save_as(medium / "DICOMDIR")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (["..", "secret"], "1 references of the DICOMDIR that name no file below its folder"),
        (["", "etc", "passwd"], "that name no file below"),
        (["../secret"], "that name no file below"),
        (["."], "that name no file below"),
        (["LINK"], "that name no file below"),
        (["GONE"], "1 references of the DICOMDIR to files that are not there"),
        (["PT000000"], "to files that are not there"),
        (["x"] * 9, "that name no file below"),
    ],
)
def test_references_that_lead_nowhere_or_elsewhere(medium, tmp_path, name, told):
    dicom("MRN-7", 7).save_as(tmp_path / "secret", enforce_file_format=True)
    (medium / "LINK").symlink_to(tmp_path / "secret")

    def change(records):
        records[0].ReferencedFileID = name

    rewrite(medium, change)
    corpus = prepare(medium / "DICOMDIR", tmp_path / "corpus", workers=1)
    assert len(corpus.manifest) == 3
    notes = " ".join(corpus.info["notes"])
    assert told in notes
    assert "secret" not in notes


def test_records_of_other_kinds_and_out_of_use(medium, tmp_path):
    def change(records):
        records[0].DirectoryRecordType = "SR DOCUMENT"
        records[1].RecordInUseFlag = 0
        records[2].ReferencedFileID = records[3].ReferencedFileID

    rewrite(medium, change)
    corpus = prepare(medium / "DICOMDIR", tmp_path / "corpus", workers=1)
    assert len(corpus.manifest) == 1
    assert "1 references of the DICOMDIR to other objects than images" in " ".join(corpus.info["notes"])


def test_a_damaged_dicomdir_is_one_line(medium, tmp_path):
    data = (medium / "DICOMDIR").read_bytes()
    (medium / "DICOMDIR").write_bytes(data[:600])
    with pytest.raises(RaddinoError, match="DICOMDIR") as error:
        prepare(medium / "DICOMDIR", tmp_path / "corpus", workers=1)
    assert "\n" not in str(error.value)


def test_what_stands_in_a_dicomdir_is_not_looked_at(medium, monkeypatch):
    """Of every record, three elements."""
    from pydicom.dataset import Dataset

    from raddino.images.dicomdir import referenced_files

    asked = set()
    original = Dataset.__getitem__
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: asked.add(str(key)) or original(self, key))
    names, others = referenced_files(str(medium / "DICOMDIR"))
    assert len(names) == 4
    assert others == 0
    patient = {"(0010,0010)", "(0010,0020)", "PatientName", "PatientID", "(0008,0020)", "StudyDate"}
    assert not patient & asked


def test_streams_are_not_written_to_disk(images, tmp_path, monkeypatch):
    archive = tarred(images, tmp_path / "x.tgz", "w:gz")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    assert len(prepare(archive, tmp_path / "corpus", workers=1).manifest) == 79
    assert sorted(path.name for path in tmp_path.iterdir()) == ["St_Elsewhere", "corpus", "x.tgz"]
