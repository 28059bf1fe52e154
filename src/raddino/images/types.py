"""What one file holds once it is read."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Facts:
    """Header facts that may leave the reader (the allow-list); None where a file does not say.

    Attributes:
        view: ``"PA"``, ``"AP"``, ``"FRONTAL"`` (one of them), ``"LATERAL"`` or ``"OBLIQUE"``.
        sex: ``"M"`` or ``"F"``.
        age: years.
        weight: kilograms.
        bmi: kilograms per square metre.
        modality: DICOM modality, for example ``"DX"``.
        photometric: ``"MONOCHROME1"`` (stored low = bright) or ``"MONOCHROME2"``; of other files the former, or None.
        bits_stored: significant bits of a stored value.
        spacing_mm: height and width of a pixel at the detector, millimetres; only the ratio for an aspect
            tag.
        manufacturer, model, detector, kvp, exposure_index, portable, year_band, patient_position: how the image was
            taken, see :mod:`raddino.images.acquisition`; ``model`` only where it is known by name.
    """

    view: str | None = None
    sex: str | None = None
    age: float | None = None
    weight: float | None = None
    bmi: float | None = None
    modality: str | None = None
    photometric: str | None = None
    bits_stored: int | None = None
    spacing_mm: tuple[float, float] | None = None
    manufacturer: str | None = None
    model: str | None = None
    detector: str | None = None
    kvp: float | None = None
    exposure_index: float | None = None
    portable: float | None = None
    year_band: str | None = None
    patient_position: str | None = None


@dataclass(frozen=True)
class Identifiers:
    """Who and where: for keyed hashing only, and hidden from ``repr``; ``model`` where it is not known by name."""

    patient: str | None = field(default=None, repr=False)
    study: str | None = field(default=None, repr=False)
    station: str | None = field(default=None, repr=False)
    model: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Radiograph:
    """One calibrated grey image.

    Attributes:
        pixels: (H, W) float32, higher = brighter (bone white), in modality units (negated where the file
            stores them inverted), never clipped.
        valid: (H, W) bool, False on padding; None when every pixel counts.
        facts: allow-listed header facts.
        identifiers: for keyed hashing, never for printing.
        warnings: what a user should know, in fixed words.
    """

    pixels: np.ndarray
    valid: np.ndarray | None = None
    facts: Facts = field(default_factory=Facts)
    identifiers: Identifiers = field(default_factory=Identifiers)
    warnings: tuple[str, ...] = ()
