"""DICOM files of synthetic chests in which every string element, name and private tag holds an unusual identifier."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from raddino.images.phi import FACT_ELEMENTS, PIXEL_ELEMENTS
from raddino.sample.generate import sample

IMAGES = 42
WHOLE = 1
"""So many files have every element; in the others those that tell whose image it is."""
FOLDER = "Zqvorhees, Örsolya"
"""Below which the files lie."""
SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789"
READ = {*PIXEL_ELEMENTS, *FACT_ELEMENTS, "SOPClassUID", "SpecificCharacterSet", "TransferSyntaxUID"}
"""What the reader goes by has to be what it is."""
LONG = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
IDENTIFYING = (
    "PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "PatientBirthTime", "PatientAddress",
    "PatientMotherBirthName", "PatientComments", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "SeriesDate",
    "ContentDate", "AcquisitionDateTime", "StudyDescription", "SeriesDescription", "ProtocolName", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "ReferringPhysicianName", "OperatorsName",
    "PerformingPhysicianName", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "DetectorID",
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "RequestedProcedureDescription", "ImageComments",
    "DeidentificationMethod", "DerivationDescription",
)  # fmt: skip


def word(tag: int, n: int) -> str:
    """Ten signs that stand nowhere else, one word an element and file."""
    number, signs = (tag * 4096 + n) * 2654435761 % 2**40, ""
    while len(signs) < 8:
        number, at = divmod(number, len(SIGNS))
        signs += SIGNS[at]
    return f"zq{signs}"


def value(vr: str, tag: int, n: int) -> str | None:
    """An identifier for an element of a value representation (PS3.5 6.2); None where it holds no text."""
    text, number = word(tag, n), (tag * 4096 + n) * 40503 % 9_000_000 + 1_000_000
    date = f"{1880 + number % 40}{1 + number % 12:02}{1 + number % 28:02}"
    return {
        "AE": text.upper(), "CS": text.upper(), "DA": date, "DT": f"{date}{number % 24:02}0506.{number}",
        "TM": f"{number % 24:02}0506.{number % 1_000_000:06}", "DS": f"{number}.25", "IS": f"{number}00",
        "PN": f"{text.title()}^Örs{text[2:]}", "UI": f"1.2.77319.{tag}.{n + 1}", "UR": f"http://{text}.example/x",
        **dict.fromkeys(LONG, text.title()),
    }.get(vr) if vr != "PN" else f"{text.title()}^Örs{text[2:]}"  # fmt: skip


def elements(every: bool) -> Iterator[tuple[int, str, str]]:
    """Tag, value representation and keyword of what is planted."""
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        wanted = every and group > 0x0004 and group < 0x5000 and not group & 1 and not retired
        if keyword and keyword not in READ and (wanted or keyword in IDENTIFYING):
            yield tag, vr.split(" ")[0], keyword


def plant(image: Dataset, n: int, every: bool) -> None:
    """Put an identifier into each string element, an item of each sequence, private tags, file meta and preamble."""
    image.SpecificCharacterSet = "ISO_IR 192"
    for tag, vr, keyword in elements(every):
        if vr == "SQ" and every:
            item = Dataset()
            item.PatientName, item.PatientID = value("PN", tag, n), value("LO", tag + 1, n)
            image.add_new(tag, "SQ", [item])
        elif (told := value(vr, tag, n)) is not None and keyword != "SOPInstanceUID":
            image.add_new(tag, vr, told)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = value("UI", 0x00080018, n)
    for group, vr in ((0x0011, "LO"), (0x0019, "PN"), (0x7FE1, "UT")):
        block = image.private_block(group, word(group, n).title(), create=True)
        block.add_new(1, vr, value(vr, group * 2**16 + 1, n))
        nested = Dataset()
        nested.private_block(group, "ZQX NESTED", create=True).add_new(2, "LO", value("LO", group * 2**16 + 2, n))
        block.add_new(3, "SQ", [nested])
        block.add_new(4, "UN", value("LO", group * 2**16 + 4, n).encode())
    image.file_meta.SourceApplicationEntityTitle = value("AE", 0x00020016, n)
    image.file_meta.ImplementationVersionName = value("SH", 0x00020013, n)
    image.file_meta.PrivateInformationCreatorUID = value("UI", 0x00020100, n)
    image.file_meta.PrivateInformation = value("LO", 0x00020102, n).encode()
    image.preamble = value("LO", 1, n).encode().ljust(128, b"\0")


def strings_of(image: Dataset, n: int) -> Iterator[str]:
    """What :func:`plant` put there, told from the file and not by the audit's own reader."""
    for one in (image, image.file_meta):
        for element in one.iterall():
            if element.keyword not in READ and element.VR not in ("SQ", "OB", "OW", "US", "SS", "UL", "FD", "FL", "AT"):
                found = element.value.decode() if isinstance(element.value, bytes) else str(element.value)
                yield from (part.strip(" \0") for part in found.split("\\"))
    yield value("LO", 1, n)
    yield value("LO", 0x00020102, n)


def write_planted(folder: Path) -> tuple[Path, set[str]]:
    """``dicom/`` (named files in named folders), ``manifest.csv`` and what stands in them.

    Returns:
        the manifest, and every identifier of more than three signs.
    """
    sample(folder / "drawn", IMAGES, seed=5, size=48, workers=1, format="dicom")
    drawn = pd.read_csv(folder / "drawn" / "manifest.csv", dtype=str)
    strings, rows = {"Zqvorhees"}, []
    for n, row in drawn.iterrows():
        patient = int(row["patient_id"].removeprefix("S5P"))
        image = pydicom.dcmread(folder / "drawn" / row["path"])
        with pydicom.config.disable_value_validation():
            plant(image, n, n < WHOLE)
            image.PatientID = value("LO", 0x00100020, patient)
            place = Path("dicom", FOLDER, word(2, patient), f"{word(3, n)} ä{word(4, n)}.dcm")
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            image.save_as(folder / place, enforce_file_format=True)
        strings.update(strings_of(image, n))
        strings.update((word(2, patient), word(3, n), word(4, n)))
        extra = {
            "id": word(10, n), "patient_id": value("LO", 0x00100020, patient), "study_id": word(11, n),
            "operator": word(12, n), "study_date": f"19{n + 10}-03-0{n % 9 + 1}",
            "ward": f"{word(13, n)}%&<{word(14, n)}>",
            "phone": f"{n + 55_019_000_111}",
        }  # fmt: skip
        strings.update((*extra.values(), word(13, n), word(14, n)))
        masks = {name: f"drawn/{row[name]}" for name in ("mask_lungs",)}
        facts = {name: row[name] for name in row.index if name in ("view", "sex", "age", "bmi", "split")}
        labels = {name: row[name] for name in ("label_effusion", "label_cardiomegaly")}
        rows.append({"path": str(place), **extra, **facts, **labels, **masks})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    (folder / "dicom" / FOLDER / f"{word(5, 0)}.dcm").write_bytes(b"\0" * 128 + b"DICM" + word(6, 0).encode())
    return folder / "manifest.csv", {one for one in strings if len(one) > 3}
