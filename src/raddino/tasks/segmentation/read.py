"""A file as the segmentation model sees it: what runs behind the wall, where other people's bytes are decoded."""

from dataclasses import dataclass

import numpy as np

from raddino.images.read import read_image, sniff, to_grey

HEADER = 256


@dataclass(frozen=True)
class Prepared:
    """One file, read: grey (h, w) as the model sees it, the size of its masks, whether it is DICOM, and notes."""

    grey: np.ndarray
    stored: tuple[int, int]
    dicom: bool
    warnings: tuple[str, ...] = ()


def read_prepared(
    file: str | bytes, shorter_side: int | None, secondary_capture: bool = False, bits: int = 8
) -> Prepared:
    """Read one file, by its path or bytes.

    Raises:
        ImageError: it is unreadable or set aside.
    """
    radiograph = read_image(file, secondary_capture)
    height, width = radiograph.pixels.shape
    kind = sniff(file if isinstance(file, bytes) else _head(file))
    return Prepared(to_grey(radiograph, shorter_side, bits), (height, width), kind == "DICOM", radiograph.warnings)


def _head(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(HEADER)
