"""The main table as plain text, for the terminal."""

from __future__ import annotations

from typing import Any

from raddino.report.tables import Block, Cell, blocks

WIDTH = 22
LEGEND = "* best, + second, ! differs from the first encoder (p < 0.05, Holm); 95 % intervals over patients"


def text_table(metrics: dict[str, Any]) -> str:
    """The blocks of a ``metrics.json`` as aligned lines, with a legend of the marks at the end.

    Every number is followed by its 95 % interval; n, positives and prevalence stand at each task's head.
    """
    synthetic = {True: ["data: synthetic"], "mixed": ["data: partly synthetic"]}.get(metrics.get("synthetic"), [])
    lines = [line for block in blocks(metrics) for line in _lines(block)]
    lost = [f"analysis {gap['analysis']}: {gap['reason']}" for gap in metrics.get("absent", []) if gap.get("analysis")]
    return "\n".join([*synthetic, *lines, *([""] if lost else []), *lost, "", LEGEND])


def _lines(block: Block) -> list[str]:
    facts = [f"n={block.n}"]
    if block.patients is not None:
        facts.append(f"patients={block.patients}")
    if block.positives is not None:
        facts.append(f"positives={block.positives} ({block.prevalence:.0%})")
    lines = ["", f"{block.task}  test {' '.join(facts)}" if block.lines else f"{block.task}  {block.absent}"]
    for kind in [block.metrics] if block.lines else []:
        lines.append(" " * (WIDTH + 2) + "".join(f"{metric.label:<28}" for metric in kind).rstrip())
    for line in block.lines:
        cells = ["–" if cell is None else f"{cell.text}{_marks(cell):<3}{cell.interval}" for cell in line.cells]
        lines.append(f"  {line.encoder[:WIDTH]:<{WIDTH}}" + "".join(f"{cell:<28}" for cell in cells) + line.reason)
    return [text.rstrip() for text in lines]


def _marks(cell: Cell) -> str:
    return ("*" if cell.best else "+" if cell.second else "") + ("!" if cell.marked else "")
