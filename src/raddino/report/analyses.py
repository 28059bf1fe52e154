"""Report sections of the analyses beside the main table: words, figures and tables from rows of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from raddino.report import analysis_figures as figures
from raddino.report.analysis_figures import Row, Series
from raddino.report.analysis_parts import (
    Page,
    Section,
    Table,
    by,
    capital,
    cell_of,
    find,
    interval_of,
    label_of,
    left_out_of,
    measured,
    p_of,
    percent,
    signed,
    text_of,
)
from raddino.report.calibration import calibration_section
from raddino.report.decisions import decision_section, operating_section
from raddino.report.label_noise import label_noise_section
from raddino.report.site_ranks import site_ranks_section
from raddino.report.sites import site_section
from raddino.report.style import draw_level
from raddino.report.tables import metric, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL, WIDTH = (3.7, 2.6), 3.9
CLEAR = 0.05
COSINES = ("cosine_same", "cosine_stranger", "auroc_same")


def sections(metrics: dict[str, Any], stamp: str = "") -> list[Section]:
    """The analyses of a ``metrics.json`` that this page knows, other sites first; empty ones are left out.

    Args:
        metrics: contents of ``metrics.json``.
        stamp: words on every figure made from drawn radiographs.
    """
    page = Page({encoder["name"]: i for i, encoder in enumerate(metrics.get("encoders", []))}, stamp)
    found = metrics.get("analyses") or {}
    visited = site_section(metrics)
    made = [make(page, found[name]) for name, make in SECTIONS.items() if found.get(name)]
    return [visited, *made] if visited else made


def _label_efficiency(page: Page, rows: list[Row]) -> Section:
    section = Section(
        "label_efficiency", "Label efficiency",
        "The linear probe on a share of the labelled training patients, log axis. Points are means over the draws of "
        "patients, bars one standard deviation over draws, bands the 95 % interval over test patients. Selection uses "
        "all validation images at every share.",
        left_out=left_out_of(rows, lambda row: f"{row['task']}{_of(row['fraction'] and percent(row['fraction']))}"),
    )  # fmt: skip
    values = measured(rows)
    fractions = sorted({row["fraction"] for row in values})
    lines = []
    for task, own in by(values, "task").items():
        shown = [row for row in own if row["metric"] == own[0]["metric"]]
        draw = partial(
            figures.draw_curves, series=page.series(shown, "fraction"), log=True,
            ticks={row["fraction"]: f"{100 * row['fraction']:g}" for row in shown},
            x="% of the labelled training patients", y=metric(own[0]["metric"]).label,
            better_is_lower=not metric(own[0]["metric"]).higher_is_better,
        )  # fmt: skip
        section.panels.append(page.figure(task, draw, SMALL))
        for name, part in by(own, "encoder").items():
            for kind in dict.fromkeys(row["metric"] for row in part):
                cells = [cell_of(find(part, metric=kind, fraction=share)) for share in fractions]
                lines.append((task, [(name, ""), (metric(kind).label, ""), *cells]))
    head = ["Encoder", "Metric", *map(percent, fractions)]
    section.tables.append(Table("Values at each share of the patients", head, lines, folded=True))
    return section


def _retrieval(page: Page, rows: list[Row]) -> Section:
    section = Section(
        "retrieval", "Retrieval",
        "Test images that have a finding search the gallery by cosine of CLS features; the query's own patient is "
        "excluded, and an image is relevant when it has the finding. Precision is the share of relevant images among "
        "the first k, mAP rewards putting them first (divided by the most that could be relevant). Dotted and in "
        "brackets: the precision of a random order.",
        left_out=left_out_of(rows, lambda row: row["task"]),
    )  # fmt: skip
    for gallery, within in by(measured(rows), "gallery").items():
        ks = sorted({row["k"] for row in within})
        k = ks[len(ks) // 2]
        lines: dict[str, list[tuple[str, list[tuple[str, str]]]]] = {"precision": [], "map": []}
        for task, own in by(within, "task").items():
            precision = [row for row in own if row["metric"].startswith("precision")]
            if len(ks) > 1 and precision:
                series, level = page.series(precision, "k"), precision[0].get("chance")
                title = task + (f" ({gallery})" if gallery != "train+val" else "")
                draw = partial(_draw_retrieval, series=series, ks=ks, chance=level)
                section.panels.append(page.figure(title, draw, SMALL))
            chance, n = precision[0].get("chance") if precision else None, f"n = {own[0]['n']}"
            for what, level in (("precision", "" if chance is None else f"({chance:.3f})"), ("map", "")):
                cells = [cell_of(find(own, encoder=name, metric=f"{what}@{k}")) for name in page.colours]
                lines[what].append((task, [(level, n), *cells]))
        for what, words, head in (("precision", "Precision", "chance"), ("map", "mAP", "queries")):
            caption = f"{words}@{k}, gallery: {gallery}"
            section.tables.append(Table(caption, [head, *page.colours], lines[what], folded=what == "map"))
    return section


def _draw_retrieval(axes: Axes, series: Sequence[Series], ks: list[int], chance: float | None) -> None:
    figures.draw_curves(axes, series, {float(k): str(k) for k in ks}, "k", "precision@k", log=True)
    if chance is not None:
        draw_level(axes, chance, "chance")


def _subgroups(page: Page, rows: list[Row]) -> Section:
    section = Section(
        "subgroups", "Subgroups",
        "The value within each group of test patients, with its 95 % interval. The gap is best minus worst group. Of "
        "several groups one is always worst: “by chance” is the median gap when patients exchange the group labels of "
        "their images with patients alike, p the share of such gaps at least as large, after Holm's correction over "
        "tasks, attributes and encoders. Sensitivities use the thresholds that all validation images chose.",
        left_out=_suppressed(rows),
    )  # fmt: skip
    groups = [row for row in rows if row["role"] == "group"]
    for task, every in by(groups, "task").items():
        own = [row for row in every if row["metric"] == every[0]["metric"]]
        names = list(dict.fromkeys((row["attribute"], row["group"]) for row in own))
        compared = [attribute for attribute, _ in names]
        names = [name for name in names if compared.count(name[0]) > 1]
        at = {name: i for i, name in enumerate(names)}
        points = [
            (at[name], page.colours[row["encoder"]], row)
            for row in own if (name := (row["attribute"], row["group"])) in at
        ]  # fmt: skip
        if not points:
            continue
        breaks = {i for i in range(1, len(names)) if names[i][0] != names[i - 1][0]}
        words = [f"age {group}" if attribute == "age band" else group for attribute, group in names]
        draw = partial(figures.draw_groups, lines=words, points=points, x=metric(own[0]["metric"]).label, breaks=breaks)
        section.panels.append(page.figure(task, draw, (WIDTH, 0.75 + 0.32 * len(names))))
    gaps = [row for row in rows if row["role"] == "gap"]
    if not gaps:
        reasons = dict.fromkeys(row["reason"] for row in rows if row["value"] is None)
        section.words.append(f"No two groups are large enough to be compared: {'; '.join(reasons)}.")
    clear = sorted((row for row in gaps if row["p_holm"] < CLEAR), key=lambda row: row["p_holm"])
    for row in clear:
        section.words.append(
            f"{row['task']}, {row['encoder']}: {label_of(row['metric'])} differs over {row['attribute']}, from "
            f"{text_of(row, 'worst_value')} ({row['worst']}) to {text_of(row, 'best_value')} ({row['best']}), "
            f"{p_of(row)} (Holm)."
        )
    if gaps and not clear:
        section.words.append("No gap is larger than chance would make it, after Holm's correction.")
    lines = [
        (f"{row['task']}, {row['attribute']}", [
            (row["encoder"], ""), (label_of(row["metric"]), ""), cell_of(row),
            (text_of(row, "worst_value"), row["worst"]), (text_of(row, "best_value"), row["best"]),
            (text_of(row, "expected"), ""), (p_of(row), ""),
        ])
        for row in sorted(gaps, key=lambda row: row["p_holm"])
    ]  # fmt: skip
    head = ["Encoder", "Metric", "gap", "worst", "best", "gap by chance", "Holm"]
    section.tables.append(Table("Every gap", head, lines, folded=True))
    return section


def _confounders(page: Page, rows: list[Row]) -> Section:
    section = Section(
        "confounders", "Confounders",
        "What of a finding's AUROC may come from how and where the image was taken. Ring: all test images. Disc: only "
        "pairs of images with the same value of the confounder are compared, so that it cannot help. Cross: the "
        "confounder alone, each image scored with the finding's prevalence among training images like it.",
        left_out=left_out_of(rows, lambda row: f"{row['task']}{_of(row.get('group'))}"),
    )  # fmt: skip
    for name, own in by(measured(rows), "confounder").items():
        section.words.extend(_confounder_words(name, own))
        crude, within = ([row for row in own if row["role"] == role] for role in ("crude", "stratified"))
        tasks = list(dict.fromkeys(row["task"] for row in within))
        points = [
            (tasks.index(row["task"]), page.colours[row["encoder"]], pair["value"], row["value"])
            for row in within if (pair := find(crude, task=row["task"], encoder=row["encoder"]))
        ]  # fmt: skip
        alone = {
            tasks.index(row["task"]): row["value"] for row in own if row["role"] == "alone" and row["task"] in tasks
        }
        if points:
            draw = partial(figures.draw_with_and_without, lines=tasks, points=points, alone=alone)
            section.panels.append(page.figure(f"With and without {name}", draw, (WIDTH, 0.75 + 0.34 * len(tasks))))
        lines = []
        for row in within:
            pair = {"task": row["task"], "encoder": row["encoder"]}
            lines.append((row["task"], [
                (row["encoder"], ""), cell_of(find(own, task=row["task"], role="alone")),
                cell_of(find(crude, **pair)), cell_of(row), _change(row),
                *(cell_of(find(own, **pair, role="stratum", group=group)) for group in _strata(own)),
            ]))  # fmt: skip
        head = ["Encoder", f"{name} alone", "all images", f"within {name}", "change", *_strata(own)]
        if lines:
            section.tables.append(Table(f"AUROC with and without {name}", head, lines, folded=True))
    return section


def _confounder_words(name: str, rows: list[Row]) -> list[str]:
    words = []
    readable = [row for row in rows if row["role"] == "readable" and row.get("group") is None]
    if readable:
        said = ", ".join(f"{row['encoder']} {text_of(row)} ({interval_of(row)})" for row in readable)
        words.append(f"Features tell the {name} with AUROC {said}.")
    alone = [row for row in rows if row["role"] == "alone" and row["low"] is not None and row["low"] > 0.5]
    if alone:
        said = ", ".join(f"{row['task']} {text_of(row)}" for row in sorted(alone, key=lambda row: -row["value"]))
        words.append(f"The {name} alone predicts {said} (AUROC, interval above 0.5).")
    lost = [
        row for row in rows if row["role"] == "stratified" and (row.get("drop_low") or 0) > 0 and row.get("drop_high")
    ]
    for row in sorted(lost, key=lambda row: -row["drop"]):
        words.append(
            f"{row['task']}, {row['encoder']}: AUROC {number(row['value'] + row['drop'], metric('auroc'))} falls to "
            f"{text_of(row)} within {name} (by {row['drop']:.3f}, {row['drop_low']:.3f} to {row['drop_high']:.3f})."
        )
    if not lost and any(row["role"] == "stratified" for row in rows):
        words.append(f"No finding is clearly worse when images are compared within the same {name} only.")
    return words


def _robustness(page: Page, rows: list[Row]) -> Section:
    clean = [row for row in rows if row.get("severity") == 0]
    n = max((row["n"] for row in clean), default=0)
    tasks = list(dict.fromkeys(row["task"] for row in clean))
    headline = next((row["task"] for row in clean if row["aggregate"]), tasks[0] if tasks else None)
    members = find(clean, task=headline).get("members") or []
    shown = f"{headline}, the mean of {', '.join(members)}" if len(members) > 1 else headline or "values"
    section = Section(
        "robustness", "Robustness",
        f"The probes of the main table, fitted on clean images, on {n} test images that were damaged before encoding: "
        f"{shown}, and how far CLS features move (cosine to those of the clean image). Bands "
        "are 95 % intervals over patients.",
        left_out=left_out_of(rows, lambda row: row["task"]),
    )  # fmt: skip
    values = measured(rows)
    kinds = {row["corruption"]: row["unit"] for row in values if row["severity"]}
    for task, word in ((headline, ""), ("features", ", features")):
        shown = [row for row in values if row["task"] == task]
        ends = [row[key] for row in shown for key in ("low", "value", "high") if row[key] is not None]
        for kind, unit in kinds.items():
            own = [row for row in shown if row["corruption"] in (kind, "clean")]
            if not own:
                continue
            draw = partial(
                figures.draw_curves, series=page.series(own, "severity"), log=False, x=unit,
                ticks={float(row["severity"]): _level(row) for row in own},
                y=metric(own[-1]["metric"]).label, ends=(min(ends), max(ends)),
                better_is_lower=not metric(own[-1]["metric"]).higher_is_better,
            )  # fmt: skip
            section.panels.append(page.figure(f"{kind.capitalize()}{word}", draw, SMALL))
    section.words.extend(_worst_damage([row for row in values if row["task"] == headline and row["severity"]]))
    lines = []
    for task in tasks:
        own = [row for row in values if row["task"] == task]
        for level in [row for row in own if row["encoder"] == own[0]["encoder"]]:
            same = {"corruption": level["corruption"], "severity": level["severity"]}
            words = "clean" if not level["severity"] else f"{level['corruption']} {level['level']:g}"
            cells = [cell_of(find(own, encoder=name, **same)) for name in page.colours]
            lines.append((task, [(words, ""), (metric(own[0]["metric"]).label, ""), *cells]))
    head = ["Damage", "Metric", *page.colours]
    section.tables.append(Table("Every task under every damage", head, lines, folded=True))
    return section


def _worst_damage(rows: list[Row]) -> list[str]:
    words = []
    for name, own in by(rows, "encoder").items():
        worst = max(own, key=lambda row: row["drop"])
        if (worst["drop_low"] or 0) > 0:
            words.append(
                f"{name} loses most under {worst['corruption']} {worst['level']:g} ({worst['unit']}): "
                f"{metric(worst['metric']).label} worse by {worst['drop']:.3f} "
                f"({worst['drop_low']:.3f} to {worst['drop_high']:.3f})."
            )
        else:
            words.append(f"{name} is not clearly worse under any damage.")
    return words


def _consistency(page: Page, rows: list[Row]) -> Section:
    section = Section(
        "consistency", "Consistency",
        "Cosine of CLS features of two images that belong together, against pairs with an image of another patient of "
        "the same source and view. AUROC: how well the cosine tells the two kinds of pairs apart; 0.5 is chance.",
        left_out=left_out_of(rows, lambda row: "pairs"),
    )  # fmt: skip
    for pairs, own in by(measured(rows), "pairs").items():
        lines = [
            (name, [cell_of(find(own, encoder=name, metric=key)) for key in COSINES])
            for name in page.colours if find(own, encoder=name)
        ]  # fmt: skip
        caption = f"{pairs.capitalize()}: {own[0]['n']} pairs of {own[0]['patients']} patients"
        section.tables.append(Table(caption, ["together", "strangers", "AUROC"], lines))
    return section


SECTIONS: dict[str, Callable[[Page, list[Row]], Section]] = {
    "site_ranks": site_ranks_section,
    "label_efficiency": _label_efficiency,
    "retrieval": _retrieval,
    "subgroups": _subgroups,
    "calibration": calibration_section,
    "operating_points": operating_section,
    "decision_curves": decision_section,
    "confounders": _confounders,
    "robustness": _robustness,
    "consistency": _consistency,
    "label_noise": label_noise_section,
}


def _level(row: Row) -> str:
    return "clean" if not row["severity"] else f"{row['level']:g}"


def _strata(rows: list[Row]) -> list[str]:
    return sorted({row["group"] for row in rows if row["role"] == "stratum"})


def _change(row: Row) -> tuple[str, str]:
    """Stratified minus crude."""
    if row.get("drop_low") is None or row.get("drop_high") is None:
        return signed(-row["drop"]), ""
    return signed(-row["drop"]), f"{signed(-row['drop_high'])} to {signed(-row['drop_low'])}"


def _of(group: str | None) -> str:
    return f", {group}" if group else ""


def _suppressed(rows: list[Row]) -> list[str]:
    """Suppressed groups by reason, each with the tasks that lack it."""
    tasks: dict[tuple[str, str], list[str]] = {}
    lost = [row for row in rows if row["value"] is None]
    for row in lost:
        group = " ".join(filter(None, (row["attribute"], row["group"])))
        tasks.setdefault((row["reason"], group), []).append(row["task"])
    every = {row["task"] for row in rows}
    found = []
    for reason in dict.fromkeys(row["reason"] for row in lost):
        groups = [
            f"{group} ({'all tasks' if set(names) == every and len(every) > 1 else ', '.join(dict.fromkeys(names))})"
            for (why, group), names in tasks.items()
            if why == reason
        ]
        found.append(f"{capital(reason)}: {'; '.join(groups)}")
    return found
