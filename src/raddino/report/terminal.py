"""The main table as plain text, for the terminal."""

from __future__ import annotations

from typing import Any

from raddino.report.artefacts import tagged
from raddino.report.calibration import calibration_lines
from raddino.report.decisions import operating_lines
from raddino.report.label_noise import label_noise_lines
from raddino.report.site_ranks import site_rank_lines
from raddino.report.sites import site_lines
from raddino.report.tables import Block, Cell, blocks, crossed, unplaced
from raddino.report.verdict import recognised

WIDTH = 44
COLUMNS = 4
"""Metrics side by side."""
MARKS = "* best, + second, ! differs from the first encoder (p < 0.05, Holm); 95 % intervals over "
LEGEND, FOLDS = f"{MARKS}patients", f"{MARKS}folds"
SEEDS = "± SD over single seeds; the value is that of the outputs averaged over seeds"


def text_table(metrics: dict[str, Any]) -> str:
    """The blocks of a ``metrics.json`` as aligned lines, with a legend of the marks at the end.

    Every number is followed by the SD over seeds, where there are several, and its 95 % interval; n, the test images
    that were excluded, positives and prevalence stand at each task's head.
    """
    synthetic = {True: ["data: synthetic"], "mixed": ["data: partly synthetic"]}.get(metrics.get("synthetic"), [])
    metrics = tagged(metrics)
    shown, folds = blocks(metrics), crossed(metrics)
    width = max((len(line.encoder) for block in shown for line in block.lines), default=0)
    lines = [text for block in shown for text in _lines(block, min(width + 2, WIDTH), folds)]
    lost = [f"{what}: {reason}" for what, reason in unplaced(metrics)]
    seeds = (
        [SEEDS] if any(cell and cell.spread for block in shown for line in block.lines for cell in line.cells) else []
    )
    legend = ["", FOLDS if folds else LEGEND, *seeds]
    further = (site_lines, site_rank_lines, calibration_lines, operating_lines, label_noise_lines)
    found = [line for lines_of in further for line in lines_of(metrics)]
    seen = [f"warning: {words}" for words in recognised(metrics.get("encoders", []))]
    told = [line for part in (lost, seen) if part for line in ("", *part)]
    return "\n".join([*synthetic, *lines, *found, *told, *legend])


def _lines(block: Block, width: int, folds: str) -> list[str]:
    facts = [f"n={block.n}"]
    if block.excluded is not None:
        facts.append(f"excluded={block.excluded}")
    if block.patients is not None:
        facts.append(f"patients={block.patients}")
    facts += [block.counts] if block.counts else []
    facts += [f"positive: {block.positive}"] if block.positive else []
    facts += [f"left out: {block.left_out}"] if block.left_out else []
    head = f"{folds or 'test'} {' '.join(facts)}" if block.lines else block.absent
    lines = ["", f"{block.task}  {head}"]
    for start in range(0, len(block.metrics), COLUMNS) if block.lines else ():
        part = slice(start, start + COLUMNS)
        heads = [block.head(metric) for metric in block.metrics[part]]
        rows = [[_cell(cell) for cell in line.cells[part]] for line in block.lines]
        widths = [max(map(len, column)) + 2 for column in zip(heads, *rows, strict=True)]
        lines.append(" " * (width + 2) + _aligned(heads, widths))
        for line, cells in zip(block.lines, rows, strict=True):
            reason = line.reason if not start else ""
            lines.append(f"  {line.encoder[:width]:<{width}}" + _aligned(cells, widths) + reason)
    return [text.rstrip() for text in lines]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    return f"{cell.text}{_marks(cell):<3}" + "  ".join(filter(None, (cell.spread, cell.interval)))


def _aligned(texts: list[str], widths: list[int]) -> str:
    return "".join(text.ljust(width) for text, width in zip(texts, widths, strict=True))


def _marks(cell: Cell) -> str:
    return ("*" if cell.best else "+" if cell.second else "") + ("!" if cell.marked else "")
