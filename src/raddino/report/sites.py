"""External validation: the value inside, the value at each other site, and the drop, for page, paper and terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raddino.errors import counted
from raddino.report.analysis_parts import Section, Table
from raddino.report.tables import SHOWN, Metric, metric, number

READS = (
    "Each probe was trained and selected inside, on the training and validation images of {inside}, and tested as it "
    "is on patients of each other site. The drop is the value inside minus the value at the site; its interval takes "
    "the patients of the two sides as independent. A site with other labels, ages or machines is another task too: a "
    "drop says that a number does not carry over, not why."
)
LEFT_OUT = (
    "Each source was left out in turn: probes were trained and selected on all others, tested on their test images "
    "(“without”), and on the source that they never saw. The drop is the first minus the second. The mean over sites "
    "has an interval for the patients of these sites; the spread between sites stands beside it, and of few sites says "
    "little about the next one."
)


@dataclass(frozen=True)
class Fall:
    """One task in its leading metric.

    Attributes:
        task: as it is called inside.
        kind: the metric.
        encoders: columns.
        lines: name, and value and interval of each encoder (empty texts where there is none): the inside, then of each
            site the value and the drop.
    """

    task: str
    kind: Metric
    encoders: list[str]
    lines: list[tuple[str, list[tuple[str, str]]]]


def falls(metrics: dict[str, Any]) -> list[Fall]:
    """What became of each task at other sites; empty where none was visited."""
    rows = metrics.get("rows", ())
    away = [row for row in rows if row.get("site") and row.get("drop")]
    found = []
    for task in dict.fromkeys(row["drop"]["from"] for row in away):
        own = [row for row in away if row["drop"]["from"] == task]
        keys = {row["metric"] for row in own}
        kind = metric(next((key for key in SHOWN if key in keys), own[0]["metric"]))
        inside = {row["encoder"]: row for row in rows if (row["task"], row["metric"]) == (task, kind.key)}
        encoders = list(inside)
        lines = [_line("inside", inside, encoders, kind)]
        for site in dict.fromkeys(row["site"] for row in own):
            here = {row["encoder"]: row for row in own if (row["site"], row["metric"]) == (site, kind.key)}
            drops = {name: row["drop"] for name, row in here.items()}
            lines += [_line(site, here, encoders, kind), (f"drop at {site}", _cells(drops, encoders, kind))]
        found.append(Fall(task, kind, encoders, lines))
    return found


def site_section(metrics: dict[str, Any]) -> Section | None:
    """The section of the page; None where no other site was visited."""
    shown = falls(metrics)
    if not shown:
        return None
    corpus = metrics.get("corpus") or {}
    inside = " and ".join(corpus.get("train_on") or ["the inside"])
    reads = LEFT_OUT if corpus.get("left_out_in_turn") else READS.format(inside=inside)
    section = Section("sites", "External validation", reads, tables=_over_sites(metrics))
    for fall in shown:
        better = "" if fall.kind.higher_is_better else ", lower is better"
        section.tables.append(Table(f"{fall.task}: {fall.kind.label}{better}", fall.encoders, fall.lines))
    for task in metrics.get("tasks", []):
        for reason, count in (task.get("left_out_at_site") or {}).items():
            section.left_out.append(f"{task['name']}: {counted(count, 'image')} ({reason})")
    return section


def _over_sites(metrics: dict[str, Any]) -> list[Table]:
    """The means over sites that were left out in turn, in the leading metric of each task."""
    own = [row for row in metrics["rows"] if "site_sd" in (row.get("detail") or {})]
    encoders = list(dict.fromkeys(row["encoder"] for row in own))
    lines = []
    for task in dict.fromkeys(row["task"] for row in own):
        keys = {row["metric"] for row in own if row["task"] == task}
        kind = metric(next((key for key in SHOWN if key in keys), min(keys)))
        here = {row["encoder"]: row for row in own if (row["task"], row["metric"]) == (task, kind.key)}
        spreads = {name: number(row["detail"]["site_sd"], kind) for name, row in here.items()}
        cells = [
            (text, f"{small}, SD {spreads[name]}" if text else "")
            for name, (text, small) in zip(encoders, _cells(here, encoders, kind), strict=True)
        ]
        lines.append((f"{task}, {kind.label}", cells))
    return [Table("Mean over the sites left out", encoders, lines)] if lines else []


def site_lines(metrics: dict[str, Any]) -> list[str]:
    """The drops for the terminal, a line each."""
    lines = []
    for fall in falls(metrics):
        for name, cells in fall.lines:
            if name.startswith("drop at "):
                pairs = zip(fall.encoders, cells, strict=True)
                said = [f"{one} {text} ({small})" for one, (text, small) in pairs if text]
                lines.append(f"{fall.task}, {fall.kind.label}, {name}: {', '.join(said)}")
    return ["", "inside minus site, with the 95 % interval", *lines] if lines else []


def _line(name: str, rows: dict[str, Any], encoders: list[str], kind: Metric) -> tuple[str, list[tuple[str, str]]]:
    n = next((row["n"] for row in rows.values()), 0)
    return f"{name}, n = {n}", _cells(rows, encoders, kind)


def _cells(values: dict[str, Any], encoders: list[str], kind: Metric) -> list[tuple[str, str]]:
    cells = []
    for name in encoders:
        one = values.get(name) or {}
        bounds = [one.get(key) for key in ("low", "high")]
        small = " to ".join(number(bound, kind) for bound in bounds) if None not in bounds else ""
        cells.append((number(one["value"], kind), small) if one.get("value") is not None else ("", ""))
    return cells
