"""The main table as plain text, for the terminal."""

from __future__ import annotations

from typing import Any

from raddino.report.artefacts import tagged
from raddino.report.sites import site_lines
from raddino.report.tables import Block, Cell, blocks, unplaced

WIDTH = 44
COLUMNS = 4
"""Metrics side by side."""
LEGEND = "* best, + second, ! differs from the first encoder (p < 0.05, Holm); 95 % intervals over patients"


def text_table(metrics: dict[str, Any]) -> str:
    """The blocks of a ``metrics.json`` as aligned lines, with a legend of the marks at the end.

    Every number is followed by its 95 % interval; n, positives and prevalence stand at each task's head.
    """
    synthetic = {True: ["data: synthetic"], "mixed": ["data: partly synthetic"]}.get(metrics.get("synthetic"), [])
    metrics = tagged(metrics)
    shown = blocks(metrics)
    width = max((len(line.encoder) for block in shown for line in block.lines), default=0)
    lines = [text for block in shown for text in _lines(block, min(width + 2, WIDTH))]
    lost = [f"{what}: {reason}" for what, reason in unplaced(metrics)]
    return "\n".join([*synthetic, *lines, *site_lines(metrics), *([""] if lost else []), *lost, "", LEGEND])


def _lines(block: Block, width: int) -> list[str]:
    facts = [f"n={block.n}"]
    if block.patients is not None:
        facts.append(f"patients={block.patients}")
    facts += [block.counts] if block.counts else []
    facts += [f"positive: {block.positive}"] if block.positive else []
    facts += [f"left out: {block.left_out}"] if block.left_out else []
    lines = ["", f"{block.task}  test {' '.join(facts)}" if block.lines else f"{block.task}  {block.absent}"]
    for start in range(0, len(block.metrics), COLUMNS) if block.lines else ():
        part = slice(start, start + COLUMNS)
        lines.append(" " * (width + 2) + "".join(f"{block.head(metric):<28}" for metric in block.metrics[part]))
        for line in block.lines:
            cells = [
                "–" if cell is None else f"{cell.text}{_marks(cell):<3}{cell.interval}" for cell in line.cells[part]
            ]
            reason = line.reason if not start else ""
            lines.append(f"  {line.encoder[:width]:<{width}}" + "".join(f"{cell:<28}" for cell in cells) + reason)
    return [text.rstrip() for text in lines]


def _marks(cell: Cell) -> str:
    return ("*" if cell.best else "+" if cell.second else "") + ("!" if cell.marked else "")
