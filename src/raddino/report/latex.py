"""The table for a paper: booktabs, best in bold, second underlined."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from raddino.report.tables import Block, Cell, Line, blocks

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "²": "$^2$", "–": "--", "−": "$-$", "\n": " ",
}  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands; characters that pdflatex has no glyph for become ``?``."""
    return "".join(
        _ESCAPES.get(letter, letter if letter.isprintable() and ord(letter) < 256 else "?") for letter in text
    )


def latex_table(metrics: dict[str, Any]) -> str:
    """A ``table`` environment of a ``metrics.json``; the document needs ``\\usepackage{booktabs}``."""
    parts = [
        list(group)
        for _, group in groupby(blocks(metrics), key=lambda block: [kind.key for kind in block.metrics])
    ]
    columns = max([len(block.metrics) for part in parts for block in part], default=0)
    body = [row for part in parts for row in _part(part, columns)]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{escape(_caption(metrics))}}}",
            rf"\begin{{tabular}}{{l{'c' * columns}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _part(part: list[Block], columns: int) -> list[str]:
    rows: list[str] = []
    for block in part:
        rows += [r"\midrule"] if rows else []
        heads = [escape(kind.label) for kind in block.metrics]
        rows.append(_row([rf"\emph{{{escape(_title(block))}}}", *heads], columns))
        rows += [_row([escape(line.encoder), *_cells(line)], columns) for line in block.lines]
        if not block.lines:
            rows.append(rf"\multicolumn{{{columns + 1}}}{{l}}{{{escape(block.absent or 'absent')}}} \\")
    return rows


def _row(cells: list[str], columns: int) -> str:
    return " & ".join(cells + [""] * (columns + 1 - len(cells))).rstrip() + r" \\"


def _cells(line: Line) -> list[str]:
    return [_cell(cell) if cell else escape(line.reason or "–") for cell in line.cells]


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else rf"\underline{{{text}}}" if cell.second else text
    return rf"{text} {{\scriptsize ({escape(cell.interval)})}}" if cell.interval else text


def _title(block: Block) -> str:
    facts = [f"n = {block.n}"]
    if block.positives is not None:
        facts.append(f"{block.positives} positive")
    if block.prevalence is not None:
        facts.append(f"prevalence {100 * block.prevalence:.0f} %")
    return f"{block.task} ({', '.join(facts)})"


def _caption(metrics: dict[str, Any]) -> str:
    said = {True: "Synthetic radiographs. ", "mixed": "Partly synthetic radiographs. "}
    text = said.get(metrics.get("synthetic"), "") + "Test split. Best in bold, second underlined."
    if metrics["rows"]:
        first = metrics["rows"][0]
        text += f" In brackets the 95 % interval: {first['interval']}"
        text += f", {first['resamples']} resamples, seed {first['seed']}."
    return text
