"""Label columns of a manifest, of whatever kind, to ``label_<name>`` with 1, 0 and NaN (not known)."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from raddino.corpus.cells import distinct, shown
from raddino.errors import ConfigError, counted

LISTED = re.compile(r"[|,;]")
UNLABELLED = {"", "todo", "unknown"}
LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
"""Latin letters that no decomposition brings to ASCII."""
TRUTH = {"true": 1.0, "false": 0.0}
QUOTABLE = re.compile(
    r"[-+]?\d{1,3}(?:[.,]\d{1,3})?|\?|yes|no|y|n|t|f|pos(?:itive)?|neg(?:ative)?|present|absent|uncertain|possible|"
    r"oui|non|ja|nein|si|vrai|faux|wahr|falsch",
    re.IGNORECASE,
)
"""Cells that an error may repeat: they can name nobody."""
MOST_LABELS, MOST_WORDS = 500, 8
FEW_LABELS, RARE_SHARE = 50, 0.5
DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{5}")
SENTENCE = re.compile(r"[.!]\s*$|[.!?]\s+[A-Z]\w+\s")


def snake_case(name: str) -> str:
    """``"Pleural_Thickening"``, ``"COVID-19"``, ``"Œdème"`` to ``pleural_thickening``, ``covid_19``, ``oedeme``.

    Letters of other scripts than the Latin one become underscores.
    """
    return re.sub(r"[^0-9a-z]+", "_", _plain(name)).strip("_")


def _plain(name: str) -> str:
    """In lower case, Latin letters without their marks."""
    if name.isascii():
        return name.lower()
    parts = unicodedata.normalize("NFKD", name.lower().translate(LETTERS))
    return "".join(sign for sign in parts if not unicodedata.combining(sign)).lower()


def label_columns(columns: list[str], sources: list[str]) -> dict[str, list[str]]:
    """Manifest columns that hold labels: ``label_x``, and ``<source>_x`` for a source of this manifest.

    Returns:
        our name ``label_x`` to the manifest's columns that mean it.

    Raises:
        ConfigError: a name without Latin letters.
    """
    prefixes = ["label", *(word for source in sources if (word := snake_case(source)))]
    found: dict[str, list[str]] = {}
    for column in columns:
        plain = snake_case(column)
        for prefix in prefixes:
            if plain.startswith(f"{prefix}_"):
                found.setdefault(f"label_{plain[len(prefix) + 1 :]}", []).append(column)
                break
            if plain == prefix and not column.isascii():
                raise ConfigError(
                    f"the name of column {shown(column)} has no Latin letters or digits after {prefix!r}: map it with "
                    "--column label_NAME=COLUMN"
                )
    return found


def is_label_cell(cell: Any) -> bool:
    """Whether a cell is 0, 1 or -1, however a table writes it."""
    return _number(cell) in (0.0, 1.0, -1.0)


def numeric_labels(values: pd.Series, name: str) -> pd.Series:
    """One 0/1 column as float32; -1 (CheXpert's "uncertain") becomes NaN, soft labels between 0 and 1 stay.

    ``TRUE`` and ``FALSE``, ``1.0``, spaces around a number and ``0,5`` are read too.

    Args:
        values: of any type that a table holds.
        name: of the column.

    Raises:
        ConfigError: a value that is not a label; repeats only what can name nobody.
    """
    codes, different = distinct(values, name)
    numbers = np.array([np.nan if (number := _number(cell)) is None else number for cell in different], dtype=float)
    wrong = ~((numbers >= 0) & (numbers <= 1) | (numbers == -1))
    if wrong.any():
        counts = np.bincount(codes[codes >= 0], minlength=len(different))
        said: Counter[str] = Counter()
        for cell, count in zip(np.asarray(different, dtype=object)[wrong], counts[wrong], strict=True):
            word = str(cell).strip()
            said[repr(word) if QUOTABLE.fullmatch(word) else "other text or numbers"] += int(count)
        listed = ", ".join(f"{count} x {word}" for word, count in said.most_common(5))
        raise ConfigError(
            f"column {shown(name)} is taken for a label, but {int(counts[wrong].sum())} of {len(values)} rows hold "
            f"more than 0, 1, -1 and empty ({listed}): write them so, or leave the column out with --column label_NAME="
        )
    numbers[numbers == -1] = np.nan
    return pd.Series(np.append(numbers, np.nan).astype(np.float32)[codes], index=values.index)


def listed_labels(
    values: pd.Series, sources: pd.Series, name: str = "labels", given: pd.DataFrame | None = None
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """``"Edema|Pneumonia"`` strings (also with commas or semicolons), or lists of names, to one column a label.

    A label a row does not list is 0 where its source uses that label at all, and NaN where the source never
    does; a row without any entry (or ``todo``, ``unknown``) is NaN throughout.

    Args:
        values: cells.
        sources: of each row.
        name: of the column.
        given: ``label_x`` columns of the same rows, whose numbers win over the list.

    Returns:
        ``given`` and the listed labels; and, by source and label, labelled images on which it is not known because
        their source never lists it.

    Raises:
        ConfigError: the cells read like free text, which must not become names of columns.
    """
    codes, different = distinct(values, name)
    parts = [_parts(cell) for cell in different]
    _refuse_text(parts, np.bincount(codes[codes >= 0], minlength=len(different)), name)
    names = [{snake_case(part) for part in cell} for cell in parts]
    labelled = np.array([*(not row <= UNLABELLED for row in names), False])[codes]
    origin, origins = pd.factorize(sources)
    pairs = np.unique(codes[labelled].astype(np.int64) * len(origins) + origin[labelled])
    columns = {} if given is None else {str(column): given[column] for column in given}
    unlisted: dict[str, dict[str, int]] = {}
    for label in sorted(set().union(*names) - UNLABELLED):
        column, listing = f"label_{label}", np.array([*(label in row for row in names), False])
        using = np.zeros(len(origins), dtype=bool)
        using[pairs[listing[pairs // len(origins)]] % len(origins)] = True
        told = np.where(labelled & using[origin], listing[codes], np.nan).astype(np.float32)
        told = columns[column].fillna(pd.Series(told, index=values.index)).to_numpy() if column in columns else told
        columns[column] = pd.Series(told, index=values.index)
        counts = np.bincount(origin[labelled & np.isnan(told) & ~using[origin]], minlength=len(origins))
        for source in np.flatnonzero(counts):
            unlisted.setdefault(str(origins[source]), {})[label] = int(counts[source])
    return pd.DataFrame(columns, index=values.index), unlisted


def _number(cell: Any) -> float | None:
    """A label's number, None for what is none."""
    text = cell.decode("ascii", "replace") if isinstance(cell, bytes) else str(cell)
    text = text.strip().lower()
    try:
        return TRUTH[text] if text in TRUTH else float(text.replace(",", "."))
    except ValueError:
        return None


def _parts(cell: Any) -> list[str]:
    if isinstance(cell, tuple):
        return list(cell)
    return [part.strip(" []'\"") for part in LISTED.split(str(cell))]


def _refuse_text(parts: list[list[str]], rows: np.ndarray, name: str) -> None:
    """Raise ConfigError where labels are sentences, dates, too many, or mostly of one image alone."""
    counts: Counter[str] = Counter()
    for cell, count in zip(parts, rows, strict=True):
        counts.update(dict.fromkeys(cell, int(count)))
    rare = sum(count == 1 for count in counts.values())
    long = sum(_is_text(part) for part in counts)
    foreign = sum(bool(part) and not snake_case(part) for part in counts)
    written = {(snake_case(part), "".join(filter(str.isalnum, _plain(part)))) for part in counts}
    alike = len(written) - len({ours for ours, _ in written})
    if foreign or alike:
        raise ConfigError(
            f"column {shown(name)} has {counted(foreign, 'label')} without Latin letters or digits, and {alike} "
            "that differ from another in other letters only: write them in Latin letters, or leave the column out with "
            "--column labels="
        )
    if long or len(counts) > MOST_LABELS or (len(counts) > FEW_LABELS and rare > RARE_SHARE * len(counts)):
        raise ConfigError(
            f"column {shown(name)} reads like free text ({len(counts)} different entries, {long} of them sentences or "
            f"dates, {rare} of one row alone), which may name people and must not become labels: take it as --column "
            "report=COLUMN --column labels=, or leave it out with --column labels="
        )


def _is_text(part: str) -> bool:
    return len(part.split()) > MOST_WORDS or len(part) > 60 or any(one.search(part) for one in (DATE, SENTENCE))


def unlisted_notes(unlisted: dict[str, dict[str, int]]) -> list[str]:
    """Sentences on what :func:`listed_labels` found not known: one a source and number of images."""
    notes = []
    for source, counts in unlisted.items():
        for count in dict.fromkeys(counts.values()):
            labels = [label for label, n in counts.items() if n == count]
            notes.append(
                f"not known on {counted(count, 'labelled image')} of source {source}, which never lists them: "
                f"{some(labels)}; where that means absent, give a column label_NAME with 0 and 1"
            )
    return notes


def some(words: Iterable[str], shown: int = 10) -> str:
    """The first words, and how many more."""
    listed = list(words)
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more
