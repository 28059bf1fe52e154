"""A file as the segmentation model sees it: what runs behind the wall, where other people's bytes are decoded."""

from dataclasses import dataclass
from pathlib import Path

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


def read_prepared(file: Path, shorter_side: int | None, secondary_capture: bool = False, bits: int = 8) -> Prepared:
    """Read one file.

    Raises:
        ImageError: it is unreadable or set aside.
    """
    radiograph = read_image(file, secondary_capture)
    height, width = radiograph.pixels.shape
    with file.open("rb") as stream:
        kind = sniff(stream.read(HEADER))
    return Prepared(to_grey(radiograph, shorter_side, bits), (height, width), kind == "DICOM", radiograph.warnings)
