"""What an archive holds, on the page of an inspection and on the terminal: figures, tables, what tells groups apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from raddino.errors import counted
from raddino.inspection.holdings import DECADES, OLDEST, THE_REST, UNKNOWN
from raddino.report.analysis_figures import draw_groups
from raddino.report.page import Sheet
from raddino.report.style import HUES, dash, hue, legend, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from raddino.inspection.drift import Told
    from raddino.inspection.holdings import Tables

DRAWN = ("source", "corpus", "manufacturer", "year_band")
"""Columns whose groups get figures and label tables of their own."""
MOST_LABELS, MOST_LINES, LONGEST = 20, 24, 22
BESIDE, LINE = 14, 0.17
"""Letters of a name that has room beside another in a legend, and inches of a line."""
HEIGHT = 2.6
MOST_SAID = 6
"""Sentences on the terminal and on the page; the table has the rest."""
ABSENT = "–"


@dataclass(frozen=True)
class Drawing:
    """A figure with its words."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class HoldingsPart:
    """What the page shows: sentences, figures, tables."""

    said: list[str]
    figures: list[Drawing]
    sheets: list[Sheet]


def holdings_part(tables: Tables, told: Sequence[Told] = (), stamp: str = "") -> HoldingsPart:
    """The part of the page.

    Args:
        tables: of :func:`raddino.inspection.holdings.holdings`.
        told: of :func:`raddino.inspection.drift.drift`.
        stamp: words on each figure.
    """
    figures: list[Drawing | None] = []
    sheets: list[Sheet | None] = []
    for by in (by for by in dict.fromkeys(tables["counts"]["by"]) if by != "all"):
        sheets.append(_groups_sheet(tables, by))
        if by in DRAWN:
            figures += [_histograms(tables, by, stamp), _prevalence(tables, by, stamp)]
    figures.insert(1, _ages(tables, stamp))
    figures.append(_told_figure(told, stamp))
    sheets += [_labels_sheet(tables, by) for by in DRAWN] + [_numbers_sheet(tables), _missing_sheet(tables)]
    sheets.append(_told_sheet(told))
    return HoldingsPart(_apart(told)[:MOST_SAID], [one for one in figures if one], [one for one in sheets if one])


def holdings_text(tables: Tables, told: Sequence[Told] = ()) -> str:
    """The few lines for a terminal."""
    whole, sources = _of(tables, "counts", "all").iloc[0], _of(tables, "counts", "source")
    named = ", ".join(f"{row.group} {row.images}" for row in sources.itertuples())
    lines = [f"holds {counted(whole.images, 'image')} of {counted(whole.patients, 'patient')}: {named}"]
    facts = [_views(tables, "all", "all"), _age(tables, "all", "all"), _women(tables, "all", "all")]
    facts = [f"{name} {text}" for name, text in zip(("views", "age", "women"), facts, strict=True) if text != ABSENT]
    lines += [f"  {'; '.join(facts)}"] if facts else []
    apart = _apart(told)
    left = len(apart) - MOST_SAID
    more = [f"{left} more on the page"] if left > 0 else []
    return "\n".join([*lines, *(f"  {sentence}" for sentence in [*apart[:MOST_SAID], *more])])


def _apart(told: Sequence[Told]) -> list[str]:
    """What is said of groups whose interval lies above chance, the highest AUROC first."""
    return [one.said for one in sorted(told, key=lambda one: -one.auroc) if one.low > 0.5]


def _of(tables: Tables, name: str, by: str, group: str | None = None) -> pd.DataFrame:
    if name not in tables:
        return pd.DataFrame()
    table = tables[name]
    chosen = table["by"] == by
    return table[chosen if group is None else chosen & (table["group"] == group)]


def _order(tables: Tables, by: str) -> list[str]:
    """Groups by falling size, years in order; what is not known last."""
    groups = _of(tables, "counts", by)["group"].tolist()
    if by == "year_band":
        groups.sort()
    return sorted(groups, key=lambda name: (name == UNKNOWN, name == THE_REST))


def _named(by: str) -> str:
    return by.replace("_", " ")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _groups_sheet(tables: Tables, by: str) -> Sheet:
    columns = [_named(by), "images", "patients", "studies", "MiB", "median size", "shapes", "views", "age", "women",
               "mean grey"]  # fmt: skip
    rows = []
    for group in _order(tables, by):
        count = _of(tables, "counts", by, group).iloc[0]
        size = _of(tables, "sizes", by, group).iloc[0]
        grey = _of(tables, "greys", by, group)
        rows.append([
            group, f"{count['images']}", f"{count['patients']}",
            ABSENT if pd.isna(count["studies"]) else f"{count['studies']}", f"{count['mebibytes']:.1f}",
            f"{size['width_median']:.0f} x {size['height_median']:.0f}", f"{size['shapes']}",
            _views(tables, by, group), _age(tables, by, group), _women(tables, by, group),
            f"{grey['mean'].iloc[0]:.2f}" if len(grey) else ABSENT,
        ])  # fmt: skip
    kept = [place for place in range(len(columns)) if place < 2 or any(row[place] != ABSENT for row in rows)]
    title = f"By {_named(by)} (size: width x height of the packed image; age: median and quartiles)"
    return Sheet(title, [columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


def _views(tables: Tables, by: str, group: str) -> str:
    table = _of(tables, "views", by, group)
    if not len(table) or set(table["view"]) == {UNKNOWN}:
        return ABSENT
    rows = table.sort_values("images", ascending=False, kind="stable").itertuples()
    return ", ".join(f"{row.view} {row.images}" for row in rows)


def _age(tables: Tables, by: str, group: str) -> str:
    table = _of(tables, "numbers", by, group)
    table = table[table["column"] == "age"] if len(table) else table
    return _quartiles(table.iloc[0], "age") if len(table) else ABSENT


def _quartiles(row: pd.Series, column: str) -> str:
    low, middle, high = (
        f"{OLDEST}+" if column == "age" and row[name] >= OLDEST else f"{row[name]:.4g}"
        for name in ("q1", "median", "q3")
    )
    return f"{middle} ({low} to {high})"


def _women(tables: Tables, by: str, group: str) -> str:
    table = _of(tables, "people", by, group)
    known = table[table["sex"].isin(["F", "M"])] if len(table) else table
    if not len(known):
        return ABSENT
    return f"{known.loc[known['sex'] == 'F', 'patients'].sum() / known['patients'].sum():.0%}"


def _labels_sheet(tables: Tables, by: str) -> Sheet | None:
    table, groups = _of(tables, "labels", by), _order(tables, by)
    if not len(table):
        return None
    cells = {(row.label, row.group): f"{row.positive} of {row.known} ({row.prevalence:.1%})"
             for row in table.itertuples()}  # fmt: skip
    labels = _by_positives(table).index
    rows = [[_named(label), *(cells.get((label, group), ABSENT) for group in groups)] for label in labels]
    return Sheet(f"Labels by {_named(by)}: positive of known (prevalence)", ["label", *groups], rows)


def _by_positives(table: pd.DataFrame) -> pd.Series:
    """Positives of each label, falling."""
    return table.groupby("label")["positive"].sum().sort_values(ascending=False, kind="stable")


def _numbers_sheet(tables: Tables) -> Sheet | None:
    table, groups = _of(tables, "numbers", "source"), _order(tables, "source")
    if not len(table):
        return None
    cells = {(row["column"], row["group"]): f"{_quartiles(row, row['column'])}, n {row['known']}"
             for _, row in table.iterrows()}  # fmt: skip
    rows = [[_named(name), *(cells.get((name, group), ABSENT) for group in groups)]
            for name in dict.fromkeys(table["column"])]  # fmt: skip
    return Sheet("Numbers by source: median (quartiles), images on which they are known", ["", *groups], rows)


def _missing_sheet(tables: Tables) -> Sheet | None:
    table, groups = _of(tables, "missing", "source"), _order(tables, "source")
    if not len(table):
        return None
    cells = {(row.column, row.group): f"{row.missing / row.images:.1%}" for row in table.itertuples()}
    rows = [[_named(name), *(cells[name, group] for group in groups)] for name in dict.fromkeys(table["column"])]
    return Sheet("Not known, share of the images", ["column", *groups], rows)


def _told_sheet(told: Sequence[Told]) -> Sheet | None:
    if not told:
        return None
    rows = []
    for one in told:
        most = ", ".join(f"{name} {value:.2f}" for _, name, value in one.inputs[:3])
        spread = f"{one.low:.2f} to {one.high:.2f}"
        rows.append([f"{one.one} / {one.other}", _named(one.by), one.kind, f"{one.auroc:.2f}", spread, most,
                     f"{one.images}", f"{one.patients}"])  # fmt: skip
    columns = ["groups", "of", "from", "AUROC", "95 % interval", "single inputs and facts", "images", "patients"]
    strong = {place for place, one in enumerate(told) if one.low > 0.5}
    return Sheet("What tells groups apart (bold: the interval lies above 0.5)", columns, rows, strong)


def _columns(names: Collection[str]) -> int:
    """Of a legend."""
    return 2 if max(map(len, names), default=0) <= BESIDE else 1


def _taller(names: Collection[str]) -> float:
    """Inches that a legend of more than one line takes from the axes."""
    return LINE * (-(-len(names) // _columns(names)) - 1)


def _histograms(tables: Tables, by: str, stamp: str) -> Drawing | None:
    table, colours = _of(tables, "greys", by), _colours(tables, by)
    if not len(table):
        return None
    draw = partial(_draw_histograms, histograms=table.set_index("group")["histogram"], colours=colours)
    return Drawing(
        f"Grey values by {_named(by)}", svg(draw, height=HEIGHT + _taller(colours), stamp=stamp),
        "Mean share of the pixels in each of 32 bins over the whole range." + _left_out(tables, by),
    )  # fmt: skip


def _colours(tables: Tables, by: str) -> dict[str, int]:
    """Groups that are drawn, to their palette numbers."""
    return {group: place for place, group in enumerate(_order(tables, by)[: len(HUES)])}


def _left_out(tables: Tables, by: str) -> str:
    left = len(_order(tables, by)) - len(HUES)
    return f" The largest {len(HUES)}; {left} more are in the table." if left > 0 else ""


def _draw_histograms(axes: Axes, histograms: pd.Series, colours: dict[str, int]) -> None:
    for group, place in colours.items():
        shares = histograms[group]
        centres = (np.arange(len(shares)) + 0.5) / len(shares)
        axes.plot(centres, shares, color=hue(place), linestyle=dash(place), label=_short(group))
    axes.set(xlabel="grey value, share of the range", ylabel="share of pixels", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    legend(axes, _columns(colours))


def _ages(tables: Tables, stamp: str) -> Drawing | None:
    people = _of(tables, "people", "source")
    if not len(people):
        return None
    shown = people[people["sex"].isin(["F", "M"]) & people["age"].isin(DECADES)]
    if not len(shown):
        return None
    left = int(people["patients"].sum() - shown["patients"].sum())
    colours = {group: place for group, place in _colours(tables, "source").items() if group in set(shown["group"])}
    draw = partial(_draw_ages, shown=shown, colours=colours)
    return Drawing(
        "Age and sex", svg(draw, height=HEIGHT + _taller(colours), stamp=stamp),
        f"Patients by decade, women to the left. {counted(left, 'patient')} of unknown age or sex left out."
        + _left_out(tables, "source"),
    )  # fmt: skip


def _draw_ages(axes: Axes, shown: pd.DataFrame, colours: dict[str, int]) -> None:
    reach = [0.0]
    for sex, sign in (("F", -1), ("M", 1)):
        start = np.zeros(len(DECADES))
        for group, place in colours.items():
            chosen = shown[(shown["sex"] == sex) & (shown["group"] == group)]
            if not len(chosen):
                continue
            width = chosen.set_index("age")["patients"].reindex(DECADES).fillna(0).to_numpy()
            label = None if _short(group) in axes.get_legend_handles_labels()[1] else _short(group)
            axes.barh(range(len(DECADES)), sign * width, left=sign * start, color=hue(place), height=0.8, label=label)
            start = start + width
        reach.append(float(start.max()))
    most = max(reach) * 1.08
    axes.set_yticks(range(len(DECADES)), list(DECADES))
    axes.set(xlim=(-most, most), xlabel="women · patients · men", ylabel="years")
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.axvline(0, color=hue(6), linewidth=0.8)
    if len(colours) > 1:
        legend(axes, _columns(colours))


def _prevalence(tables: Tables, by: str, stamp: str) -> Drawing | None:
    table = _of(tables, "labels", by)
    if not len(table):
        return None
    colours = {group: place for group, place in _colours(tables, by).items() if group in set(table["group"])}
    table = table[table["group"].isin(colours)]
    most = _by_positives(table)
    labels = most.index[:MOST_LABELS].tolist()
    left = len(most) - len(labels)
    draw = partial(_draw_prevalence, table=table, labels=labels, colours=colours)
    rest = f" The {len(labels)} with most positives; {left} more are in the table." if left else ""
    return Drawing(
        f"Labels by {_named(by)}", svg(draw, height=1.2 + _taller(colours) + 0.19 * len(labels), stamp=stamp),
        f"Share of positives among the images on which the label is known.{rest}{_left_out(tables, by)}",
    )  # fmt: skip


def _draw_prevalence(axes: Axes, table: pd.DataFrame, labels: list[str], colours: dict[str, int]) -> None:
    tall = 0.84 / len(colours)
    for nth, (group, place) in enumerate(colours.items()):
        shares = table[table["group"] == group].set_index("label")["prevalence"].reindex(labels)
        at = np.arange(len(labels)) - 0.42 + tall * (nth + 0.5)
        axes.barh(at, shares.fillna(0), height=tall, color=hue(place), label=_short(group))
    axes.set_yticks(range(len(labels)), [_short(_named(label)) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("prevalence")
    if len(colours) > 1:
        legend(axes, _columns(colours))


def _told_figure(told: Sequence[Told], stamp: str) -> Drawing | None:
    shown = list(told)[:MOST_LINES]
    if not shown:
        return None
    pairs = list(dict.fromkeys((one.by, one.one, one.other) for one in shown))
    kinds = list(dict.fromkeys(one.kind for one in shown))
    points = [(pairs.index((one.by, one.one, one.other)), kinds.index(one.kind),
               {"value": one.auroc, "low": one.low if one.low == one.low else None, "high": one.high})
              for one in shown]  # fmt: skip

    def draw(axes: Axes) -> None:
        for place, kind in enumerate(kinds):
            axes.plot([], [], "o", color=hue(place), markersize=4.6, label=kind)
        names = [_short(f"{one} / {other}") for _, one, other in pairs]
        draw_groups(axes, names, points, "AUROC", set())
        axes.axvline(0.5, color=hue(6), linewidth=0.9, linestyle=dash(4))
        axes.set_xlim(min(0.4, *(point[2]["low"] or 1 for point in points)) - 0.02, 1.02)
        legend(axes)

    left = len(told) - len(shown)
    rest = f" {left} more lines are in the table." if left else ""
    return Drawing("What tells groups apart", svg(draw, height=1.3 + 0.34 * len(pairs), stamp=stamp),
                   f"AUROC of a probe with its 95 % interval; 0.5 is chance.{rest}")  # fmt: skip
