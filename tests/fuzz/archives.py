"""Small archives, and a DICOMDIR beside what it names."""

import contextlib
import io
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pydicom.fileset import FileSet

from . import subject
from .seeds import Seed, dataset, picture, saved

MEMBERS = 4


def archive_seeds() -> list[Seed]:
    """Zip and tar archives of pictures, one of them in a folder, and a DICOMDIR."""
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return list(_seeds(Path(place)))


def _seeds(place: Path) -> Iterator[Seed]:
    held = {f"{'deep/' * (at % 2)}{at}.png": saved(picture(8, at), "PNG") for at in range(MEMBERS)}
    made = {
        "stored.zip": _zip(held, zipfile.ZIP_STORED),
        "deflated.zip": _zip(held, zipfile.ZIP_DEFLATED),
        "pax.tar": _tar(held | {"long name/" * 20 + "x.png": held["0.png"]}, "w", tarfile.PAX_FORMAT),
        "gnu.tar": _tar(held | {"long name/" * 20 + "x.png": held["0.png"]}, "w", tarfile.GNU_FORMAT),
        "pax.tgz": _tar(held, "w:gz", tarfile.PAX_FORMAT),
    }
    for name, data in made.items():
        yield _seed(place / name, name, f"archive {name.rpartition('.')[2]}", data, {})
    files = FileSet()
    for at in range(MEMBERS):
        one = dataset(8)
        one.PatientID, one.SOPInstanceUID = f"p{at}", f"1.2.3.{at + 1}"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.Modality = f"1.2.4.{at}", f"1.2.5.{at}", "DX"
        one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20010605", "120000", "1", "1"
        one.SeriesNumber = one.InstanceNumber = 1
        one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = (
            one.SOPClassUID,
            one.SOPInstanceUID,
        )
        one.PixelData = picture(8, at).tobytes()
        files.add(one)
    files.write(place / "medium")
    found = {
        str(file.relative_to(place / "medium")): file.read_bytes()
        for file in (place / "medium").rglob("*")
        if file.is_file()
    }
    yield _seed(place / "dicomdir", "DICOMDIR", "DICOMDIR", found.pop("DICOMDIR"), found)


def _seed(folder: Path, name: str, format: str, data: bytes, beside: dict[str, bytes]) -> Seed:
    for file, content in {**beside, name: data}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    gives = subject.archive(folder, [name])[0].seen
    assert len(gives) >= MEMBERS
    return Seed("archive", format, name, data, redundant=format == "archive zip", beside=beside, gives=gives)


def _zip(held: dict[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, data in held.items():
            made.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def _tar(held: dict[str, bytes], mode: str, format: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=format) as made:
        for name, data in held.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
