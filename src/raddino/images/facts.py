"""Sex, age and view as hospitals and data sets write them, to one form each."""

import math
import re

OLDEST = 120.0
YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}
LATERAL = re.compile(r"\b(LL|RL|LAT|LLAT|RLAT|LATERAL)\b")
OBLIQUE = re.compile(r"\b(LAO|RAO|LPO|RPO|LLO|RLO|OBLIQUE)\b")
POSTERIOR_ANTERIOR = re.compile(r"\b(PA|POSTERO ?ANTERIOR|POSTERIOR ANTERIOR)\b")
ANTERIOR_POSTERIOR = re.compile(r"\b(AP|ANTERO ?POSTERIOR|ANTERIOR POSTERIOR)\b")


def parse_age(text: object) -> float | None:
    """Years from ``"081Y"``, ``"011M"``, ``"3W"``, ``"021D"`` (DICOM AS, PS3.5 6.2), ``"62"`` or a number.

    None where there is no age, or one above 120 years.
    """
    match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d+)?)\s*([DWMY]?)\s*", str(text).upper())
    if match is None:
        return None
    years = float(match[1]) * YEARS_PER_UNIT[match[2]]
    return round(years, 4) if years <= OLDEST else None


def parse_sex(text: object) -> str | None:
    """``"M"`` or ``"F"`` from ``M``, ``male``, ``f`` …; None for anything else."""
    word = str(text).strip().upper()
    return {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}.get(word)


def parse_view(text: object) -> str | None:
    """``"PA"``, ``"AP"``, ``"LATERAL"`` or ``"OBLIQUE"`` from a view position or its words; None if unknown.

    ``"AP Supine"`` is AP; a bare ``"frontal"`` does not say which and stays ``"FRONTAL"``.
    """
    words = re.sub(r"[^A-Z]+", " ", str(text).upper()).strip()
    for view, pattern in (
        ("LATERAL", LATERAL),
        ("OBLIQUE", OBLIQUE),
        ("PA", POSTERIOR_ANTERIOR),
        ("AP", ANTERIOR_POSTERIOR),
    ):
        if pattern.search(words):
            return view
    return "FRONTAL" if "FRONTAL" in words else None


def plausible(value: object, low: float, high: float) -> float | None:
    """``value`` as a float within ``low`` to ``high``, else None."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and low <= number <= high else None
