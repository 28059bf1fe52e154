"""DICOM bytes to calibrated grey and to the facts of their header."""

from __future__ import annotations

import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from raddino.images.acquisition import (
    parse_detector,
    parse_exposure_index,
    parse_kvp,
    parse_manufacturer,
    parse_model,
    parse_portable,
    parse_position,
    year_band,
)
from raddino.images.admit import RADIOGRAPHY, admit
from raddino.images.calibrate import calibrate
from raddino.images.decode import stored_values, whole
from raddino.images.elements import first, text, unusable, values
from raddino.images.errors import ImageError, UnreadableImage
from raddino.images.facts import BMI_LIMITS, parse_age, parse_sex, parse_view, plausible
from raddino.images.intensity import LARGEST_PIXEL_RATIO
from raddino.images.orientation import orientation_notes
from raddino.images.padding import find_padding, stray_bits
from raddino.images.phi import ALLOWED_ELEMENTS, OVERLAY_BIT_POSITIONS
from raddino.images.types import Facts, Identifiers, Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

DEFLATED = b"1.2.840.10008.1.2.1.99"
LARGEST_DATASET = 2**29
MEASURES = {"PatientWeight": (0.3, 400), "PatientSize": (0.3, 2.6)}  # kilograms, metres
DESCRIPTIONS = (
    "SeriesDescription", "PerformedProcedureStepDescription", "StudyDescription", "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
)  # fmt: skip
DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
SPACINGS = ("ImagerPixelSpacing", "PixelSpacing", "PixelAspectRatio")
OUT_OF_RANGE = "{} is out of range and was left out"


def read_dicom(data: bytes, secondary_capture: bool = False) -> Radiograph:
    """A chest radiograph from the bytes of a DICOM file, with or without preamble.

    Args:
        data: the whole file.
        secondary_capture: take Secondary Capture too, see :func:`raddino.images.admit.admit`.

    Raises:
        UnreadableImage: the file is damaged, or lacks what its pixels need.
        NotARadiograph: colour, several frames, another modality or body part, a secondary capture, or text burned in.
    """
    with quiet():
        try:
            dataset = parse(data)
            if "PixelData" not in dataset:
                raise UnreadableImage("no pixel data, or pixel data cut short")
            notes = admit(dataset, secondary_capture)
            stored, of_decoding = stored_values(dataset)
            valid, of_padding = find_padding(stored, dataset)
            pixels, of_calibration = calibrate(stored, dataset)
            facts, of_facts = _facts(dataset)
            notes += [*of_decoding, *of_padding, *stray_bits(dataset, valid), *of_calibration, *of_facts]
            return Radiograph(pixels, valid, facts, _identifiers(dataset), tuple(notes))
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
    from pydicom.tag import Tag
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    allowed = [*map(Tag, ALLOWED_ELEMENTS), *map(Tag, OVERLAY_BIT_POSITIONS)]
    _check_inflated_size(data)
    try:
        dataset = dcmread(BytesIO(data), force=True, specific_tags=allowed)
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


def _facts(dataset: Dataset) -> tuple[Facts, list[str]]:
    """The facts of a header, and notes on those that are not plausible (left out) or contradict each other."""
    view, notes = _view(dataset)
    written = text(dataset, "PatientAge")
    age = parse_age(written)
    if written and age is None:
        notes.append(OUT_OF_RANGE.format("PatientAge"))
    weight, size = (plausible(first(dataset, keyword), *limits) for keyword, limits in MEASURES.items())
    for keyword, value in zip(MEASURES, (weight, size), strict=True):
        if value is None and unusable(dataset, keyword):
            notes.append(OUT_OF_RANGE.format(keyword))
    bmi = None
    if weight and size:
        bmi = plausible(round(weight / size**2, 2), *BMI_LIMITS)
        if bmi is None:
            notes.append(OUT_OF_RANGE.format("BMI of PatientWeight and PatientSize"))
    spacing, of_spacing = _spacing(dataset)
    modality = text(dataset, "Modality").upper()
    acquired, of_acquisition = _acquisition(dataset)
    facts = Facts(
        **acquired,
        view=view,
        sex=parse_sex(text(dataset, "PatientSex")),
        age=_age_from_dates(dataset) if age is None else age,
        weight=weight,
        bmi=bmi,
        modality=modality if modality in RADIOGRAPHY else None,
        photometric=text(dataset, "PhotometricInterpretation"),
        bits_stored=whole(dataset, "BitsStored"),
        spacing_mm=spacing,
    )
    return facts, [*notes, *of_acquisition, *of_spacing]


def _acquisition(dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    """How the image was taken, as :class:`~raddino.images.types.Facts` has it, and notes on what is out of range."""
    numbers = {
        "KVP": parse_kvp(first(dataset, "KVP")),
        "ExposureIndex": parse_exposure_index(first(dataset, "ExposureIndex")),
    }
    notes = [OUT_OF_RANGE.format(name) for name, value in numbers.items() if value is None and unusable(dataset, name)]
    view = [text(dataset, "ViewPosition"), *_meanings(dataset, "ViewCodeSequence")]
    described = [str(value) for name in DESCRIPTIONS for value in values(dataset, name)]
    lies = [text(dataset, "PatientPosition"), *_orientation(dataset)]
    model, date = parse_model(text(dataset, "ManufacturerModelName")), _study_date(dataset)
    facts = {
        "manufacturer": parse_manufacturer(text(dataset, "Manufacturer")),
        "model": model,
        "detector": parse_detector(text(dataset, "DetectorType")),
        "kvp": numbers["KVP"],
        "exposure_index": numbers["ExposureIndex"],
        "portable": parse_portable(*view, *described, model=model),
        "year_band": year_band(date.year) if date else None,
        "patient_position": parse_position(*lies, *view, *described),
    }
    return facts, notes


def _orientation(dataset: Dataset) -> list[str]:
    """Meanings of the codes of the patient's orientation, each modifier (``supine``) with what it modifies."""
    items = values(dataset, "PatientOrientationCodeSequence")
    modifiers = [_meanings(item, "PatientOrientationModifierCodeSequence") for item in items]
    return [" ".join([text(item, "CodeMeaning"), *more]) for item, more in zip(items, modifiers, strict=True)]


def _meanings(dataset: Dataset, keyword: str) -> list[str]:
    return [text(item, "CodeMeaning") for item in values(dataset, keyword)]


def _view(dataset: Dataset) -> tuple[str | None, list[str]]:
    """The view by its words, else LATERAL where PatientOrientation says so; and notes on contradictions."""
    words = [text(dataset, "ViewPosition"), *_meanings(dataset, "ViewCodeSequence")]
    known = [view for view in map(parse_view, words) if view]
    view = next((view for view in known if view != "FRONTAL"), next(iter(known), None))
    notes = ["ViewPosition and ViewCodeSequence contradict each other"] * (len({*known} - {"FRONTAL"}) > 1)
    notes += orientation_notes(dataset, view)
    direction = text(dataset, "PatientOrientation")[:1].upper()
    return view or ("LATERAL" if direction in ("A", "P") else None), notes


def _age_from_dates(dataset: Dataset) -> float | None:
    """Completed years between birth and study; below two years, completed months."""
    then, now = _date(text(dataset, "PatientBirthDate")), _study_date(dataset)
    if then is None or now is None:
        return None
    months = (now.year - then.year) * 12 + now.month - then.month - (now.day < then.day)
    return parse_age(f"{months}M" if months < 24 else f"{months // 12}Y")


def _study_date(dataset: Dataset) -> datetime | None:
    dates = (text(dataset, name) for name in DATES)
    return _date(next((date for date in dates if date), ""))


def _date(written: str) -> datetime | None:
    try:
        return datetime.strptime(written, "%Y%m%d")
    except ValueError:
        return None


def _identifiers(dataset: Dataset) -> Identifiers:
    """What is hashed; a model that is known by name is a fact, and not among it."""
    model = text(dataset, "ManufacturerModelName")
    return Identifiers(
        patient=text(dataset, "PatientID") or None,
        study=text(dataset, "StudyInstanceUID") or None,
        station=text(dataset, "StationName") or None,
        model=None if parse_model(model) else model or None,
    )


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, list[str]]:
    """Height and width of a pixel, and notes where what the header says is of no use."""
    for name in SPACINGS:
        sizes = [plausible(value, 1e-4, 1e4) for value in values(dataset, name)]
        if len(sizes) == 2 and sizes[0] and sizes[1]:
            unlikely = max(sizes[0], sizes[1]) > LARGEST_PIXEL_RATIO * min(sizes[0], sizes[1])
            notes = [f"{name} of more than {LARGEST_PIXEL_RATIO:g} to 1 was left alone"] * unlikely
            return (sizes[0], sizes[1]), notes
    return None, [f"{name} cannot be read" for name in SPACINGS if unusable(dataset, name)]


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
