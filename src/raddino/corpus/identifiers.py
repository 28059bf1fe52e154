"""Patients, studies and images by the ids of other people's tables: what spreadsheets and placeholders did to them."""

from __future__ import annotations

import re
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd

from raddino.corpus.cells import shown
from raddino.errors import RaddinoError, counted
from raddino.images.acquisition import parse_model
from raddino.images.phi import model_hash, station_hash

SHORTENED = r"[-+]?\d(?:(?:[.,]\d+)?[eE][+-]\d{2,3}|[.,]\d+[eE]\d{1,3})"
"""``1.23457E+11``: a number as spreadsheets show it, most of its digits lost."""
UNSEEN = re.compile(r"[\s\ufeff\u00ad\u200b-\u200f\u2060]+")
WHOLE = r"^(\d+)\.0+$"
MONTH = "(?:jan|feb|mar|mrz|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)"
DATED = (
    r"(?i:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{2}|\d{4})"
    rf"|\d{{1,2}}[-/. ]{MONTH}(?:[-/. ]\d{{2,4}})?|{MONTH}[-/. ]\d{{2,4}})(?:[T ]\d{{1,2}}:\d{{2}}(?::\d{{2}})?)?"
)
PLACEHOLDER = re.compile(
    r"[\W_]*(?:anon(?:ym(?:e|ous|us|i[sz]ed|isiert|o)?)?|de[-_ ]?identified|removed|redacted|masked|hidden|unknown|"
    r"unbekannt|unnamed|not (?:known|available|given)|no ?(?:name|id)|missing|none|null|nan|n[./]?a[.]?|x{2,})?"
    r"[\W_]*(?:patient)?[\W_]*",
    re.IGNORECASE,
)
EXCEL_DIGITS = 15
FEWEST_ROUNDED = 5
SHARES = ((100, 0.05), (9, 0.5))
"""More images than this, and a larger share of all: no single person has them."""


def is_placeholder(name: str) -> bool:
    """Whether a patient id stands for nobody: ``ANONYMOUS``, ``N/A``, ``unknown``, ``-`` …"""
    return PLACEHOLDER.fullmatch(name) is not None


def model_name(key: str, model: Any) -> str | None:
    """The model by its name where :func:`parse_model` knows it, else by its keyed hash; None for a placeholder."""
    if not _says(model):
        return None
    return parse_model(model) or model_hash(key, model)


def station_name(key: str, namespace: str, station: Any) -> str | None:
    """The station by its keyed hash; None for a placeholder."""
    return station_hash(key, namespace, station) if _says(station) else None


def _says(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and not is_placeholder(name)


def clean_ids(ids: pd.Series, kind: str, column: str) -> tuple[pd.Series, list[str]]:
    """Ids as they are to be hashed, and what a user has to know of them; no id stands in a note.

    Whole numbers lose the ``.0`` that tables put behind them; placeholders for patients become missing.

    Args:
        ids: text, missing where there is none.
        kind: ``"patient"``, ``"study"`` or ``"id"`` (the image's).
        column: the manifest's.

    Raises:
        RaddinoError: ids that lost their digits in a spreadsheet, so that patients or images would become one.
    """
    different = pd.Series(ids.dropna().unique(), dtype="str")
    dotted = different.str.fullmatch(WHOLE).any()
    if lost := int(different.str.fullmatch(SHORTENED).sum()):
        raise RaddinoError(
            f"{counted(lost, 'id')} in column {shown(column)} lost digits in a spreadsheet (like 1.2E+11), and "
            "would make different patients or images one: export the table again with the column as text, or leave it "
            f"out with --column {kind}="
        )
    notes = [] if kind == "id" else _doubts(different, column, dotted)
    if dotted:
        ids = ids.str.replace(WHOLE, r"\1", regex=True)
    if kind == "patient":
        wordy = different[~different.str.contains(r"\d")]
        rows = ids.isin([name for name in wordy if is_placeholder(name)])
        if rows.any():
            notes.append(
                f"{counted(int(rows.sum()), 'image')} with a placeholder as the patient in column {shown(column)}, "
                "taken as without one"
            )
            ids = ids.mask(rows)
    return ids, notes


def _doubts(different: pd.Series, column: str, dotted: bool) -> list[str]:
    """Where ids may have been other ones before a spreadsheet, or another program, wrote them."""
    notes = []
    mend = f"export column {shown(column)} as text"
    whole = different.str.replace(WHOLE, r"\1", regex=True) if dotted else different
    if merged := len(different) - whole.nunique():
        notes.append(f"{counted(merged, 'id')} in column {shown(column)} written with and without .0, taken for one")
    stripped = whole.drop_duplicates()
    stripped = stripped[stripped.str.fullmatch(r"\d+")].str.lstrip("0")
    if zeros := len(stripped) - stripped.nunique():
        notes.append(
            f"{counted(zeros, 'id')} in column {shown(column)} unlike another in leading zeros only, which "
            f"spreadsheets take off: taken as different; {mend} if that is wrong"
        )
    wordy = whole[~whole.str.fullmatch(r"\d+")].str.normalize("NFC").drop_duplicates()
    if alike := len(wordy) - len({UNSEEN.sub("", normalize("NFKC", name).casefold()) for name in wordy}):
        notes.append(
            f"{counted(alike, 'id')} in column {shown(column)} unlike another in case, spaces or unseen signs only: "
            "taken as different; write them alike if that is wrong"
        )
    long = stripped[stripped.str.len() > EXCEL_DIGITS]
    if len(long) >= FEWEST_ROUNDED and long.str.slice(EXCEL_DIGITS).str.fullmatch("0+").all():
        notes.append(
            f"the {len(long)} ids of more than {EXCEL_DIGITS} digits in column {shown(column)} end in zeros, as a "
            f"spreadsheet rounds them: different ones may have become one; {mend}"
        )
    if dates := int(whole.str.fullmatch(DATED).sum()):
        notes.append(
            f"{counted(dates, 'id')} in column {shown(column)} with the look of a date, which spreadsheets make of "
            f"some numbers; {mend} if it is none"
        )
    return notes


def dominant_patient(patients: pd.Series) -> list[str]:
    """A note where one patient holds more images than a person has (:data:`SHARES`): the id may stand for many.

    Args:
        patients: of each image.
    """
    counts = patients.value_counts()
    large = np.logical_or.reduce([(counts > n) & (counts > share * len(patients)) for n, share in SHARES])
    return [
        f"one patient holds {n} of {len(patients)} images: if that id stands for many people, map another column with "
        "--column patient=NAME, or leave it out with --column patient="
        for n in counts[large]
    ]
