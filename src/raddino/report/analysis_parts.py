"""What the sections of the analyses share: their parts, and rows of ``metrics.json`` as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raddino.report.analysis_figures import Row, Series
from raddino.report.style import svg
from raddino.report.tables import metric, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Figure:
    """One drawing, as the template's ``panel`` takes it."""

    title: str
    svg: str
    reads: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the line; a cell is a text and a small text below it."""

    caption: str
    head: list[str]
    lines: list[tuple[str, list[tuple[str, str]]]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """One analysis.

    Attributes:
        key: name in ``metrics.json``.
        title, reads: heading, and how the section is to be read.
        words: what was found, in sentences.
        panels: figures.
        pairs: figures that belong together, by task.
        tables: below them.
        left_out: what is not shown, with the reason.
    """

    key: str
    title: str
    reads: str
    words: list[str] = field(default_factory=list)
    panels: list[Figure] = field(default_factory=list)
    pairs: dict[str, list[Figure]] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """What all sections share: palette numbers of the encoders by name, and the stamp of synthetic data."""

    colours: dict[str, int]
    stamp: str

    def figure(self, title: str, draw: Callable[[Axes], None], size: tuple[float, float], reads: str = "") -> Figure:
        """Draw."""
        from markupsafe import Markup

        return Figure(title, Markup(svg(draw, *size, stamp=self.stamp)), reads)

    def series(self, rows: Iterable[Row], x: str) -> list[Series]:
        """Rows by encoder, ordered by the field ``x``."""
        rows = list(rows)
        found = []
        for name, colour in self.colours.items():
            own = sorted((row for row in rows if row["encoder"] == name), key=lambda row: row[x])
            if own:
                found.append(Series(colour, [float(row[x]) for row in own], own))
        return found


def measured(rows: list[Row]) -> list[Row]:
    """Rows that have a value."""
    return [row for row in rows if row["value"] is not None]


def by(rows: list[Row], key: str) -> dict[str, list[Row]]:
    """Rows by the value of a field, in order of appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def find(rows: Iterable[Row], **fields: Any) -> Row:
    """The first row with these values; empty when there is none."""
    return next((row for row in rows if all(row.get(key) == value for key, value in fields.items())), {})


def text_of(row: Row, key: str = "value") -> str:
    """A number of the row in the form of its metric."""
    return number(row.get(key), metric(_plain(row["metric"])))


def interval_of(row: Row) -> str:
    """``0.61 to 0.74``, empty where there is none."""
    return f"{text_of(row, 'low')} to {text_of(row, 'high')}" if row.get("low") is not None else ""


def cell_of(row: Row) -> tuple[str, str]:
    """Value and interval; a dash for an empty row."""
    return (text_of(row), interval_of(row)) if row and row["value"] is not None else ("–", "")


def _plain(name: str) -> str:
    """A metric whose values are bounded like the given one's: everything here but MAE and R2 lies in 0..1."""
    return name if name in ("mae", "r2") else "auroc"


def label_of(name: str) -> str:
    """A metric in words; sensitivities short."""
    level = name.removeprefix("sensitivity_at_specificity_")
    return f"sensitivity at {level} % spec." if level != name else metric(name).label


def signed(value: float) -> str:
    """Three decimals with a sign."""
    return f"{value:+.3f}".replace("-", "−")


def p_of(row: Row) -> str:
    """The Holm-adjusted p-value in words."""
    return "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"


def percent(share: float) -> str:
    """``25 %`` of 0.25."""
    return f"{100 * share:g} %"


def left_out_of(rows: list[Row], name: Callable[[Row], str]) -> list[str]:
    """Rows without a value by reason, the reason first."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["value"] is None:
            found.setdefault(row["reason"], []).append(name(row))
    return [f"{capital(reason)}: {', '.join(dict.fromkeys(names))}" for reason, names in found.items()]


def capital(words: str) -> str:
    """With a first capital letter; the rest as it is."""
    return words[:1].upper() + words[1:]
