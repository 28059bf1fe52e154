"""Which DICOM headers are those of a chest radiograph; the others are set aside with a reason."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from raddino.images.decode import whole
from raddino.images.elements import says_yes, text, values
from raddino.images.errors import NotARadiograph, UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset

RADIOGRAPHY = ("CR", "DX", "DR", "RG")
# PS3.3 C.7.3.1.1.1, with its retired terms, without those above and without OT, which says nothing; SC is met too
OTHER_MODALITIES = (
    "ANN", "AR", "AS", "ASMT", "AU", "BDUS", "BI", "BMD", "CD", "CF", "CFM", "CP", "CS", "CT", "CTPROTOCOL",
    "DD", "DF", "DG", "DM", "DMS", "DOC", "DS", "EC", "ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FA", "FID",
    "FS", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LP", "LS", "M3D", "MA", "MG",
    "MR", "MS", "NM", "OAM", "OCT", "OP", "OPM", "OPR", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "PA", "PLAN",
    "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD",
    "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SMR", "SR", "SRF", "ST", "STAIN",
    "TEXTUREMAP", "TG", "US", "VA", "VF", "XA", "XAPROTOCOL", "XC",
)  # fmt: skip
CHEST = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "RIB", "HEART", "CLAVICLE", "STERNUM")
OTHER_BODY_PARTS = (
    "EXTREMITY", "HAND", "HIP", "KNEE", "FOOT", "ANKLE", "WRIST", "ELBOW", "SHOULDER", "FINGER", "TOE", "ARM",
    "LEG", "FEMUR", "TIBIA", "HUMERUS", "SKULL", "HEAD", "NECK", "JAW", "FACE", "SINUS", "SPINE", "PELVIS",
    "ABDOMEN", "BREAST", "CALCANEUS", "PATELLA", "SCAPULA",
)  # fmt: skip
MONOCHROME = re.compile(r"(?:MONO[A-Z]*[ _-]*|M)([12])|MONO[A-Z]*")
COLOURS = ("RGB", "ARGB", "YBR", "PALETTE", "HSV", "CMYK", "XYB")
SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
SECONDARY_CAPTURE = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(?:\.[1-4])?")
STORAGE = "1.2.840.10008.5.1.4.1.1."
RADIOGRAPHS = re.compile(r"1|1\.1|1\.1\.1|7(?:\.[1-4])?")
"""Computed and digital radiography and Secondary Capture, behind :data:`STORAGE` (PS3.4 B.5)."""
DIGITISED_FILM = "DF"
SCREEN = re.compile(r"SCREEN[ _-]?(?:SAVE|SHOT|CAP|GRAB|COPY|DUMP)")


def admit(dataset: Dataset, secondary_capture: bool = False) -> list[str]:
    """Set aside what is not a chest radiograph, and write the photometric interpretation in its standard form.

    Secondary Capture (PS3.3 A.8) is a copy: of a screen, a video signal, a paper, an export. It may hold a name in
    its pixels, and says nothing of how they were made. It is known by its SOP class or by any ConversionType
    (C.8.6.1) but DF: a digitised film under a radiographic SOP class is the radiograph itself, and is noted.

    Args:
        dataset: its PhotometricInterpretation becomes ``MONOCHROME1`` or ``MONOCHROME2``.
        secondary_capture: take Secondary Capture in grey, as some public data sets were published.

    Returns:
        notes on what the header leaves open.

    Raises:
        UnreadableImage: bright and dark cannot be told apart.
        NotARadiograph: another thing than one grey chest radiograph without text burned in.
    """
    notes = _monochrome(dataset)
    if whole(dataset, "NumberOfFrames", 1) > 1:
        raise NotARadiograph("several frames")
    modality = text(dataset, "Modality").upper()
    if modality in OTHER_MODALITIES:
        raise NotARadiograph(f"modality {modality}")
    if modality not in RADIOGRAPHY:
        notes.append("modality is not stated as radiography")
    body = text(dataset, "BodyPartExamined").upper()
    if "SPINE" in body or not any(word in body for word in CHEST):
        part = next((word for word in OTHER_BODY_PARTS if word in body), None)
        if part is not None:
            raise NotARadiograph(f"body part {part}")
        if body:
            notes.append("body part is not known to be the chest")
    notes += _original(dataset, secondary_capture)
    if text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING":
        notes.append("raw detector image (for processing)")
    return notes


def _monochrome(dataset: Dataset) -> list[str]:
    """Standardise the photometric interpretation; of contradictions of polarity, it is what the pixels follow.

    PS3.3 C.8.11.3.1.2 pairs MONOCHROME1 with the PresentationLUTShape INVERSE, MONOCHROME2 with IDENTITY.
    """
    written, shape = (
        text(dataset, keyword).upper() for keyword in ("PhotometricInterpretation", "PresentationLUTShape")
    )
    if not written:
        raise UnreadableImage("PhotometricInterpretation is missing: bright and dark cannot be told apart")
    if written.startswith(COLOURS) or whole(dataset, "SamplesPerPixel", 1) > 1:
        raise NotARadiograph("colour picture (secondary capture)")
    match = MONOCHROME.fullmatch(written)
    if match is None:
        raise UnreadableImage("PhotometricInterpretation is not known: bright and dark cannot be told apart")
    notes = []
    name = f"MONOCHROME{match[1] or (1 if shape == 'INVERSE' else 2)}"
    if not match[1]:
        notes.append(f"PhotometricInterpretation does not say 1 or 2 and was taken as {name}")
    if shape and shape != SHAPES[name]:
        notes.append("PresentationLUTShape contradicts PhotometricInterpretation, which was followed")
    dataset.PhotometricInterpretation = name
    return notes


def _original(dataset: Dataset, secondary_capture: bool) -> list[str]:
    """Set aside copies of screens and papers, and pictures that show a text or a face."""
    from pydicom.uid import UID

    classes = (text(dataset, "SOPClassUID"), text(dataset.file_meta, "MediaStorageSOPClassUID"))
    conversion = text(dataset, "ConversionType").upper()
    if not secondary_capture and (
        any(map(SECONDARY_CAPTURE.fullmatch, classes)) or conversion not in ("", DIGITISED_FILM)
    ):
        raise NotARadiograph("secondary capture, which may hold text (--secondary-capture takes it)")
    for uid in classes:
        if uid.startswith(STORAGE) and not RADIOGRAPHS.fullmatch(uid.removeprefix(STORAGE)):
            raise NotARadiograph(f"stored as {UID(uid).name if UID(uid).name != uid else 'an unknown kind of object'}")
    if any(SCREEN.search(str(value).upper()) for value in values(dataset, "ImageType")):
        raise NotARadiograph("screen save")
    if says_yes(dataset, "BurnedInAnnotation"):
        raise NotARadiograph("text burned into the picture")
    if says_yes(dataset, "RecognizableVisualFeatures"):
        raise NotARadiograph("recognisable features of the patient")
    return ["digitised film: its label may stand in the picture"] if conversion == DIGITISED_FILM else []
