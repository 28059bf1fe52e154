"""``raddino study``: plan, run and report; one HTML page, ``study.json`` and ``study.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.benchmark.contamination import MEANING, SEEN
from raddino.errors import RaddinoError
from raddino.files import lock, write_json, write_text
from raddino.metrics.power_law import PowerLaw
from raddino.report.page import p_text, plain
from raddino.report.study_words import clear, named, signed, summary
from raddino.report.style import THEME, dash, hue, stamp_of, svg
from raddino.report.tables import SHEET_COLUMNS, metric, number, spread_of
from raddino.study.data import open_corpora
from raddino.study.launch import check_launcher, run_on_ray, write_launch
from raddino.study.outcome import loss_of, lower_is_better, outcome
from raddino.study.plan import StudyPlan, plan_study, plan_text, price
from raddino.study.run import run_all, run_arm
from raddino.study.settings import load_study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BUSY = "another process runs this study in {out}: wait for it, or give another --out"
WIDE = 4.0
"""Ratio of the ends of an axis from which it is logarithmic."""


def study(
    name: str,
    out: str | Path,
    *,
    corpora: Sequence[str] = (),
    evaluate_on: str | None = None,
    size: str | None = None,
    encoders: Mapping[str, str] | None = None,
    plan_only: bool = False,
    hardware: str | None = None,
    arm: int | None = None,
    launch: str | None = None,
    device: str = "auto",
    workers: int | None = None,
) -> Path | None:
    """Plan a study, run what is not finished of it, and write its report.

    Args:
        name: shipped name or YAML file, see :class:`~raddino.study.settings.Study`.
        out: folder of arms, results and reports; studies that share it share the arms that they have in common.
        corpora: folders or URLs to pre-train on, instead of the study's.
        evaluate_on: folder to judge on, instead of the study's.
        size: one of the study's sizes, ``"smoke"`` for a laptop.
        encoders: by label, specs in the place of the study's.
        plan_only: print the plan and stop.
        hardware: of the plan's hours; None measures this machine.
        arm: run this one of the plan alone, and write no report.
        launch: ``"slurm"`` or ``"torchrun"`` writes a script instead of running, ``"ray"`` runs on a Ray cluster.
        device, workers: of training and evaluation.

    Returns:
        the page; None where none was written.

    Raises:
        ConfigError: a setting that is not accepted.
        RaddinoError: nothing has results, or the one arm failed.
    """
    if launch is not None:
        check_launcher(launch)
    short, asked = load_study(name, size)
    out = Path(out)
    opened = open_corpora(asked, out, corpora, evaluate_on, workers)
    made = plan_study(short, asked, out, opened, size=size or "", encoders=encoders)
    if arm is not None:
        run_arm(made, arm, device=device, workers=workers)
        return None
    text = plan_text(made, price(made, hardware=hardware, device=device))
    print(text, flush=True)
    write_text(made.folder / "plan.txt", text + "\n")
    words = _words(name, out, corpora, evaluate_on, size, encoders, device, workers)
    if launch in ("slurm", "torchrun"):
        print(f"launch: {write_launch(made, launch, words)}")
        return None
    if plan_only:
        return None
    with lock(made.folder, BUSY.format(out=made.folder)):
        if launch == "ray":
            run_on_ray(made, words, int(device == "cuda"))
        else:
            run_all(made, device=device, workers=workers)
        return write_study(made)


def _words(
    name: str,
    out: Path,
    corpora: Sequence[str],
    evaluate_on: str | None,
    size: str | None,
    encoders: Mapping[str, str] | None,
    device: str,
    workers: int | None,
) -> list[str]:
    """The arguments that make the same plan from any folder."""

    def whole(place: str) -> str:
        return str(Path(place).resolve()) if Path(place).exists() else place

    def placed(spec: str) -> str:
        family, colon, place = spec.partition(":")
        return f"{family}:{whole(place)}" if colon else whole(spec) if "/" in spec else spec

    words = [whole(name) if name.endswith((".yaml", ".yml")) else name, "--out", str(out.resolve())]
    for flag, values in (
        ("--corpus", [whole(place) for place in corpora]),
        ("--evaluate-on", [whole(evaluate_on)] if evaluate_on else []),
        ("--size", [size] if size else []),
        ("--encoder", [f"{label}={placed(spec)}" for label, spec in (encoders or {}).items()]),
        ("--device", [device]),
        ("--workers", [] if workers is None else [str(workers)]),
    ):
        words += [word for value in values for word in (flag, value)]
    return words


def write_study(made: StudyPlan) -> Path:
    """Write ``study.json``, ``study.csv`` and ``study.html`` of what the arms have left; returns the page.

    Raises:
        RaddinoError: no arm has results; says why the first has none.
    """
    data = outcome(made)
    if not data["rows"]:
        why = data["failed"][0] if data["failed"] else {"arm": made.arms[0].label, "reason": "not run"}
        raise RaddinoError(f"no arm of the study has results: {why['arm']}: {why['reason']}")
    data["summary"] = summary(data)
    write_text(made.folder / "study.csv", pd.DataFrame(data["rows"]).to_csv(index=False))
    write_json(made.folder / "study.json", plain(data))
    page = made.folder / "study.html"
    write_text(page, study_page(data))
    return page


def study_page(data: dict[str, Any]) -> str:
    """The HTML page of a study's outcome with its ``summary``."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("study.html.j2").render(
        data=data,
        parts=[_part(data, series) for series in data["series"]],
        differences=[_difference_row(data, row) for row in data["differences"]],
        sources=sorted({source for one in data["contamination"] for source in one["sources"]}),
        meaning=MEANING,
        seen_words=SEEN,
        synthetic=stamp_of(data["synthetic"]),
        theme=THEME,
    )


@dataclass(frozen=True)
class Entry:
    """A number of the table: texts, and whether it is the best and differs clearly from the reference."""

    value: str
    interval: str
    spread: str
    best: bool
    clear: bool


def _part(data: dict[str, Any], series: dict[str, Any]) -> dict[str, Any]:
    own = [one for one in data["conditions"] if one["series"] == series["name"]]
    laws = [law for law in data["laws"] if law["series"] == series["name"]]
    refused = {law["refused"] for law in laws}
    tasks = [one for one in data["tasks"] if any(_cell(condition, one) for condition in own)]
    return {
        **series,
        "conditions": own,
        "sheets": [_sheet(data, series, own, tasks[at : at + SHEET_COLUMNS])
                   for at in range(0, len(tasks), SHEET_COLUMNS)],
        "panels": [panel for task in tasks if (panel := _panel(data, series, own, task))],
        "laws": [_law_row(data, law) for law in laws] if "" in refused or len(refused) > 1 else [],
        "no_law": refused.pop() if len(refused) == 1 else "",
    }  # fmt: skip


def _cell(condition: dict[str, Any], task: dict[str, Any]) -> dict[str, Any] | None:
    return next((cell for cell in condition["cells"]
                 if (cell["unit"], cell["task"]) == (task["unit"], task["task"])), None)  # fmt: skip


def _sheet(
    data: dict[str, Any], series: dict[str, Any], own: list[dict[str, Any]], tasks: list[dict[str, Any]]
) -> dict[str, Any]:
    marked = {(row["condition"], row["unit"], row["task"])
              for row in data["differences"] if row["series"] == series["name"] and clear(row)}  # fmt: skip
    lines = []
    for one in own:
        entries: list[Entry | None] = []
        for task in tasks:
            if (cell := _cell(one, task)) is None:
                entries.append(None)
                continue
            kind = metric(cell["metric"])
            values = [other["value"] for condition in own if (other := _cell(condition, task))]
            interval = "" if cell["low"] is None else f"{number(cell['low'], kind)} to {number(cell['high'], kind)}"
            best = len(set(values)) > 1 and cell["value"] == (max if kind.higher_is_better else min)(values)
            entries.append(Entry(number(cell["value"], kind), interval, spread_of(cell, kind), best,
                                 (one["condition"], task["unit"], task["task"]) in marked))  # fmt: skip
        if any(entries):
            lines.append((one["condition"], entries))
    heads = [{"task": named(data, task), "metric": metric(task["metric"]).label
              + ("" if metric(task["metric"]).higher_is_better else ", lower is better"),
              "n": task["n"], "positives": task["positives"]} for task in tasks]  # fmt: skip
    return {"heads": heads, "lines": lines}


def _panel(
    data: dict[str, Any], series: dict[str, Any], own: list[dict[str, Any]], task: dict[str, Any]
) -> dict[str, Any] | None:
    """The task's metric along the series' axis, with the law where there is one."""
    from markupsafe import Markup

    found = [(one["x"], cell) for one in own if one["x"] and (cell := _cell(one, task))]
    if not series["axis"] or len({x for x, _ in found}) < 2:
        return None
    found.sort(key=lambda one: one[0])
    law = next((law for law in data["laws"] if law["series"] == series["name"]
                and (law["unit"], law["task"]) == (task["unit"], task["task"])), None)  # fmt: skip

    def draw(axes: Axes) -> None:
        x = np.array([place for place, _ in found])
        cells = [cell for _, cell in found]
        axes.plot(x, [cell["value"] for cell in cells], color=hue(0), marker="o", markersize=4)
        if all(cell["low"] is not None for cell in cells):
            axes.fill_between(x, [cell["low"] for cell in cells], [cell["high"] for cell in cells], color=hue(0),
                              alpha=0.15, linewidth=0)  # fmt: skip
        points = [point for cell in cells for point in cell["points"] if cell["seeds"] > 1 and point[0]]
        if points:
            axes.plot(*zip(*points, strict=True), linestyle="", marker="o", markersize=2.5, color=hue(0), alpha=0.45)
        if law and not law["refused"] and law["told"]:
            fine = np.geomspace(x.min(), x.max(), 60)
            losses = _law(law)(fine)
            drawn = [loss_of(task["metric"], loss) for loss in losses]
            axes.plot(fine, drawn, color=hue(1), linestyle=dash(2))
        if x.max() > WIDE * x.min():
            from matplotlib.ticker import LogLocator, NullFormatter

            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=6))
            axes.xaxis.set_major_formatter("{x:,g}" if x.max() < 1e6 else "{x:.0e}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(series["axis"])
        axes.margins(x=0.04, y=0.12)

    drawing = svg(draw, 3.7, 2.5, stamp=stamp_of(data["synthetic"]))
    return {"title": named(data, task), "reads": _head(task), "svg": Markup(drawing)}


def _head(task: dict[str, Any]) -> str:
    better = ", lower is better" if lower_is_better(task["metric"]) else ""
    return f"{metric(task['metric']).label}{better}"


def _law(law: dict[str, Any]) -> PowerLaw:
    return PowerLaw(law["a"], law["b"], law["c"], law["unit_x"], law["b_low"], law["b_high"],
                    (law["c_low"], law["c_high"]), law["losses"], law["sizes"])  # fmt: skip


def _law_row(data: dict[str, Any], law: dict[str, Any]) -> list[str]:
    task = f"{named(data, law)}, {metric(law['metric']).label}"
    if law["refused"]:
        return [task, "–", "–", f"not fitted: {law['refused']}"]
    said = "told" if law["told"] else "the arms do not bound the exponent"
    return [
        task, f"{law['b']:.2f} [{law['b_low']:.2f}, {law['b_high']:.2f}]",
        f"{law['c']:.3g} [{law['c_low']:.3g}, {law['c_high']:.3g}]",
        f"{said}; {law['losses']} arms of {law['sizes']} sizes",
    ]  # fmt: skip


def _difference_row(data: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    gap, kind = row["difference"], metric(row["metric"])
    return {
        "strong": clear(row),
        "texts": [
            row["series"], f"{row['condition']} − {row['against']}", named(data, row), kind.label,
            signed(gap["value"], row["metric"]), f"{number(gap['low'], kind)} to {number(gap['high'], kind)}",
            p_text(gap["p"]), p_text(gap["p_holm"]), str(row["seeds"]),
        ],
    }  # fmt: skip
