"""Sections of the tasks that train more than a probe: per-class Dice and overlays, per-finding F1 and texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raddino.config import validate
from raddino.errors import RaddinoError
from raddino.look.shown import showable
from raddino.report.analysis_figures import Row, draw_groups
from raddino.report.analysis_parts import Figure, Page, Table, find
from raddino.report.artefacts import public
from raddino.report.findings_page import Pair, pairs
from raddino.report.overlays import Overlay, class_colours, overlays
from raddino.report.tables import SHOWN, Block, Metric, metric, number
from raddino.tasks.base import TaskConfig

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

RULES = ("dice", "dice_nonempty", "dice_all", "iou", "surface_dice", "hd95", "false_alarm_rate")
WRITING = {
    "length": "words",
    "length_reference": "words of the references",
    "repetition": "repeated 4-grams",
    "verbatim": "copied from a training report",
    "distinct": "different texts",
    "empty": "empty texts",
}
COUNTED = ("support", "said")
LEADER, OTHERS = 8, 2
"""Reports of each place (best, median, worst) that are shown of the first encoder, and of each other one."""
INCHES_A_DOT = 0.13


@dataclass(frozen=True)
class Shown:
    """Cases of one encoder: overlays, or pairs of texts by place."""

    encoder: str
    overlays: list[Overlay] = field(default_factory=list)
    pairs: dict[str, list[Pair]] = field(default_factory=dict)


@dataclass(frozen=True)
class CasePart:
    """One task.

    Attributes:
        task, kind: as the results have them.
        tables, figures: numbers of the task beside the main table.
        shown: cases by encoder, the best one first.
        missing: why there are none, or not all; one sentence each.
        settings: of the task, flat.
        colours: palette numbers by encoder, for the key of the figures.
        absent: metrics that could not be computed, with the reason.
        signatures: metrics with the variant that was computed.
        classes: CSS colours of the outlines, where a mask has several classes.
    """

    task: str
    kind: str
    tables: list[Table]
    figures: list[Figure]
    shown: list[Shown]
    missing: list[str]
    settings: dict[str, str]
    colours: dict[str, int]
    absent: list[tuple[str, str]] = field(default_factory=list)
    signatures: list[tuple[str, str]] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)


def case_parts(
    results: Path, metrics: dict[str, Any], shown: Sequence[Block], corpus: Corpus | None, stamp: str
) -> list[CasePart]:
    """A part for each segmentation or findings task that was measured.

    Args:
        results: the folder, with the models' folders in it.
        metrics: contents of ``metrics.json``.
        shown: blocks of the main table.
        corpus: where the images lie; without it, or with another than was measured, no case is shown.
        stamp: words on every figure made from drawn radiographs.
    """
    suite = {task["name"]: task for task in (metrics.get("suite") or {}).get("tasks", ())}
    described = {task["name"]: task for task in metrics.get("tasks", ())}
    found = []
    for block in shown:
        if block.kind not in PARTS or not block.lines:
            continue
        config = suite.get(block.task, {})
        rows = [row for row in metrics["rows"] if row["task"] == block.task]
        page = Page({line.encoder: line.colour for line in block.lines}, stamp)
        tables, figures = PARTS[block.kind](page, rows)
        cases, missing = _cases(results, metrics, block, rows, corpus, config)
        if block.kind == "findings":
            tables += _precision(results, block, rows)
        said = {key: _said(described.get(block.task, {}), key) for key in ("absent", "signatures")}
        classes = class_colours(list((config.get("options") or {}).get("classes") or ()))
        options = public(config.get("options") or {})
        found.append(
            CasePart(
                block.task, block.kind, tables, figures, cases, missing, options, page.colours, **said, classes=classes
            )
        )  # fmt: skip
    return found


def _segmentation(page: Page, rows: list[Row]) -> tuple[list[Table], list[Figure]]:
    rules = [key for key in RULES if find(rows, metric=key)]
    head = [metric(key).label for key in rules]
    tables = [Table("Dice by each empty-mask rule", head, _lines(page, rows, rules))]
    by_class = _of(rows, "dice")
    if not by_class:
        return tables, []
    return [*tables, _by_name("Dice of each class", page, by_class, folded=True)], [_dots(page, by_class, "Dice")]


def _findings(page: Page, rows: list[Row]) -> tuple[list[Table], list[Figure]]:
    keys = list(dict.fromkeys(str(row["metric"]) for row in rows))
    tables: list[Table] = []
    figures: list[Figure] = []
    for base in dict.fromkeys(key.partition(" (")[0] for key in keys if " (" in key):
        by_finding = _of(rows, base)
        tables.append(_by_name(f"{metric(base).label} of each finding", page, by_finding, folded=bool(figures)))
        figures += [] if figures else [_dots(page, by_finding, metric(base).label)]
    main = [key for key in SHOWN if key in keys]
    tables.insert(0, Table("Findings and wording", [metric(key).label for key in main], _lines(page, rows, main)))
    written = {key: word for key, word in WRITING.items() if key in keys}
    rest = [key for key in keys if key not in WRITING and key not in main and " (" not in key]
    tables.append(Table("How it writes, means over reports", list(written.values()), _lines(page, rows, written)))
    tables.append(Table("Further metrics", [metric(key).label for key in rest], _lines(page, rows, rest), folded=True))
    return tables, figures


def _precision(results: Path, block: Block, rows: list[Row]) -> list[Table]:
    """Support, precision and recall of each finding by the leading model, from its records; none without them."""
    from raddino.benchmark.cases import read_cases
    from raddino.benchmark.results import RANDOM
    from raddino.tasks.findings.text_records import labelers_of, table_of

    for name, _ in _models(results, block, rows)[:1]:
        records = read_cases(results, block.task, name.removesuffix(f" ({RANDOM})"))
        if records is None or records.empty:
            continue
        labeler = labelers_of(records)[0]
        shares = Metric("", "")
        lines = [
            (
                finding.replace("_", " "),
                [(f"{value:.0f}" if key in COUNTED else number(value, shares), "") for key, value in numbers.items()],
            )
            for finding, numbers in table_of(records, labeler).T.to_dict().items()
        ]
        head = ["reports with it", "written reports with it", "precision", "recall", "F1"]
        return [Table(f"Precision and recall behind {metric(f'{labeler}_f1').label}, {name}", head, lines, folded=True)]
    return []


PARTS: dict[str, Callable[[Page, list[Row]], tuple[list[Table], list[Figure]]]] = {
    "segmentation": _segmentation,
    "findings": _findings,
}


def _of(rows: list[Row], base: str) -> dict[str, list[Row]]:
    """Rows of the metrics ``base (name)`` by name."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if match := re.fullmatch(re.escape(base) + r" \((.*)\)", str(row["metric"])):
            found.setdefault(match[1].replace("_", " "), []).append(row)
    return found


def _lines(page: Page, rows: list[Row], keys: Iterable[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Encoders down, metrics across."""
    keys = list(keys)
    return [(name, [_cell(find(rows, encoder=name, metric=key)) for key in keys]) for name in page.colours]


def _by_name(caption: str, page: Page, by_name: dict[str, list[Row]], folded: bool = False) -> Table:
    """Names down, encoders across."""
    lines = [(name, [_cell(find(rows, encoder=one)) for one in page.colours]) for name, rows in by_name.items()]
    return Table(caption, list(page.colours), lines, folded)


def _dots(page: Page, by_name: dict[str, list[Row]], label: str) -> Figure:
    names = list(by_name)
    points = [
        (line, page.colours[row["encoder"]], row)
        for line, name in enumerate(names)
        for row in by_name[name]
        if row["value"] is not None
    ]
    height = 0.7 + len(names) * max(0.22, INCHES_A_DOT * len(page.colours))
    draw = partial(draw_groups, lines=names, points=points, x=label, breaks=set())
    return page.figure(f"{label}, one by one", draw, (5.6, height))


def _cases(
    results: Path, metrics: dict[str, Any], block: Block, rows: list[Row], corpus: Corpus | None, config: dict[str, Any]
) -> tuple[list[Shown], list[str]]:
    """Cases of each trained encoder, that of the best leading metric first, and why there are none."""
    from raddino.benchmark.results import public as without_paths

    if corpus is None:
        return [], ["No corpus was given to this report, so no case is shown."]
    if corpus.fingerprint != (metrics.get("corpus") or {}).get("fingerprint"):
        return [], ["The corpus given to this report is not the one that was measured, so no case is shown."]
    if not len(showable(corpus)):
        return [], ["All images and texts come from credentialed sources, which are not shown."]
    shown: list[Shown] = []
    missing: list[str] = []
    for name, folder in _models(results, block, rows):
        try:
            if block.kind == "segmentation":
                one = Shown(name, overlays=overlays(folder, corpus, validate(TaskConfig, config)))
            else:
                one = Shown(name, pairs=pairs(folder, corpus, OTHERS if shown else LEADER))
        except RaddinoError as error:
            missing.append(f"{name}: {without_paths(str(error))}.")
            continue
        if one.overlays or one.pairs:
            shown.append(one)
        else:
            missing.append(f"{name}: no case of a source that may be shown.")
    return shown, missing


def _models(results: Path, block: Block, rows: list[Row]) -> list[tuple[str, Path]]:
    """Names and folders of what was trained, best first; variants and folders outside the results left out."""
    found = []
    for line in block.lines:
        detail = find(rows, encoder=line.encoder).get("detail") or {}
        folder = Path(str(detail.get("model", "")))
        if not detail.get("model") or detail.get("variant") or folder.is_absolute() or ".." in folder.parts:
            continue
        cell = line.cells[0] if line.cells else None
        value = cell.row["value"] if cell and cell.row["value"] is not None else float("-inf")
        found.append((-value if block.metrics[0].higher_is_better else value, line.encoder, results / folder))
    return [(name, folder) for _, name, folder in sorted(found, key=lambda one: one[0])]


def _said(task: dict[str, Any], key: str) -> list[tuple[str, str]]:
    """Metrics and words that the results file under ``key`` of a task."""
    return [(metric(name).label, words) for name, words in (task.get(key) or {}).items()]


def _cell(row: Row) -> tuple[str, str]:
    """Value and interval in the form of the metric, a dash where there is none."""
    if not row or row["value"] is None:
        return "–", ""
    kind = metric(str(row["metric"]).partition(" (")[0])
    low, high = row.get("low"), row.get("high")
    return number(row["value"], kind), "" if low is None else f"{number(low, kind)} to {number(high, kind)}"
