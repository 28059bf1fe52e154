"""DICOM files opened: every element's text; of our own segmentations, what they say of their source on purpose."""

from __future__ import annotations

from typing import Any

from raddino.audit.pieces import Found, Piece, Unpacker
from raddino.images.dicom import quiet

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
REFERRING = frozenset((
    "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID",
    "ReferencedSOPInstanceUID", "ReferencedSOPClassUID",
))  # fmt: skip
"""As the documentation states them; not taken from what writes the objects, whose mistakes are to be found."""
WRITTEN = frozenset((
    "ContentDate", "ContentTime", "SeriesDate", "SeriesTime", "InstanceCreationDate", "InstanceCreationTime",
    "AcquisitionDateTime",
))  # fmt: skip
JOINS = "a DICOM SEG joins the patient, study and image it was made from"
WHEN = "a DICOM SEG says when it was written"
OWN_UID = "a DICOM SEG has UIDs of its own"


def dicom(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    """Texts of all elements; bytes of unknown and private ones opened as files are; the pixels are in the raw bytes."""
    import io

    from pydicom import config, dcmread

    with quiet(), config.disable_value_validation():
        image = dcmread(io.BytesIO(data))
        ours = image.get("SOPClassUID") == SEGMENTATION and image.get("Manufacturer") == "raddino"
        yield Piece(f"{place}: preamble", image.preamble or b"", "cells")
        for part in (image.file_meta, image):
            yield from _elements(unpacker, place, part, ours, depth)


def _elements(unpacker: Unpacker, place: str, dataset: Any, ours: bool, depth: int) -> Found:
    for tag in dataset.keys():  # noqa: SIM118  (elements are read one by one)
        element = dataset[tag]
        field = element.keyword or str(element.tag)
        below = f"{place}: {field}"
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(unpacker, below, item, ours, depth)
        elif isinstance(element.value, bytes):
            if field != "PixelData":
                yield from unpacker.pieces(below, element.value.strip(b"\0"), "", depth)
        elif element.value is not None:
            several = element.value if hasattr(element.value, "append") else [element.value]
            words = "\n".join(map(str, several)).encode("utf-8", "surrogateescape")
            yield Piece(below, words, "cells", field, _stated(field, element.VR) if ours else "")


def _stated(field: str, kind: str) -> str:
    if field in REFERRING or field == "MediaStorageSOPInstanceUID":
        return JOINS
    if field in WRITTEN:
        return WHEN
    return OWN_UID if kind == "UI" else ""
