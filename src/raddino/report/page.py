"""Comparisons of result folders and merged leaderboards as text, and as one HTML page that opens offline."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from raddino.files import write_text
from raddino.report.style import THEME, stamp_of
from raddino.report.tables import SIGNIFICANT, Metric, metric, number, positives_of, spread_of

if TYPE_CHECKING:
    from raddino.benchmark.compare import Comparison
    from raddino.benchmark.leaderboard import Leaderboard

LEADING = ("auroc", "auroc_macro_ovr", "mae", "dice", "chexbert_f1_14_micro", "rules_f1_14_micro")
"""The first metric of each kind of task."""


@dataclass(frozen=True)
class Sheet:
    """A table of texts.

    Attributes:
        title: above it.
        columns: heads; the first heads the rows.
        rows: as many texts as columns.
        strong: numbers of the rows that stand out.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    strong: set[int] = field(default_factory=set)

    def text(self) -> str:
        """Aligned for a terminal; ``*`` before a row that stands out."""
        table = [self.columns, *self.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = []
        for number_, row in enumerate(table):
            mark = "*" if number_ - 1 in self.strong else " "
            lines.append(mark + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return "\n".join([self.title, *lines])


def comparison_sheets(data: dict[str, Any]) -> list[Sheet]:
    """One sheet a metric of a comparison's ``data``, clear differences (Holm) standing out, then what was refused."""
    made = []
    ours, theirs = data.get("shown") or ({}, {})
    for key in dict.fromkeys(row["metric"] for row in data["rows"]):
        kind = metric(key)
        rows: list[list[str]] = []
        strong: set[int] = set()
        for row in (row for row in data["rows"] if row["metric"] == key):
            gap = row["difference"]
            if gap["p_holm"] < SIGNIFICANT:
                strong.add(len(rows))
            one, two = ours.get(row["encoder"], row["encoder"]), theirs.get(row["other"], row["other"])
            names = one if one == two else f"{one} → {two}"
            signed = f"{'+' if gap['value'] > 0 else ''}{number(gap['value'], kind)}"
            spread = f"{number(gap['low'], kind)} to {number(gap['high'], kind)}"
            left = "" if row.get("excluded") is None else f"{row['excluded']} excluded"
            counts = ", ".join(filter(None, (f"{row['n']}", left, positives_of(row))))
            sides = [{"value": row[side], "seed_sd": row.get(f"seed_sd_{side}")} for side in "ab"]
            values = [*(_with_spread(side, kind) for side in sides), signed, spread]
            rows.append(
                [row["task"], names, *values, p_text(gap["p"]), p_text(gap["p_holm"]), _short(gap["test"]), counts]
            )
        title = kind.label + ("" if kind.higher_is_better else ", lower is better")
        columns = ["task", "encoder", "A", "B", "B − A", "95 % interval", "p", "p (Holm)", "test", "n"]
        made.append(Sheet(title, columns, rows, strong))
    if data["refused"]:
        made.append(Sheet("Not compared", ["task", "encoder", "why", "metrics"], _refused(data["refused"], ours)))
    return made


def _refused(gaps: list[dict[str, Any]], shown: dict[str, str]) -> list[list[str]]:
    """A row for each task, encoder and reason."""
    metrics: dict[tuple[str, str, str], list[str]] = {}
    for gap in gaps:
        key = (gap["task"], shown.get(gap["encoder"], gap["encoder"]), gap["reason"])
        metrics.setdefault(key, []).append(metric(gap["metric"]).label)
    return [[*key, ", ".join(names)] for key, names in metrics.items()]


def comparison_text(comparison: Comparison) -> str:
    """The comparison for a terminal."""
    data = comparison.data
    parts = [_head(data), *(sheet.text() for sheet in comparison_sheets(data)), *data["notes"], _method(data)]
    return "\n\n".join(parts)


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write ``comparison.json`` and ``comparison.html`` into folder ``out``; returns the page."""
    write_text(out / "comparison.json", json.dumps(plain(comparison.data), indent=1, allow_nan=False))
    data = comparison.data
    notes = [*data["notes"], _method(data)]
    return _write(out / "comparison.html", _head(data), notes, comparison_sheets(data), data["synthetic"])


def leaderboard_sheets(board: Leaderboard) -> list[Sheet]:
    """One sheet a board, the first rank standing out."""
    made = []
    probes = board.rows.groupby(["task", "metric"])["probe"].nunique()
    for _, part in board.rows.groupby("board"):
        first = part.iloc[0]
        kind = metric(first["metric"])
        facts = [f"n = {first['n']}"]
        facts += [f"{int(first['excluded'])} excluded"] if pd.notna(first["excluded"]) else []
        facts += [f"{first['patients']} patients"]
        facts += [f"mean of {first['members']}"] if first["members"] else []
        if pd.notna(first["positives"]):
            facts.append(positives_of({"n": first["n"], "positives": int(first["positives"]),
                                       "prevalence": float(first["prevalence"])}))  # fmt: skip
        facts.append(f"data {str(first['data_fingerprint'])[:8]}")
        rows = [
            [
                str(row["rank"]),
                row["encoder"],
                _with_spread(row, kind),
                f"{number(row['low'], kind)} to {number(row['high'], kind)}",
                row["seen"],
                row["folder"],
            ]
            for row in part.to_dict("records")
        ]
        better = "" if kind.higher_is_better else ", lower is better"
        strong = {place for place, row in enumerate(rows) if row[0] == "1"} if len(rows) > 1 else set()
        probe = f", {first['probe']} probe" if probes[first["task"], first["metric"]] > 1 else ""
        title = f"{first['task']}: {kind.label}{better}{probe} ({', '.join(facts)})"
        made.append(Sheet(title, ["rank", "encoder", "value", "95 % interval", "test images", "folder"], rows, strong))
    return made


def leaderboard_text(board: Leaderboard) -> str:
    """The boards for a terminal."""
    return "\n\n".join([*(sheet.text() for sheet in leaderboard_sheets(board)), *board.notes])


def write_leaderboard(board: Leaderboard, out: Path) -> Path:
    """Write ``leaderboard.csv`` and ``leaderboard.html`` into folder ``out``; returns the page."""
    board.save(out / "leaderboard.csv")
    words = set(board.rows["synthetic"])
    synthetic: bool | str = words == {"true"} or ("mixed" if words - {"false"} else False)
    title = f"Leaderboard of {board.folders} result folder{'' if board.folders == 1 else 's'}"
    return _write(out / "leaderboard.html", title, board.notes, leaderboard_sheets(board), synthetic)


def _with_spread(row: dict[str, Any], kind: Metric) -> str:
    """``0.813 ±0.004``: the value and the SD over seeds."""
    return " ".join(filter(None, (number(row["value"], kind), spread_of(row, kind))))


def _head(data: dict[str, Any]) -> str:
    """Clear differences in the one metric of each task that leads the table, so that no task counts twice."""
    lead = [row for row in data["rows"] if row["metric"] in LEADING] or data["rows"]
    clear = sum(row["difference"]["p_holm"] < SIGNIFICANT for row in lead)
    words = ", ".join(dict.fromkeys(metric(row["metric"]).label for row in lead))
    differences = "difference" if len(lead) == 1 else "differences"
    return f"{data['b']} (B) against {data['a']} (A): {clear} of {len(lead)} {differences} clear ({words})"


def _method(data: dict[str, Any]) -> str:
    return (
        "Paired on the same test images; intervals from the same resamples of patients on both sides "
        f"({data['resamples']}, seed {data['seed']}), p from DeLong's test clustered by patient for AUROC of one task, "
        "from exchanging the two sides patient by patient elsewhere. Clear, and set off, is p < 0.05 after Holm's "
        "correction over all that was compared of a metric. ± is the SD over seeds."
    )


def _short(test: str) -> str:
    words = {"DeLong": "DeLong", "paired approximate": "randomisation"}
    return next((word for start, word in words.items() if test.startswith(start)), test)


def p_text(value: float) -> str:
    """``0.012``, ``< 0.001``, or a dash for NaN."""
    return "–" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _write(path: Path, title: str, notes: list[str], shown: list[Sheet], synthetic: bool | str) -> Path:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2")
    text = page.render(title=title, notes=notes, sheets=shown, theme=THEME, synthetic=stamp_of(synthetic))
    write_text(path, text)
    return path


def plain(value: Any) -> Any:
    """JSON-ready copy: NaN becomes null."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and value != value else value
