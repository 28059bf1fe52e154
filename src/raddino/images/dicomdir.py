"""DICOMDIR (PS3.3 Annex F): the files that a medium's directory names, and nothing else that stands in it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from raddino.images.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset

NAME = "DICOMDIR"
STORAGE = b"1.2.840.10008.1.3.10"
HEAD = 1024
LARGEST = 2**28
IMAGE = "IMAGE"
PARTS, LONGEST_PART = 8, 64
"""PS3.10 8.2 allows 16 characters in a part of a name; media that hold more are read too."""


def is_dicomdir(path: str) -> bool:
    """Whether a file is one by its content."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return False
    return head[128:132] == b"DICM" and STORAGE in head and STORAGE + b"." not in head


def referenced_files(path: str) -> tuple[list[tuple[str, ...] | None], int]:
    """What the records of images name, in order; to be called behind a wall.

    Of a record are looked at: its kind, whether it is in use, and ReferencedFileID.

    Returns:
        the parts of each name below the DICOMDIR's folder, None for one that is missing or would lead elsewhere; and
        how many records in use are of other kinds and name a file.

    Raises:
        UnreadableImage: not a DICOMDIR, or damaged.
    """
    from pydicom import dcmread

    from raddino.images.dicom import quiet

    data = Path(path).read_bytes() if Path(path).stat().st_size <= LARGEST else b""
    names: list[tuple[str, ...] | None] = []
    others = 0
    with quiet():
        try:
            records = dcmread(BytesIO(data), specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
            for record in records:
                if record.get("RecordInUseFlag", 0xFFFF) == 0:
                    continue
                if str(record.get("DirectoryRecordType", IMAGE)).strip() == IMAGE:
                    names.append(_parts(record))
                else:
                    others += "ReferencedFileID" in record
        except Exception:
            raise UnreadableImage("DICOMDIR is damaged") from None
    return names, others


def _parts(record: Dataset) -> tuple[str, ...] | None:
    value = record.get("ReferencedFileID")
    parts = (value,) if isinstance(value, str) else tuple(map(str, value or ()))
    parts = tuple(part.strip() for part in parts)
    sound = 0 < len(parts) <= PARTS and all(
        0 < len(part) <= LONGEST_PART and part.strip(".") and "/" not in part and "\0" not in part for part in parts
    )
    return parts if sound else None
