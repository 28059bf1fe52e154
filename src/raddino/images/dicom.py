"""DICOM bytes to calibrated grey: modality and VOI LUT (PS3.3 C.11), polarity, padding, facts."""

from __future__ import annotations

import logging
import warnings
import zlib
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.images.decode import stored_values, whole
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.facts import parse_age, parse_sex, parse_view, plausible
from raddino.images.phi import ALLOWED_ELEMENTS
from raddino.images.types import Facts, Identifiers, Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

RADIOGRAPHY = ("CR", "DX", "DR", "RG")
OTHER_MODALITIES = ("CT", "MR", "US", "PT", "NM", "MG", "XA", "RF", "IO", "PX", "SC", "SR", "SEG", "BMD")
CHEST = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "RIB", "HEART", "CLAVICLE", "STERNUM")
OTHER_BODY_PARTS = (
    "EXTREMITY", "HAND", "HIP", "KNEE", "FOOT", "ANKLE", "WRIST", "ELBOW", "SHOULDER", "FINGER", "TOE", "ARM",
    "LEG", "FEMUR", "TIBIA", "HUMERUS", "SKULL", "HEAD", "NECK", "JAW", "FACE", "SINUS", "SPINE", "PELVIS",
    "ABDOMEN", "BREAST", "CALCANEUS", "PATELLA", "SCAPULA",
)  # fmt: skip
DEFLATED = b"1.2.840.10008.1.2.1.99"
LARGEST_DATASET = 2**29


def read_dicom(data: bytes) -> Radiograph:
    """A chest radiograph from the bytes of a DICOM file, with or without preamble.

    Raises:
        UnreadableImage: the file is damaged, or lacks what its pixels need.
        NotARadiograph: colour, several frames, another modality or body part, or text burned in.
    """
    with quiet():
        try:
            dataset = parse(data)
            if "PixelData" not in dataset:
                raise UnreadableImage("no pixel data, or pixel data cut short")
            notes = _admit(dataset)
            values, more = stored_values(dataset)
            pixels, valid = _calibrate(values, dataset)
            return Radiograph(pixels, valid, _facts(dataset), _identifiers(dataset), (*notes, *more))
        except ImageError:
            raise
        except Exception:
            raise UnreadableImage("DICOM header is damaged") from None


def parse(data: bytes) -> Dataset:
    """The allow-listed elements of a file; no other element is read.

    Raises:
        UnreadableImage: not DICOM, or a damaged header.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _check_inflated_size(data)
    try:
        dataset = dcmread(BytesIO(data), force=True, specific_tags=list(ALLOWED_ELEMENTS))
        elements = len(dataset)
    except Exception:
        raise UnreadableImage("DICOM header is damaged") from None
    if not elements:
        raise UnreadableImage("not a whole DICOM file")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _admit(dataset: Dataset) -> list[str]:
    """Set aside what is not a chest radiograph; returns warnings on what the header leaves open."""
    notes = []
    photometric = _text(dataset, "PhotometricInterpretation").upper()
    if not photometric:
        raise UnreadableImage("PhotometricInterpretation is missing: bright and dark cannot be told apart")
    if not photometric.startswith("MONOCHROME") or whole(dataset, "SamplesPerPixel", 1) > 1:
        raise NotARadiograph("colour picture (secondary capture)")
    frames = whole(dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise NotARadiograph("several frames")
    modality = _text(dataset, "Modality").upper()
    if modality in OTHER_MODALITIES:
        raise NotARadiograph(f"modality {modality}")
    if modality not in RADIOGRAPHY:
        notes.append("modality is not stated as radiography")
    body = _text(dataset, "BodyPartExamined").upper()
    if "SPINE" in body or not any(word in body for word in CHEST):
        part = next((word for word in OTHER_BODY_PARTS if word in body), None)
        if part is not None:
            raise NotARadiograph(f"body part {part}")
        if body:
            notes.append("body part is not known to be the chest")
    if _text(dataset, "BurnedInAnnotation").upper() == "YES":
        raise NotARadiograph("text burned into the picture")
    if _text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING":
        notes.append("raw detector image (for processing)")
    if _first(dataset, "RescaleSlope") is not None and not _number(dataset, "RescaleSlope"):
        notes.append("RescaleSlope is not a usable number and was taken as 1")
    return notes


def _calibrate(values: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Stored values (H, W) to float32 brightness and the mask of what is not padding."""
    valid = _not_padding(values, dataset)
    pixels = values.astype(np.float64)
    if dataset.get("ModalityLUTSequence"):
        pixels = _look_up(pixels, dataset.ModalityLUTSequence[0], dataset)
    else:
        pixels = pixels * (_number(dataset, "RescaleSlope") or 1.0)
        pixels += _number(dataset, "RescaleIntercept") or 0.0
    if dataset.get("VOILUTSequence"):
        pixels = _look_up(pixels, dataset.VOILUTSequence[0], dataset)
    elif _text(dataset, "VOILUTFunction").upper() == "SIGMOID":
        center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
        if center is not None and width and width > 0:
            pixels = 1 / (1 + np.exp(-4 * (pixels - center) / width))
    if _text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1":
        pixels = -pixels
    return pixels.astype(np.float32), valid


def _not_padding(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """(H, W) False where a stored value is PixelPaddingValue or within its range (PS3.3 C.7.5.1.1.2)."""
    try:
        first = whole(dataset, "PixelPaddingValue")
        last = whole(dataset, "PixelPaddingRangeLimit", first)
    except UnreadableImage:
        return None
    if whole(dataset, "PixelRepresentation", 0) == 1:
        wrap = 2 ** whole(dataset, "BitsStored")
        first, last = (value - wrap if value >= wrap // 2 else value for value in (first, last))
    valid = (values < min(first, last)) | (values > max(first, last))
    return None if valid.all() else valid


def _look_up(pixels: np.ndarray, item: Dataset, dataset: Dataset) -> np.ndarray:
    """Apply one LUT item (PS3.3 C.11.1.1): beyond its first and last entry, values take that entry."""
    try:
        entries, start, bits = (int(value) for value in item.LUTDescriptor)
        entries = entries or 65536
        raw = item.LUTData
        if isinstance(raw, bytes):
            order = ">" if not dataset.original_encoding[1] else "<"
            table = np.frombuffer(raw, np.uint8 if bits <= 8 and len(raw) < 2 * entries else f"{order}u2")
        else:
            table = np.asarray(raw)
    except Exception:
        raise UnreadableImage("lookup table is damaged") from None
    if len(table) < entries:
        raise UnreadableImage("lookup table is shorter than its descriptor says")
    if start >= 32768 and pixels.min() < 0:
        start -= 65536
    return np.interp(pixels, start + np.arange(entries), table[:entries].astype(np.float64))


def _facts(dataset: Dataset) -> Facts:
    age = parse_age(_text(dataset, "PatientAge"))
    weight = plausible(_first(dataset, "PatientWeight"), 0.3, 400)
    size = plausible(_first(dataset, "PatientSize"), 0.3, 2.6)
    modality = _text(dataset, "Modality").upper()
    return Facts(
        view=_view(dataset),
        sex=parse_sex(_text(dataset, "PatientSex")),
        age=_age_from_dates(dataset) if age is None else age,
        weight=weight,
        bmi=round(weight / size**2, 2) if weight and size else None,
        modality=modality if modality in RADIOGRAPHY else None,
        photometric=_text(dataset, "PhotometricInterpretation").upper(),
        bits_stored=whole(dataset, "BitsStored"),
        spacing_mm=_spacing(dataset),
    )


def _view(dataset: Dataset) -> str | None:
    words = [_text(dataset, "ViewPosition")]
    words += [_text(item, "CodeMeaning") for item in _values(dataset, "ViewCodeSequence")]
    known = next((view for view in map(parse_view, words) if view), None)
    direction = _text(dataset, "PatientOrientation")[:1].upper()
    return known or ("LATERAL" if direction in ("A", "P") else None)


def _age_from_dates(dataset: Dataset) -> float | None:
    """Completed years between birth and study; below two years, completed months."""
    dates = (_text(dataset, name) for name in ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate"))
    study = next((date for date in dates if date), "")
    try:
        then, now = (datetime.strptime(date, "%Y%m%d") for date in (_text(dataset, "PatientBirthDate"), study))
    except ValueError:
        return None
    months = (now.year - then.year) * 12 + now.month - then.month - (now.day < then.day)
    return parse_age(f"{months}M" if months < 24 else f"{months // 12}Y")


def _identifiers(dataset: Dataset) -> Identifiers:
    return Identifiers(_text(dataset, "PatientID") or None, _text(dataset, "StudyInstanceUID") or None)


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    for name in ("ImagerPixelSpacing", "PixelSpacing", "PixelAspectRatio"):
        sizes = [plausible(value, 1e-4, 1e4) for value in _values(dataset, name)]
        if len(sizes) == 2 and sizes[0] and sizes[1]:
            return sizes[0], sizes[1]
    return None


def _text(dataset: Dataset, keyword: str) -> str:
    """The first value of an element as stripped text; missing or unparsable gives an empty string."""
    value = _first(dataset, keyword)
    return "" if value is None else str(value).strip()


def _number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of an element as a finite number."""
    return plausible(_first(dataset, keyword), -1e9, 1e9)


def _first(dataset: Dataset, keyword: str) -> Any:
    return next(iter(_values(dataset, keyword)), None)


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    """All values of an element; none when it is missing, empty or cannot be parsed."""
    try:
        value = dataset.get(keyword)
    except Exception:
        return []
    if value is None or (isinstance(value, str) and not value):
        return []
    return list(value) if isinstance(value, MutableSequence) else [value]


def _check_inflated_size(data: bytes) -> None:
    """Refuse a deflated data set that grows beyond 512 MiB, before it is inflated whole."""
    if DEFLATED in data[132:1024]:
        start = 144 + int.from_bytes(data[140:144], "little")
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            inflater.decompress(data[start:], LARGEST_DATASET)
        except zlib.error:
            raise UnreadableImage("deflated data set is damaged") from None
        if inflater.unconsumed_tail:
            raise UnreadableImage(f"deflated data set of more than {LARGEST_DATASET // 2**20} MiB")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings, which quote element values, out of logs and terminals."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before
