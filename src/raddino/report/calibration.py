"""The report's section on calibration, inside and at other sites, and its lines for the terminal."""

from __future__ import annotations

from functools import partial
from typing import Any

from raddino.report import analysis_figures as figures
from raddino.report.analysis_figures import Row
from raddino.report.analysis_parts import Page, Section, Table, by, cell_of, find, interval_of, left_out_of, signed

TOGETHER = 3
"""Most encoders in one reliability diagram."""
READS = (
    "Observed share of positives over the predicted probability in 15 equal bins, as predicted and with the "
    "temperature that validation images chose (with more than three encoders a panel an encoder, as predicted); "
    "larger dots hold more images, whiskers are 95 % intervals (bins of five images and more). ECE is the mean "
    "distance from the dotted line, Brier the mean squared error of the probability; lower is better. Observed minus "
    "expected is the share of positives minus the mean probability: below 0 where risks are too high. The intercept "
    "says the same on the log-odds scale (0 is right); a slope below 1 says that risks are too extreme, above 1 too "
    "timid."
)
RECALIBRATED = (
    " At another site each patient's risks are also recalibrated by the other patients there, in five parts: by an "
    "intercept alone, and by intercept and slope (Platt)."
)
COX = ("in_the_large", "calibration_intercept", "calibration_slope")
WAYS = ("intercept", "platt")


def calibration_section(page: Page, rows: list[Row]) -> Section:
    """Words on sites whose mean risk is off, reliability diagrams, and tables of all numbers."""
    away = any(row["role"] == "recalibrated" for row in rows)
    section = Section(
        "calibration", "Calibration", READS + (RECALIBRATED if away else ""), words=_words(rows),
        left_out=left_out_of(rows, lambda row: f"{row['metric']}, {row['task']}"),
    )  # fmt: skip
    bins = [row for row in rows if row["role"] == "bin"]
    cox, recalibrated, scaled = [], [], []
    for task, own in by(rows, "task").items():
        of_task = [row for row in bins if row["task"] == task]
        plain, tempered = (
            page.series((row for row in of_task if row["scaled"] == scaled), "predicted") for scaled in (False, True)
        )
        panels = {"As predicted": plain, "With temperature": tempered}
        if len(plain) > TOGETHER:
            panels = {one.rows[0]["encoder"]: [one] for one in plain}
        for word, series in panels.items():
            if series:
                draw = partial(figures.draw_reliability, series=series)
                section.pairs.setdefault(task, []).append(page.figure(word, draw, (3.2, 3.0)))
        for name in page.colours:
            mine = [row for row in own if row["encoder"] == name]
            found = [find(mine, role="summary", metric=key)
                     for key in ("ece", "ece_temperature", "brier", "brier_temperature")]  # fmt: skip
            if any(found):
                temperature = (f"{found[0]['temperature']:.2f}" if found[0] else "–", "")
                scaled.append((task, [(name, ""), *map(cell_of, found), temperature]))
            if any(row["role"] == "cox" for row in mine):
                cells = [_signed(find(mine, role="cox", metric=key)) for key in COX[:2]]
                cox.append((task, [(name, ""), *cells, cell_of(find(mine, role="cox", metric=COX[2]))]))
            if any(row["role"] == "recalibrated" for row in mine):
                off = [_signed(find(mine, role="recalibrated", metric=COX[0], recalibration=way)) for way in WAYS]
                recalibrated.append((task, [(name, ""), *_ways(mine, "ece"), *_ways(mine, "brier"), *off]))
    head = ["Encoder", "observed − expected", "intercept", "slope"]
    tables = [Table("In the large, intercept and slope", head, cox)]
    ways = ["as it came", "intercept", "Platt"]
    head = ["Encoder", *(f"{metric}, {way}" for metric in ("ECE", "Brier") for way in ways)]
    head += [f"observed − expected, {way}" for way in ways[1:]]
    tables.append(Table("Recalibrated at the site", head, recalibrated))
    head = ["Encoder", "ECE", "ECE, scaled", "Brier", "Brier, scaled", "temperature"]
    tables.append(Table("Before and after temperature scaling", head, scaled, folded=True))
    section.tables.extend(table for table in tables if table.lines)
    return section


def calibration_lines(metrics: dict[str, Any]) -> list[str]:
    """What the mean risk is off by at other sites, for the terminal."""
    rows = (metrics.get("analyses") or {}).get("calibration") or []
    lines = []
    for task, own in by([row for row in rows if row.get("site") and row["role"] == "cox"], "task").items():
        said = []
        for encoder, mine in by(own, "encoder").items():
            off, slope = find(mine, metric=COX[0]), find(mine, metric=COX[2])
            if off:
                said.append(f"{encoder} {_text(off)}, slope {_text(slope, plain=True)}")
        lines += [f"{task}: {'; '.join(said)}"] if said else []
    return ["", "calibration at other sites: observed minus expected, slope", *lines] if lines else []


def _words(rows: list[Row]) -> list[str]:
    words = []
    for row in rows:
        if row["role"] != "cox" or row["metric"] != COX[0] or not row.get("site") or not _off(row):
            continue
        after = find(rows, task=row["task"], encoder=row["encoder"], role="recalibrated", metric="ece",
                     recalibration="platt")  # fmt: skip
        before = find(rows, task=row["task"], encoder=row["encoder"], role="summary", metric="ece")
        mended = f"; ECE {cell_of(before)[0]}, recalibrated there {cell_of(after)[0]}" if before and after else ""
        high = "high" if row["value"] < 0 else "low"
        words.append(f"{row['task']}, {row['encoder']}: risks are too {high} on the whole, observed minus expected "
                     f"{signed(row['value'])} ({interval_of(row)}){mended}.")  # fmt: skip
    return words


def _off(row: Row) -> bool:
    return row["low"] is not None and row["high"] is not None and (row["low"] > 0 or row["high"] < 0)


def _ways(rows: list[Row], metric: str) -> list[tuple[str, str]]:
    changed = [find(rows, role="recalibrated", metric=metric, recalibration=way) for way in WAYS]
    return [cell_of(one) for one in (find(rows, role="summary", metric=metric), *changed)]


def _signed(row: Row) -> tuple[str, str]:
    return (signed(row["value"]), interval_of(row)) if row and row["value"] is not None else ("–", "")


def _text(row: Row, plain: bool = False) -> str:
    value, bounds = cell_of(row) if plain else _signed(row)
    return f"{value} ({bounds})" if bounds else value
