"""Findings texts side by side: image, reference and hypothesis, with the findings that match, lack or were invented."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raddino.errors import RaddinoError
from raddino.look.shown import eight_bit, facts, showable
from raddino.report.style import data_uri

if TYPE_CHECKING:
    import pandas as pd

    from raddino.corpus.dataset import Corpus
    from raddino.tables import Kind

REPORTS_FILE = "reports.parquet"
COLUMNS: dict[str, Kind] = {**dict.fromkeys(("variant", "id", "reference", "hypothesis"), "text"), "score": "number"}
SIDE = 288
"""Longest side of a picture, in pixels."""
SIGNS = {"matched": "✓", "missed": "−", "invented": "+"}
WHOLE = "no_finding"
"""What only a whole report can say."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")

Labeler = Callable[[str], dict[str, int]]


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report.

    Attributes:
        text: as written.
        kind: ``"matched"``, ``"missed"`` (in a reference) or ``"invented"`` (in a hypothesis) by the gravest of its
            findings; empty where it asserts none.
        findings: what it asserts, as (kind, finding in words).
    """

    text: str
    kind: str = ""
    findings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pair:
    """One image with what was written of it."""

    image: str  # data URI
    caption: str
    score: str
    reference: list[Sentence]
    hypothesis: list[Sentence]


def pairs(folder: Path, corpus: Corpus, each: int) -> dict[str, list[Pair]]:
    """By place, the reports of the best, median and worst primary metric, ``each`` of a kind, best first.

    Args:
        folder: of the model, with ``reports.parquet``.
        corpus: the one that was measured. Images and texts of credentialed sources are left out.
        each: how many of each place.

    Raises:
        RaddinoError: ``reports.parquet`` is damaged.
    """
    from raddino.tasks.findings.labeler import label_findings

    table = read_reports(folder)
    table = table[table["variant"] == ""]
    open_rows = showable(corpus)
    row_of = dict(zip(corpus.manifest["id"].iloc[open_rows].astype(str), open_rows, strict=True))
    table = table[table["id"].isin(row_of)].sort_values(["score", "id"], ascending=[False, True])
    found: dict[str, list[Pair]] = {}
    for place, at in choose(len(table), each):
        line = table.iloc[at]
        row = int(row_of[line["id"]])
        reference, hypothesis = compare(line["reference"], line["hypothesis"], label_findings)
        image = data_uri(eight_bit(corpus.read(row)), SIDE)
        found.setdefault(place, []).append(
            Pair(image, facts(corpus, row), f"{line['score']:.2f}", reference, hypothesis)
        )
    return found


def read_reports(folder: Path) -> pd.DataFrame:
    """``reports.parquet``: variant (empty for the model itself), id, reference, hypothesis and score of each report.

    Raises:
        RaddinoError: the file is missing or damaged.
    """
    from raddino.tables import read_table

    file, remedy = folder / REPORTS_FILE, "evaluate again"
    table = read_table(file, remedy, COLUMNS)
    if table[[*COLUMNS]].isna().any(axis=None):
        raise RaddinoError(f"{file} is damaged (an empty cell): {remedy}")
    return table


def choose(n: int, each: int) -> list[tuple[str, int]]:
    """Place and position of up to ``each`` best, median and worst among ``n`` ranked ones, none twice."""
    each = min(each, n // 3) or min(n, 1)
    middle = max((n - each) // 2, each)
    starts = {"best": 0, "median": middle, "worst": max(n - each, middle + each)}
    return [(place, start + i) for place, start in starts.items() for i in range(each) if start + i < n]


def compare(reference: str, hypothesis: str, label: Labeler) -> tuple[list[Sentence], list[Sentence]]:
    """Both texts as sentences that say which of the findings they assert the other asserts too.

    What a text asserts is what ``label`` finds positive in the whole of it; a sentence asserts what is positive in it
    and in the whole. Findings are matched by name, wherever in the texts they stand.

    Args:
        label: finding to 1 (positive), 0 or -1, for example :func:`raddino.tasks.findings.labeler.label_findings`.
    """
    ours, theirs = _positive(reference, label), _positive(hypothesis, label)
    return (
        [_sentence(text, ours, theirs, "missed", label) for text in _split(reference)],
        [_sentence(text, theirs, ours, "invented", label) for text in _split(hypothesis)],
    )


def _split(text: str) -> list[str]:
    return [part for part in _SENTENCE.split(text.strip()) if part]


def _positive(text: str, label: Labeler) -> set[str]:
    return {name for name, value in label(text).items() if value == 1 and name != WHOLE}


def _sentence(text: str, own: set[str], other: set[str], lone: str, label: Labeler) -> Sentence:
    names = sorted(_positive(text, label) & own)
    findings = tuple(("matched" if name in other else lone, name.replace("_", " ")) for name in names)
    kinds = [kind for kind, _ in findings]
    return Sentence(text, lone if lone in kinds else "matched" if kinds else "", findings)
