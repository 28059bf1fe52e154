"""The report's sections on decision curves and operating points."""

from __future__ import annotations

from functools import partial
from typing import Any

from raddino.report import analysis_figures as figures
from raddino.report.analysis_figures import Row
from raddino.report.analysis_parts import Page, Section, Table, by, cell_of, find, left_out_of, measured, percent

CURVES = (
    "Net benefit of acting on the probability (after temperature scaling), against the probability from which one "
    "would act: true positives minus false positives, these weighed by the odds of that threshold, per image. Solid "
    "grey: acting on everybody; dotted: on nobody. Bands are 95 % intervals over patients. A model is worth acting on "
    "where it lies above both; the prevalence of these test images, which is often not that of a clinic, is part of "
    "the answer."
)
POINTS = (
    "The threshold is the highest at which the validation images have the chosen sensitivity; what test images have "
    "there stands behind it, with 95 % intervals over patients. Predictive values hold for the prevalence of these "
    "images alone."
)
METRICS = ("sensitivity", "specificity", "ppv", "npv")


def decision_section(page: Page, rows: list[Row]) -> Section:
    """A figure a task, where the gain over acting on all or nobody is clear, and the values."""
    left_out = left_out_of(rows, lambda row: row["task"])
    section = Section("decision_curves", "Decision curves", CURVES, left_out=left_out)
    for task, own in by(measured(rows), "task").items():
        models = [row for row in own if row["role"] == "model"]
        everybody = sorted((row for row in own if row["role"] == "all"), key=lambda row: row["threshold"])
        draw = partial(figures.draw_decisions, series=page.series(models, "threshold"), everybody=everybody)
        section.panels.append(page.figure(task, draw, (3.7, 2.9)))
        section.words.extend(_worth(task, name, mine) for name, mine in by(models, "encoder").items())
        shown = [row["threshold"] for row in everybody][::2]
        lines = [
            (name, [cell_of(find(models, encoder=name, threshold=at)) for at in shown])
            for name in page.colours if find(models, encoder=name)
        ]  # fmt: skip
        lines.append(("acting on all", [cell_of(find(everybody, threshold=at)) for at in shown]))
        section.tables.append(Table(f"{task}: net benefit", [percent(at) for at in shown], lines, folded=True))
    return section


def operating_section(page: Page, rows: list[Row]) -> Section:
    """One table."""
    lines = []
    values = measured(rows)
    for task, own in by(values, "task").items():
        for name in page.colours:
            for level in sorted({row["level"] for row in own}):
                mine = [row for row in own if row["encoder"] == name and row["level"] == level]
                if mine:
                    cells = [cell_of(find(mine, metric=key)) for key in METRICS]
                    threshold = (f"{mine[0]['threshold']:.3f}", "")
                    lines.append((task, [(name, ""), (percent(level), ""), threshold, *cells]))
    head = ["Encoder", "chosen", "threshold", "sensitivity", "specificity", "PPV", "NPV"]
    section = Section(
        "operating_points", "Operating points", POINTS,
        left_out=left_out_of(rows, lambda row: f"{row['metric']}, {row['task']}, {row['encoder']}"),
    )  # fmt: skip
    if lines:
        section.tables.append(Table("At a chosen sensitivity", head, lines))
    return section


def operating_lines(metrics: dict[str, Any]) -> list[str]:
    """Sensitivity and specificity at each point, for the terminal."""
    rows = measured((metrics.get("analyses") or {}).get("operating_points") or [])
    lines = []
    for task, own in by(rows, "task").items():
        for level, chosen in by(own, "level").items():
            said = []
            for encoder, mine in by(chosen, "encoder").items():
                pair = [_spoken(find(mine, metric=key)) for key in METRICS[:2]]
                said.append(f"{encoder} {' and '.join(pair)}")
            lines.append(f"{task}, chosen {percent(float(level))}: {'; '.join(said)}")
    return ["", "operating points: sensitivity and specificity on test images", *lines] if lines else []


def _worth(task: str, encoder: str, rows: list[Row]) -> str:
    """Between which thresholds acting on the model is clearly better than acting on all or nobody."""
    runs: list[list[float]] = [[]]
    for row in rows:
        if (row["gain_low"] or 0) > 0:
            runs[-1].append(row["threshold"])
        elif runs[-1]:
            runs.append([])
    said = [percent(run[0]) if len(run) == 1 else f"{percent(run[0])} to {percent(run[-1])}" for run in runs if run]
    if not said:
        return f"{task}, {encoder}: at no threshold clearly better than acting on everybody or nobody."
    return f"{task}, {encoder}: clearly better than acting on everybody or nobody at thresholds of {', '.join(said)}."


def _spoken(row: Row) -> str:
    value, bounds = cell_of(row)
    return f"{value} ({bounds})" if bounds else value
