"""Figures of the analyses: curves with bands, groups with whiskers, reliability, values with and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raddino.report.style import MUTED, RULE, THEME, banded, dash, hue

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
DOTTED = (0, (1, 2))
PAPER = THEME["paper"][0]
FEW = 5
"""Images below which a bin of a reliability diagram is a lone dot."""
ROOM = 0.62
"""Share of a line's height that several encoders divide among themselves."""


@dataclass(frozen=True)
class Series:
    """Points of one encoder in order of ``x``; rows without a value are left out before."""

    colour: int
    x: list[float]
    rows: list[Row]

    def column(self, key: str) -> list[float]:
        """Values of one field, NaN where there is none."""
        return [float("nan") if row.get(key) is None else float(row[key]) for row in self.rows]


def draw_curves(
    axes: Axes,
    series: Sequence[Series],
    ticks: dict[float, str],
    x: str,
    y: str,
    log: bool,
    ends: tuple[float, float] | None = None,
    better_is_lower: bool = False,
) -> None:
    """A line an encoder, and bars of one standard deviation over seeds where rows have one.

    A 95 % band goes with each line, or with more than three encoders the first one's and the best at the last place.

    Args:
        ticks: places on the x axis, with their words.
        x, y: names of the axes.
        log: whether x is logarithmic.
        ends: least and largest value that the y axis shows, for axes that are compared.
        better_is_lower: whether the best is the lowest.
    """
    if log:
        axes.set_xscale("log")
    sign = -1 if better_is_lower else 1
    bands = banded({one.colour: sign * one.column("value")[-1] for one in series})
    for one in series:
        line: dict[str, Any] = {"color": hue(one.colour), "linestyle": dash(one.colour)}
        low, high, value = (one.column(key) for key in ("low", "high", "value"))
        if one.colour in bands:
            axes.fill_between(one.x, low, high, color=hue(one.colour), alpha=0.13, linewidth=0)
        axes.plot(one.x, value, marker="o", markersize=3.6, **line)
        axes.errorbar(one.x, value, one.column("seed_sd"), fmt="none", ecolor=hue(one.colour), elinewidth=1, capsize=2)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set(xlabel=x, ylabel=y)
    axes.margins(x=0.05, y=0.1)
    if ends:
        margin = 0.05 * (ends[1] - ends[0] or 1)
        axes.set_ylim(ends[0] - margin, ends[1] + margin)


def draw_groups(
    axes: Axes, lines: Sequence[str], points: Sequence[tuple[int, int, Row]], x: str, breaks: set[int]
) -> None:
    """Values of groups with 95 % whiskers, a line a group, from above.

    Args:
        lines: names of the groups.
        points: number of the line, palette number of the encoder, row.
        breaks: lines above which a rule is drawn.
    """
    place = _places([colour for _, colour, _ in points])
    for line, colour, row in points:
        y = line + place[colour]
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=hue(colour), linewidth=1.6)
        axes.plot(row["value"], y, "o", color=hue(colour), markersize=4.6)
    for line in breaks:
        axes.axhline(line - 0.5, color=RULE, linewidth=1)
    _lines(axes, lines, x)


def draw_with_and_without(
    axes: Axes, lines: Sequence[str], points: Sequence[tuple[int, int, float, float]], alone: dict[int, float]
) -> None:
    """Crude AUROC (ring) and AUROC within the confounder (disc) of each encoder, a line a finding, from above.

    Args:
        lines: names of the findings.
        points: number of the line, palette number of the encoder, crude and stratified value.
        alone: by line the AUROC of the confounder alone, drawn as a cross.
    """
    place = _places([colour for _, colour, _, _ in points])
    axes.axvline(0.5, color=MUTED, linewidth=1, linestyle=DOTTED)
    for line, colour, crude, within in points:
        y = line + place[colour]
        axes.plot([crude, within], [y, y], color=hue(colour), linewidth=1.6)
        axes.plot(crude, y, "o", markerfacecolor=PAPER, markeredgecolor=hue(colour), markeredgewidth=1.4, markersize=5)
        axes.plot(within, y, "o", color=hue(colour), markersize=5)
    for line, value in alone.items():
        axes.plot(value, line, "x", color=MUTED, markersize=5.5, markeredgewidth=1.5)
    _lines(axes, lines, "AUROC")


def draw_reliability(axes: Axes, series: Sequence[Series]) -> None:
    """Observed share over mean probability of each bin; dotted: as predicted.

    Areas follow the number of images; bins of fewer than five have no whisker, and no line passes through them.
    """
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DOTTED)
    most = max(row["n"] for one in series for row in one.rows)
    for one in series:
        full = [i for i, row in enumerate(one.rows) if row["n"] >= FEW]
        value, low, high = (one.column(key) for key in ("value", "low", "high"))
        x, y, bottom, top = ([column[i] for i in full] for column in (one.x, value, low, high))
        axes.plot(x, y, color=hue(one.colour), linestyle=dash(one.colour), linewidth=1.2)
        axes.vlines(x, bottom, top, color=hue(one.colour), alpha=0.45, linewidth=1)
        sizes = [7 + 50 * row["n"] / most for row in one.rows]
        axes.scatter(one.x, value, s=sizes, color=hue(one.colour), zorder=3, linewidths=0)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="probability", ylabel="observed share", aspect="equal")
    axes.set(xticks=ticks, yticks=ticks)


def draw_decisions(axes: Axes, series: Sequence[Series], everybody: Sequence[Row]) -> None:
    """Net benefit over the threshold probability, with 95 % bands; solid grey: acting on all, dotted: on nobody."""
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=DOTTED)
    if everybody:
        axes.plot(
            [row["threshold"] for row in everybody], [row["value"] for row in everybody], color=MUTED, linewidth=1
        )
    bands = banded({one.colour: max(one.column("value")) for one in series})
    for one in series:
        low, high, value = (one.column(key) for key in ("low", "high", "value"))
        if one.colour in bands:
            axes.fill_between(one.x, low, high, color=hue(one.colour), alpha=0.13, linewidth=0)
        axes.plot(one.x, value, color=hue(one.colour), linestyle=dash(one.colour))
    top = max((row["value"] for row in everybody), default=0.1)
    top = max([top, *(value for one in series for value in one.column("value") if value == value)])
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.12 * top), xticks=ticks, xlabel="threshold probability")
    axes.set_ylabel("net benefit")


def _places(colours: Sequence[int]) -> dict[int, float]:
    """Offset of each encoder within a line."""
    present = sorted(set(colours))
    step = ROOM / max(len(present), 2)
    return {colour: (i - (len(present) - 1) / 2) * step for i, colour in enumerate(present)}


def _lines(axes: Axes, lines: Sequence[str], x: str) -> None:
    axes.set_yticks(range(len(lines)), list(lines))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x)
