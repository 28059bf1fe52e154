"""The report's section on whether a ranking holds at other sites, and its lines for the terminal."""

from __future__ import annotations

from typing import Any

from raddino.report.analysis_figures import Row
from raddino.report.analysis_parts import Page, Section, Table, by, find, left_out_of, measured, percent
from raddino.report.tables import metric, number

READS = (
    "Rank of each encoder at each place, 1 is best; an encoder may stand anywhere in the range below, and all ranges "
    "of a place hold together with 95 %: it ranks behind those that are clearly better and before those that are "
    "clearly worse. Agreement is Kendall's tau-b of two places: 1 the same order, −1 the reverse; its interval comes "
    "from patients of both drawn anew. “Leads” is the share of such draws in which the leader leads."
)
EVERYWHERE = "all places"


def site_ranks_section(page: Page, rows: list[Row]) -> Section:
    """Words on who leads where, and the tables."""
    left_out = left_out_of(rows, lambda row: row["task"])
    section, rows = Section("site_ranks", "Ranking over sites", READS, left_out=left_out), measured(rows)
    agreement, leads = [], []
    for task, own in by(rows, "task").items():
        section.words.append(_words(task, own) + ".")
        placed = [row for row in own if row["role"] == "rank"]
        names = [name for name in page.colours if find(placed, encoder=name)]
        lines = [
            (site, [_rank_cell(find(here, encoder=name)) for name in names])
            for site, here in by(placed, "site").items()
        ]
        if placed:
            section.tables.append(Table(f"{task}: rank by {metric(placed[0]['of']).label}", names, lines))
        agreement += [
            (task, [(f"{row['other']} and {row['site']}", ""), (_tau(row["value"]), _range(row, _tau))])
            for row in own if row["role"] == "agreement"
        ]  # fmt: skip
        leads += [
            (task, [(row["encoder"], ""), (row["site"], ""), ("yes" if row["leads"] else "no", ""),
                    (percent(round(row["value"], 3)), "")])
            for row in own if row["role"] == "leader"
        ]  # fmt: skip
    if agreement:
        section.tables.append(Table("Agreement of two places", ["places", "tau"], agreement))
    if leads:
        section.tables.append(
            Table("Whether the leader leads", ["Leader", "where", "leads", "of draws"], leads, folded=True)
        )
    return section


def site_rank_lines(metrics: dict[str, Any]) -> list[str]:
    """Who leads where, for the terminal, a line a task."""
    rows = (metrics.get("analyses") or {}).get("site_ranks") or []
    lines = [_words(task, own) for task, own in by(rows, "task").items()]
    return ["", "ranking over sites", *lines] if lines else []


def clearly_behind(rows: list[Row], task: str, site: str, encoder: str) -> bool:
    """Whether some encoder is distinguishably better than this one at the site."""
    return bool((find(rows, role="rank", task=task, site=site, encoder=encoder).get("low") or 0) > 1)


def _words(task: str, rows: list[Row]) -> str:
    leader = [row for row in rows if row["role"] == "leader"]
    if not leader:
        return f"{task}: no encoder could be drawn as the leader"
    name = leader[0]["encoder"]
    lost = [row["site"] for row in leader if not row["leads"] and row["site"] != EVERYWHERE]
    share = next((row["value"] for row in leader if row["site"] == EVERYWHERE), None)
    held = "" if share is None else f"; it leads at all places in {100 * share:.0f} % of draws"
    if not lost:
        return f"{task}: {name} leads at all places{held.replace('; it leads at all places', ',')}"
    where = "inside" if leader[0]["site"] == "inside" else "on average over sites"
    said = []
    for site in lost:
        here = [row for row in rows if row["role"] == "rank" and row["site"] == site]
        first = min(here, key=lambda row: row["value"])["encoder"]
        clear = "clearly, " if clearly_behind(here, task, site, name) else ""
        own = find(here, encoder=name)
        said.append(f"{first} at {site} ({clear}{name} has rank {_whole(own['value'])}, {_range(own, _whole)})")
    return f"{task}: no ranking holds over sites: {name} leads {where}, but {', '.join(said)}{held}"


def _rank_cell(row: Row) -> tuple[str, str]:
    if not row:
        return "–", ""
    return _whole(row["value"]), f"{_range(row, _whole)} · {number(row['reached'], metric(row['of']))}"


def _range(row: Row, text: Any) -> str:
    low, high = row.get("low"), row.get("high")
    return "" if low is None or high is None else text(low) if low == high else f"{text(low)} to {text(high)}"


def _whole(value: float) -> str:
    return f"{value:g}"


def _tau(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
