"""Masks as a DICOM Segmentation object (PS3.3 A.51) that refers to the radiograph it was made from, by highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raddino import __version__
from raddino.errors import RaddinoError
from raddino.files import draft_of
from raddino.images.dicom import quiet
from raddino.images.errors import UnreadableImage
from raddino.tasks.segmentation.codes import Coded, codes_of

SERIES_NUMBER = 900
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
JOINING = (
    "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID",
    "SpecificCharacterSet",
)  # fmt: skip
"""Elements of the source by which an archive files the object under its patient, study and image (PS3.3 C.7, C.12)."""
DESCRIBING = (
    "Modality", "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
"""Elements from which the masks' own geometry and compression are told."""
DESCRIPTION = "Segmentation by raddino, not for diagnosis"


def need_highdicom() -> Any:
    """The library.

    Raises:
        RaddinoError: it is not installed; says how to install it.
    """
    try:
        import highdicom
    except ImportError:
        raise RaddinoError("DICOM SEG needs highdicom: pip install 'raddino[seg]'") from None
    return highdicom


def write_dicom_seg(
    path: Path, source: Path, masks: np.ndarray, names: Sequence[str], model: str, *, carry_header: bool = False
) -> None:
    """Write one binary segment a class, one frame each, also where it is empty.

    Of the source's header the object repeats :data:`JOINING` and what :data:`DESCRIBING` says of the masks; the other
    elements of patient and study that must be there (type 2, PS3.5 7.4.3) are empty.

    Args:
        path: of the new file.
        source: DICOM file of the radiograph, whose patient and study the object joins.
        masks: (C, Rows, Columns) bool at the size stored in ``source``.
        names: of the C classes, the segments' labels.
        model: version word of the segmentation model, at most 64 characters.
        carry_header: repeat all elements of the source's patient, study and equipment instead.

    Raises:
        UnreadableImage: the source lacks what a Segmentation has to say about it.
        RaddinoError: highdicom is not installed.
    """
    highdicom = need_highdicom()
    from pydicom import dcmread

    try:
        with quiet():
            image = dcmread(source, stop_before_pixels=True, force=True)
            image = _completed(image if carry_header else _minimum(image))
            made = _segmentation(highdicom, image, masks, names, model)
            if "ImageOrientationPatient" not in image:
                made.PatientOrientation = None  # type 2C (PS3.3 C.7.6.1); the source says it
    except (AttributeError, KeyError):
        raise UnreadableImage("its DICOM header lacks what a segmentation repeats (study, series, UIDs)") from None
    except (TypeError, ValueError) as error:
        raise UnreadableImage(f"its DICOM header does not allow a segmentation ({type(error).__name__})") from None
    with draft_of(path) as draft, quiet():
        made.save_as(draft)


def _minimum(image: Any) -> Any:
    from pydicom import Dataset

    kept = Dataset()
    for keyword in JOINING + DESCRIBING:
        if keyword in image:
            kept.add(image[keyword])
    return kept


def _completed(image: Any) -> Any:
    """The header with what may be empty but not missing (PS3.5 7.4.3), and the character sets by their full names.

    Pixel spacing goes: in a Segmentation it stands beside a slice thickness, which a projection does not have, and
    readers refuse one without the other. The image that is referred to still has it.
    """
    for keyword in MAY_BE_EMPTY:
        if keyword not in image:
            setattr(image, keyword, "")
    sets = image.get("SpecificCharacterSet")
    if sets and not isinstance(sets, str):
        image.SpecificCharacterSet = [one or "ISO 2022 IR 6" for one in sets]
    if "SliceThickness" not in image:
        image.pop("PixelSpacing", None)
    return image


def _segmentation(highdicom: Any, image: Any, masks: np.ndarray, names: Sequence[str], model: str) -> Any:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="raddino", family=_coded(highdicom, ("123109", "Artificial Intelligence"), "DCM"), version=model
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=_coded(highdicom, category),
            segmented_property_type=_coded(highdicom, kind),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, (name, (category, kind)) in enumerate(((one, codes_of(one)) for one in names), start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=[image],
        pixel_array=np.moveaxis(masks, 0, -1)[None],
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="raddino",
        manufacturer_model_name="raddino segment",
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        content_description=DESCRIPTION,
        series_description=DESCRIPTION,
        omit_empty_frames=False,
    )


def _coded(highdicom: Any, code: Coded, scheme: str = "SCT") -> Any:
    return highdicom.sr.CodedConcept(code[0], scheme, code[1])
