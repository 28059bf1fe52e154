"""The tables for a paper: booktabs, encoders down and findings across, best in bold, second underlined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raddino.report.sites import Fall, falls
from raddino.report.tables import Block, Cell, Sheet, blocks, crossed, sheets

HEAD_LETTERS = 11
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "²": "$^2$", "–": "--", "−": "$-$", "\n": " ",
    "[": "{[}", "]": "{]}",
}  # fmt: skip
DAGGER = r"\rlap{$^\dagger$}"


def escape(text: str) -> str:
    """Text that LaTeX prints as it stands; characters that pdflatex has no glyph for become ``?``."""
    return "".join(
        _ESCAPES.get(letter, letter if letter.isprintable() and ord(letter) < 256 else "?") for letter in text
    )


def latex_table(metrics: dict[str, Any]) -> str:
    """The results as ``table`` environments, one a metric; the document must use the booktabs package.

    Each cell has the SD over seeds beside it and its 95 % interval below it; n, the excluded images, positives and
    prevalence close each table, a dagger marks what differs from the reference after Holm's correction.
    """
    shown = blocks(metrics)
    parts = [_table(sheet, _caption(sheet, metrics)) for sheet in sheets(shown)]
    missing = [block for block in shown if not block.lines]
    return "\n".join(
        [r"% needs \usepackage{booktabs}", *parts, *(_fall(one) for one in falls(metrics)), *_missing(missing)]
    )


def _table(sheet: Sheet, caption: str) -> str:
    rows = [_row(["", *(_head(block.name(sheet.metric)) for block in sheet.blocks)]), r"\midrule"]
    for encoder, _, cells in sheet.lines:
        rows.append(_row([escape(encoder), *(_value(cell) for cell in cells)]))
        rows.append(_row(["", *(_interval(cell) for cell in cells)]))
    rows += [r"\midrule", *_counts(sheet.blocks)]
    return _environment(rows, caption, "l" + "c" * len(sheet.blocks))


def _fall(fall: Fall) -> str:
    """A table of the inside, the other sites and the drops."""
    rows = [_row(["", *map(escape, fall.encoders)]), r"\midrule"]
    for name, cells in fall.lines:
        rows.append(_row([escape(name), *(escape(text) or "--" for text, _ in cells)]))
        small = (escape(small.replace(" to ", "–")) for _, small in cells)
        rows.append(_row(["", *(rf"{{\tiny {one}}}" if one else "" for one in small)]))
    caption = f"{fall.task}: {fall.kind.label} where the probe was trained and at other sites, and inside minus site, "
    return _environment(rows, caption + "each with its 95 % interval over patients.", "l" + "c" * len(fall.encoders))


def _environment(rows: list[str], caption: str, columns: str) -> str:
    lines = [
        r"\begin{table}[t]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3.5pt}",
        rf"\caption{{{escape(caption)}}}\vspace{{4pt}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return " & ".join(cells).rstrip() + r" \\"


def _head(name: str) -> str:
    """The task's name over as many lines as it needs."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= HEAD_LETTERS:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return r"\shortstack{" + r"\\".join(escape(line) for line in lines) + "}"


def _value(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    text = escape(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else rf"\underline{{{text}}}" if cell.second else text
    spread = rf"\,{{\tiny $\pm${cell.spread[1:]}}}" if cell.spread else ""
    return text + (DAGGER if cell.marked else "") + spread


def _interval(cell: Cell | None) -> str:
    return rf"{{\tiny {escape(cell.interval.replace(' to ', '–'))}}}" if cell and cell.interval else ""


def _counts(shown: list[Block]) -> list[str]:
    """The rows n, excluded, patients, positives and prevalence; all but the first only where a task has them."""
    says: dict[str, Callable[[Block], str]] = {
        "$n$": lambda block: str(block.n),
        "excluded": lambda block: "" if block.excluded is None else str(block.excluded),
        "patients": lambda block: "" if block.patients is None else str(block.patients),
        "positives": lambda block: "" if block.positives is None else str(block.positives),
        "prevalence": lambda block: "" if block.prevalence is None else rf"{100 * block.prevalence:.0f}\,\%",
    }
    rows = {name: [say(block) for block in shown] for name, say in says.items()}
    small = r"\scriptsize "
    return [_row([small + name, *(small + text for text in row)]) for name, row in rows.items() if any(row)]


def _missing(absent: list[Block]) -> list[str]:
    """A table of what could not be measured and why; empty where everything was."""
    rows = [_row([escape(block.task), escape(block.absent or "no value")]) for block in absent]
    columns = r"lp{0.65\linewidth}"
    return [_environment(rows, "Not measured, and why.", columns)] if rows else []


def _caption(sheet: Sheet, metrics: dict[str, Any]) -> str:
    synthetic = {True: "Synthetic radiographs. ", "mixed": "Partly synthetic radiographs. "}
    better = "" if sheet.metric.higher_is_better else ", lower is better"
    text = f"{synthetic.get(metrics.get('synthetic'), '')}{sheet.metric.label}{better}, "
    text += f"{crossed(metrics) or 'test images'}. Best in bold, second underlined."
    if sheet.marked:
        text += " A dagger marks what differs from " + " or ".join(sheet.references)
        text += ": p below 0.05 after Holm's correction over tasks and encoders."
    if sheet.spread:
        text += " Beside a value the SD over single seeds; the value is that of their averaged outputs."
    first = next(row for row in metrics["rows"] if row["metric"] == sheet.metric.key)
    counted = "folds" if crossed(metrics) else "resamples"
    how = [first.get("interval"), first.get("resamples") and f"{first['resamples']} {counted}"]
    how.append(f"seed {first['seed']}" if "seed" in first else None)
    text += f" Below each value its 95 % interval{': ' if any(how) else ''}{', '.join(filter(None, how))}."
    means = [f"{block.task} averages {', '.join(block.members)}" for block in sheet.blocks if block.members]
    return text + "".join(f" {sentence}." for sentence in means)
