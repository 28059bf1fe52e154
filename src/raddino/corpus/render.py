"""One file to the PNGs that a shard holds: what runs behind the wall, where other people's bytes are decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from raddino.corpus.shards import encode_png
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.intensity import resize_nearest, to_grey
from raddino.images.mask_codes import decode, is_code
from raddino.images.read import read_image, read_mask
from raddino.images.types import Facts, Identifiers

MASK_ASPECT_TOLERANCE = 0.02
THINNED = 256


@dataclass(frozen=True)
class Rendered:
    """A file, ready to be packed.

    Attributes:
        png: the image.
        shape: its (height, width).
        sha256: :func:`digest` of its pixels.
        sha256_source: :func:`source_digest` of the file's.
        masks: name to PNG, at the image's size.
        sha256_masks: joint digest of the masks; None without any.
        facts: of the file's header.
        identifiers: for keyed hashing only.
        notes: what a user should know, in fixed words.
    """

    png: bytes
    shape: tuple[int, int]
    sha256: str
    sha256_source: str
    masks: dict[str, bytes]
    sha256_masks: str | None
    facts: Facts
    identifiers: Identifiers
    notes: list[str]


def render(
    file: str | bytes,
    masks: Mapping[str, Sequence[str | bytes]],
    shorter_side: int,
    bits: int,
    frontal_only: bool,
    secondary_capture: bool,
) -> Rendered:
    """Read and prepare one image and its masks, each of which unites files and codes.

    Args:
        file: the image's path or bytes.
        masks: name to codes and files, by paths or bytes; one that does not fit is left out with a note.
        shorter_side: pixels.
        bits: 8 or 16.
        frontal_only: set aside what its header calls lateral or oblique.
        secondary_capture: take DICOM Secondary Capture too.

    Raises:
        ImageError: the image is unreadable or set aside.
    """
    radiograph = read_image(file, secondary_capture)
    if frontal_only:
        check_frontal(radiograph.facts.view)
    image = to_grey(radiograph, shorter_side, bits)
    notes = list(radiograph.warnings)
    fitting = {}
    for name, parts in masks.items():
        try:
            fitting[name] = _mask(parts, radiograph.pixels.shape, image.shape)
        except ImageError as error:
            notes.append(f"mask {name} left out: {error.reason}")
    return Rendered(
        encode_png(image),
        (image.shape[0], image.shape[1]),
        digest(image),
        source_digest(radiograph.pixels),
        {name: encode_png(mask) for name, mask in fitting.items()},
        joint_digest(fitting) if fitting else None,
        radiograph.facts,
        radiograph.identifiers,
        notes,
    )


def check_frontal(view: str | None) -> None:
    """Set a lateral or oblique view aside.

    Raises:
        NotARadiograph: it is one.
    """
    if view in ("LATERAL", "OBLIQUE"):
        raise NotARadiograph(f"{view.lower()} view left out")


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's type, shape and little-endian values."""
    header = f"{array.dtype.name}{array.shape}".encode()
    return hashlib.sha256(header + array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def source_digest(pixels: np.ndarray) -> str:
    """:func:`digest` of calibrated pixels as they lie in the file, thinned to a few hundred a side."""
    every = max(1, min(pixels.shape) // THINNED)
    return digest(np.ascontiguousarray(pixels[::every, ::every]))


def joint_digest(masks: dict[str, np.ndarray]) -> str:
    """One digest of the masks of an image, whatever their order."""
    parts = (f"{name} {digest(mask)}" for name, mask in sorted(masks.items()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _mask(parts: Sequence[str | bytes], source_shape: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The greatest value that one of ``parts`` has at each pixel of ``shape``."""
    return reduce(np.maximum, (_layer(part, source_shape, shape) for part in parts))


def _layer(part: str | bytes, source_shape: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    mask = decode(part, source_shape) if isinstance(part, str) and is_code(part) else read_mask(part)
    aspects = mask.shape[1] / mask.shape[0], source_shape[1] / source_shape[0]
    if abs(aspects[0] / aspects[1] - 1) > MASK_ASPECT_TOLERANCE:
        raise UnreadableImage("its shape is not the image's")
    return resize_nearest(mask, (shape[0], shape[1]))
