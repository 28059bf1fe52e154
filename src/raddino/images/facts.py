"""Sex, age and view as hospitals and data sets write them, to one form each."""

import math
import re
import unicodedata

OLDEST = 120.0
BMI_LIMITS = (5, 120)
YEARS_PER_UNIT = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}
# On the side with a level beam: a frontal view, whatever its name says. Dorsal and ventral decubitus are not.
DECUBITUS = re.compile(
    r"\b(?:(?:LEFT|RIGHT|L|R) )?LAT(?:ERAL)? DECUB[A-Z]*|\bDECUB[A-Z]* LATER[A-Z]*|\b[LR]LD(?:EC[A-Z]*)?\b"
    r"|\b[A-Z]*SEITENLAGE\b"
)
BACK_OR_FRONT = re.compile(r"\b(?:DORSAL|VENTRAL) DECUB[A-Z]*")
LATERAL = re.compile(r"\b(?:LL|RL|[LR]?LAT|LATER[A-Z]*|PERFIL|PROFILO?|SEITLICH[A-Z]*|SEITAUFNAHME)\b")
OBLIQUE = re.compile(r"\b(?:LAO|RAO|LPO|RPO|LLO|RLO|OBLI[A-Z]*|SCHRAE?G)\b")
POSTERIOR_ANTERIOR = re.compile(r"\b(?:P ?A|POST[A-Z]* ?ANT[A-Z]*|DORSO ?VENTRAL[A-Z]*)\b")
ANTERIOR_POSTERIOR = re.compile(r"\b(?:A ?P|ANT[A-Z]* ?POST[A-Z]*|VENTRO ?DORSAL[A-Z]*)\b")
FRONTAL = re.compile(r"\b(?:FRONTAL[A-Z]*|FACE|SIDELYING)\b")


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

    ``"AP Supine"`` and ``"a.p."`` are AP; a bare ``"frontal"`` does not say which and stays ``"FRONTAL"``, as does a
    lateral decubitus, which is a frontal view of a patient who lies on the side. Words of English, Spanish, French,
    German, Italian and Portuguese.
    """
    plain = unicodedata.normalize("NFKD", str(text).upper()).encode("ascii", "ignore").decode()
    words = re.sub(r"[^A-Z]+", " ", plain).strip()
    words = DECUBITUS.sub("SIDELYING", BACK_OR_FRONT.sub(" ", words))
    for view, pattern in (
        ("OBLIQUE", OBLIQUE),
        ("LATERAL", LATERAL),
        ("PA", POSTERIOR_ANTERIOR),
        ("AP", ANTERIOR_POSTERIOR),
        ("FRONTAL", FRONTAL),
    ):
        if pattern.search(words):
            return view
    return None


def plausible(value: object, low: float, high: float) -> float | None:
    """``value`` as a float within ``low`` to ``high``, else None."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and low <= number <= high else None
