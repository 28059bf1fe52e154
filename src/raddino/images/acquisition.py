"""How an image was taken, as makers, hospitals and data sets write it, to words of ours.

Nothing of what a cell says is repeated: what leaves is a word of this file, a number of few digits, or nothing.
"""

from __future__ import annotations

import re
import unicodedata

from raddino.images.devices import MANUFACTURERS, MODELS
from raddino.images.facts import plausible

ACQUISITION = (
    "manufacturer", "model", "station", "detector", "kvp", "exposure_index", "portable", "year_band",
    "patient_position",
)  # fmt: skip
"""Facts of the acquisition, as columns of a manifest."""
OTHER = "other"
DETECTORS = ("DIRECT", "SCINTILLATOR", "STORAGE", "FILM")
KVP_LIMITS, EXPOSURE_INDEX_LIMITS = (20, 200), (1, 100_000)
YEARS_A_BAND, FIRST_YEAR, SHIFTED_YEAR = 5, 1960, 2100
SHIFTED = "shifted"
"""Stands for all years from 2100 on: dates that were moved to protect patients, and tell no time."""
DATE = re.compile(
    r"(?:(\d{4})(?:[-/.]?\d{1,2}[-/.]?\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4})|[A-Z][a-z]+ \d{1,2}, (\d{4}))"
    r"(?:[T ].*|\.0)?"
)
BAND = re.compile(r"(\d{4})-(\d{4})")
PUBLISHERS_NUMBER = re.compile(r"(?:CODED )?(\d{1,2})")

NOT_PORTABLE = re.compile(
    r"\bNON ?PORTABLE\b|\b(?:NOT|NO|NAO|NICHT|PAS) (?:PORTA[BT][A-Z]*|MOBIL[A-Z]*)\b"
    r"|\bWALL ?(?:STAND|BUCKY)\b|\b(?:RASTER)?WANDSTATIV[A-Z]*\b"
)
PORTABLE = re.compile(
    r"\bPORTABLES?\b|\bPORTATI(?:L|LE|F)\b|\bMOBILE (?:UNIT|CHEST|THORAX|CXR|X ?RAY)\b|\b(?:CHEST|THORAX|CXR) MOBILE\b"
    r"|^MOBILE$|\bBED ?SIDE\b|\bBETT(?:AUFNAHME[A-Z]*|LUNGE|THORAX)\b|\bIM BETT\b|\bAU LIT\b|\bA LETTO\b|\bNO LEITO\b"
)
HEAD_OR_FEET_FIRST = {"S": "SUPINE", "P": "PRONE", "DR": "DECUBITUS", "DL": "DECUBITUS"}
PATIENT_POSITION = re.compile(r"(?:[HF]F|[LRAP]F)(S|P|DR|DL)")
POSITIONS = {
    "SUPINE": r"\bSUPIN[AEO]\b|\bDORSAL DECUB[A-Z]*|\bDECUB[A-Z]* (?:SUPIN[AEO]|DORSAL[A-Z]*)\b|\bRUCKENLAGE\b",
    "PRONE": r"\bPRON[AEO]\b(?! TO\b)|\bVENTRAL DECUB[A-Z]*|\bDECUB[A-Z]* (?:PRON[AEO]|VENTRAL[A-Z]*)\b|\bBAUCHLAGE\b",
    "DECUBITUS": r"^DECUBITUS$|\bLAT(?:ERAL)? ?DEC(?:UB[A-Z]*)?\b|\b(?:LEFT|RIGHT|LT|RT|L|R) DECUB[A-Z]*"
    r"|\bDECUB[A-Z]* (?:LATER[A-Z]*|LAT|LEFT|RIGHT|L|R)\b|\b[LR]LD(?:EC[A-Z]*)?\b|\b[A-Z]*SEITENLAGE\b",
    "SEMI-ERECT": r"\bSEMI ?(?:ERECT|UPRIGHT|RECUMBENT|SITTING|SENTAD[AO]|ASSISE?)\b|\bHALBSITZEND\b",
    "ERECT": r"\bERECT\b|\bUPRIGHT\b|(?<!LONG )\bSTANDING\b|\bSITTING\b|\bSEATED\b|\bSTEHEND\b|\bSITZEND\b|\bDEBOUT\b"
    r"|\bASSISE?\b|\bBIPEDESTACION\b|\bDE PIE\b|\bSENTAD[AO]\b|\bORTOSTA[A-Z]*\b|\bIN PIEDI\b|\bEM PE\b",
    "RECUMBENT": r"\bRECUMBENT\b|(?<!LOW )\bLYING\b|\bLIEGEND\b|\bCOUCHEE?\b|\bACOSTAD[AO]\b|\bDEITAD[AO]\b"
    r"|\bSDRAIAT[AO]\b",
}
"""Sitting counts as erect (PS3.16 CID 20 has it as a modifier of erect); dorsal decubitus is lying on the back."""


def parse_manufacturer(text: object) -> str | None:
    """A name of :data:`~raddino.images.devices.MANUFACTURERS`, else ``"other"``; None where nothing is written.

    A number of one or two digits, which some publishers put in the place of a name, becomes ``"coded 1"``.
    """
    words = plain(text)
    if not words:
        return None
    if coded := PUBLISHERS_NUMBER.fullmatch(words):
        return f"coded {int(coded[1])}"
    return next((name for name, pattern in MANUFACTURERS.items() if re.search(pattern, words)), OTHER)


def parse_model(text: object) -> str | None:
    """A name of :data:`~raddino.images.devices.MODELS`, None for any other: its text may hold anything."""
    words = plain(text)
    return next((name for name, (pattern, _) in MODELS.items() if re.search(rf"\b(?:{pattern})", words)), None)


def parse_detector(text: object) -> str | None:
    """``"DIRECT"``, ``"SCINTILLATOR"``, ``"STORAGE"`` (phosphor) or ``"FILM"`` (PS3.3 C.8.11.4); None for others."""
    words = plain(text)
    return words if words in DETECTORS else None


def parse_kvp(text: object) -> float | None:
    """Peak kilovoltage, whole kV from 20 to 200; None for anything else."""
    number = plausible(text, *KVP_LIMITS)
    return None if number is None else float(round(number))


def parse_exposure_index(text: object) -> float | None:
    """An exposure index from 1 to 100,000, to two significant digits; None for anything else.

    Two digits tell exposures apart that differ by 10 %, half a step of the deviation index (IEC 62494-1), and are
    nobody's number.
    """
    number = plausible(text, *EXPOSURE_INDEX_LIMITS)
    return None if number is None else float(f"{number:.1e}")


def parse_portable(*texts: object, model: str | None = None) -> float | None:
    """1 where a mobile unit took the image, 0 where a fixed one did, None where nothing says so.

    Args:
        texts: descriptions of the examination. Words like ``PORTABLE`` and ``bedside`` count, in English, Spanish,
            French, German, Italian and Portuguese; that they lack says nothing.
        model: of :func:`parse_model`; counts where no description says.
    """
    words = [plain(text) for text in texts]
    if any(NOT_PORTABLE.search(one) for one in words):
        return 0.0
    if any(PORTABLE.search(one) for one in words):
        return 1.0
    mobile = MODELS[model][1] if model else None
    return None if mobile is None else float(mobile)


def parse_year_band(text: object) -> str | None:
    """``"2015-2019"`` from a date, a year or a band; None for anything else.

    Dates are ``20170314``, ``2017-03-14``, ``14.03.2017`` or ``March 14, 2017``, whatever follows behind a space.
    Years before 1960 are placeholders and give None. All from 2100 on are ``"shifted"``.
    """
    word = str(text).strip()
    band = BAND.fullmatch(word)
    if word.lower() == SHIFTED:
        return SHIFTED
    if band:
        begin, end = int(band[1]), int(band[2])
        return word if begin % YEARS_A_BAND == 0 and end == begin + YEARS_A_BAND - 1 else None
    found = DATE.fullmatch(word)
    return year_band(int(found[1] or found[2] or found[3])) if found else None


def year_band(year: int) -> str | None:
    """The band of five years that holds ``year``; see :func:`parse_year_band`."""
    if year >= SHIFTED_YEAR:
        return SHIFTED
    begin = year - year % YEARS_A_BAND
    return f"{begin}-{begin + YEARS_A_BAND - 1}" if year >= FIRST_YEAR else None


def parse_position(*texts: object) -> str | None:
    """``ERECT``, ``SEMI-ERECT``, ``SUPINE``, ``PRONE``, ``DECUBITUS`` (on the side) or ``RECUMBENT``; None if unknown.

    Args:
        texts: PatientPosition (``HFS``, or a word), code meanings, words of the view, the first that says something
            counts; one that says how the patient lies comes before a bare ``RECUMBENT``. Languages as in
            :func:`raddino.images.facts.parse_view`.
    """
    found = [position for text in texts if (position := _position(plain(text)))]
    return next((position for position in found if position != "RECUMBENT"), next(iter(found), None))


def _position(words: str) -> str | None:
    """The position that a text names, None where it names none, or two that exclude each other."""
    code = PATIENT_POSITION.fullmatch(words)
    if code:
        return HEAD_OR_FEET_FIRST[code[1]]
    named = []
    for position, pattern in POSITIONS.items():
        words, times = re.subn(pattern, " ", words)
        named += [position] * (times > 0)
    exact = [position for position in named if position != "RECUMBENT"]
    return next(iter(exact or named), None) if len(exact) < 2 else None


def plain(text: object) -> str:
    """Capital Latin letters and digits, one space between words; empty for None."""
    if text is None:
        return ""
    ascii_only = unicodedata.normalize("NFKD", str(text).upper()).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Z0-9]+", " ", ascii_only).strip()
