"""One file to one radiograph, recognised by its content and never by its name."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from raddino.images import raster
from raddino.images.archive import check_size
from raddino.images.decode import COMPLAINT
from raddino.images.errors import NotARadiograph, UnreadableImage
from raddino.images.intensity import to_grey
from raddino.images.types import Radiograph
from raddino.images.wall import printed

__all__ = ["read_image", "read_mask", "to_grey"]

LARGEST_ASPECT = 8
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
MASK_SIGNATURES = {**SIGNATURES, b"GIF87a": "GIF", b"GIF89a": "GIF"}


def read_image(file: str | Path | bytes, secondary_capture: bool = False) -> Radiograph:
    """Read DICOM, PNG, JPEG, JPEG 2000, TIFF, or a raw image of the JSRT into calibrated grey.

    Args:
        file: its path, or its bytes.
        secondary_capture: take DICOM Secondary Capture in grey too, see :func:`raddino.images.admit.admit`.

    Returns:
        pixels (H, W) float32, higher = brighter: modality LUT and non-linear VOI applied, MONOCHROME1 turned,
        unused bits dropped, padding marked in ``valid``. A linear window is not applied: up to its clipping
        it is affine, and the min-max of :func:`to_grey` absorbs that.

    Raises:
        UnreadableImage: missing, damaged, truncated, of another format, or over a size limit.
        NotARadiograph: readable and set aside (colour, CT, a hand, several frames, a strip).
    """
    data = _bytes(file)
    kind = sniff(data)
    if kind == "DICOM":
        from raddino.images.dicom import read_dicom

        radiograph = read_dicom(data, secondary_capture)
    elif kind == "JSRT":
        radiograph = raster.read_jsrt(data)
    else:
        radiograph = raster.read_raster(data, kind)
    if printed() and COMPLAINT not in radiograph.warnings:
        radiograph = replace(radiograph, warnings=(*radiograph.warnings, COMPLAINT))
    shorter, longer = sorted(radiograph.pixels.shape)
    if longer > LARGEST_ASPECT * shorter:
        raise NotARadiograph(f"a strip: more than {LARGEST_ASPECT} times as long as wide")
    if np.ptp(radiograph.pixels[0]) == 0 and np.ptp(radiograph.pixels) == 0:  # of most pictures one row tells
        radiograph = replace(radiograph, warnings=(*radiograph.warnings, "all pixels are equal"))
    return radiograph


def read_mask(file: str | Path | bytes) -> np.ndarray:
    """The values of a mask file (PNG, TIFF, JPEG, JPEG 2000 or GIF), (H, W) uint8 or uint16, exactly as stored.

    Raises:
        UnreadableImage: missing, damaged, or not one channel of whole numbers.
    """
    data = _bytes(file)
    kind = sniff(data, MASK_SIGNATURES)
    if kind in ("DICOM", "JSRT"):
        raise UnreadableImage("mask is a DICOM file or a raw image of the JSRT")
    return raster.read_mask(data, kind)


def sniff(data: bytes, signatures: dict[bytes, str] = SIGNATURES) -> str:
    """``"DICOM"``, ``"JSRT"``, or one of ``signatures``, from the first bytes (for the JSRT from all of them).

    Raises:
        UnreadableImage: none of them.
    """
    if not data:
        raise UnreadableImage("empty file")
    if data[128:132] == b"DICM":  # first, for the 128 bytes before may hold a TIFF header (PS3.10 7.1)
        return "DICOM"
    for signature, kind in signatures.items():
        if data.startswith(signature):
            return kind
    if raster.is_jsrt(data):
        return "JSRT"
    if data[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08") and len(data) > 132:  # a data set without preamble
        return "DICOM"
    raise UnreadableImage("not a DICOM, PNG, JPEG, JPEG 2000 or TIFF file")


def _bytes(file: str | Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file
    path = Path(file)
    try:
        if not path.is_file():
            raise UnreadableImage("file not found")
        check_size(path.stat().st_size)
        return path.read_bytes()
    except OSError:
        raise UnreadableImage("file cannot be opened") from None
