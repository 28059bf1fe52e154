"""The table for a paper: booktabs, best in bold, second underlined."""

from __future__ import annotations

from typing import Any

from raddino.report.tables import Block, Cell, Line, blocks

PAGE_ROWS = 45
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
    """The results as ``table`` environments that fit a page; the document must use the booktabs package."""
    shown = blocks(metrics)
    columns = max((len(block.metrics) for block in shown), default=0)
    pages: list[list[str]] = []
    for block in shown:
        rows = _block(block, columns)
        if pages and len(pages[-1]) + len(rows) < PAGE_ROWS:
            pages[-1] += [r"\midrule", *rows]
        else:
            pages.append(rows)
    captions = [_caption(metrics)] + [f"{_said(metrics)}Continued."] * (len(pages) - 1)
    tables = [_table(rows, caption, columns) for rows, caption in zip(pages, captions, strict=False)]
    return "\n".join([r"% needs \usepackage{booktabs}", *tables])


def _table(rows: list[str], caption: str, columns: int) -> str:
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\begin{{tabular}}{{l{'c' * columns}}}",
        r"\toprule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _block(block: Block, columns: int) -> list[str]:
    heads = [escape(kind.label) for kind in block.metrics]
    rows = [_row([rf"\emph{{{escape(_title(block))}}}", *heads], columns)]
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
    if not block.lines:
        return block.task
    facts = [f"n = {block.n}"]
    if block.positives is not None:
        facts.append(f"{block.positives} positive")
    if block.prevalence is not None:
        facts.append(f"prevalence {100 * block.prevalence:.0f} %")
    return f"{block.task} ({', '.join(facts)})"


def _said(metrics: dict[str, Any]) -> str:
    words = {True: "Synthetic radiographs. ", "mixed": "Partly synthetic radiographs. "}
    return words.get(metrics.get("synthetic"), "")


def _caption(metrics: dict[str, Any]) -> str:
    text = f"{_said(metrics)}Test split. Best in bold, second underlined."
    if metrics["rows"]:
        first = metrics["rows"][0]
        text += f" In brackets the 95 % interval: {first['interval']}"
        text += f", {first['resamples']} resamples, seed {first['seed']}."
    return text
