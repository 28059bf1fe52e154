"""The main table twice: a sheet a metric as in a paper (encoders x findings), and a block a task with all figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Metric:
    """How a metric is named, ordered and printed."""

    key: str
    label: str
    higher_is_better: bool = True
    bounded: bool = True  # within 0..1, printed with three decimals


LABELERS = {"chexbert": "CheXbert", "rules": "Rule-based"}
"""What reads findings in reports, by the name that its metrics begin with."""
METRICS = {
    metric.key: metric
    for metric in (
        Metric("auroc", "AUROC"),
        Metric("auprc", "AUPRC"),
        Metric("mae", "MAE", higher_is_better=False, bounded=False),
        Metric("r2", "R²"),
        Metric("rmse", "RMSE", higher_is_better=False, bounded=False),
        Metric("brier", "Brier", higher_is_better=False),
        Metric("brier_temperature", "Brier after temperature scaling", higher_is_better=False),
        Metric("ece", "ECE", higher_is_better=False),
        Metric("ece_temperature", "ECE after temperature scaling", higher_is_better=False),
        Metric("auroc_binned", "AUROC over bins of the value"),
        Metric("sensitivity_at_specificity_90", "Sensitivity at 90 % specificity"),
        Metric("sensitivity_at_specificity_95", "Sensitivity at 95 % specificity"),
        Metric("dice", "Dice"),
        Metric("iou", "IoU"),
        Metric("dice_nonempty", "Dice, images with foreground"),
        Metric("dice_all", "Dice, empty on empty counts 1"),
        Metric("false_alarm_rate", "False-alarm rate", higher_is_better=False),
        Metric("surface_dice", "Surface Dice"),
        Metric("hd95", "Hausdorff-95 in pixels", higher_is_better=False, bounded=False),
        *(
            Metric(f"{labeler}_f1_{group}_{average}", f"{word} F1-{group}, {average}")
            for labeler, word in LABELERS.items()
            for group in ("14", "5", "14+", "5+")
            for average in ("micro", "macro")
        ),
        *(Metric(f"{labeler}_f1", f"{word} F1") for labeler, word in LABELERS.items()),
        Metric("radgraph_er", "RadGraph-ER"),
        Metric("radgraph_e", "RadGraph-E"),
        Metric("radgraph_er_bar", "RadGraph-ER with relation types"),
        Metric("rouge_l", "ROUGE-L"),
        Metric("bleu_4", "BLEU-4"),
        Metric("meteor", "METEOR"),
        Metric("accuracy", "Accuracy"),
        Metric("balanced_accuracy", "Balanced accuracy"),
        Metric("auroc_macro_ovr", "AUROC, one against rest"),
        Metric("auprc_macro_ovr", "AUPRC, one against rest"),
    )
}
SHOWN = (
    "auroc", "auprc", "balanced_accuracy", "auroc_macro_ovr", "mae", "r2",
    "dice", "surface_dice", "hd95", "false_alarm_rate",
    "chexbert_f1_14_micro", "chexbert_f1_14_macro", "radgraph_er", "rules_f1_14_micro", "rules_f1_14_macro",
    "rouge_l", "bleu_4",
)  # fmt: skip
"""Metrics of the main table in its order; the first that a task has leads it."""
DETAILED = 2
"""Metrics that a task's own table draws."""
CASE_KINDS = ("segmentation", "findings")
"""Kinds of tasks that train more than a probe and have a section of their own."""
UNITS = {"age": "years", "weight": "kg", "bmi": "kg/m²"}
"""Of the columns that a corpus keeps numbers in, and of errors in them."""
SIGNIFICANT = 0.05
SHEET_COLUMNS = 6
ROUNDING = 0.005
"""Difference of shares up to which a prevalence is that of the counted images."""


@dataclass(frozen=True)
class Cell:
    """One number of the table; ``row`` is its entry in ``metrics.json``.

    ``spread`` is ``±0.004``, the SD over seeds, empty where there is one seed; ``marked`` where it differs from the
    reference: Holm-adjusted p below 0.05.
    """

    row: dict[str, Any]
    text: str
    interval: str
    spread: str = ""
    best: bool = False
    second: bool = False
    marked: bool = False


@dataclass(frozen=True)
class Line:
    """One encoder within a block; ``cells`` follow the block's metrics, None where a number is absent."""

    encoder: str
    colour: int
    cells: list[Cell | None]
    difference: tuple[str, str, str] = ("", "", "")  # value, interval, p
    reason: str = ""


@dataclass(frozen=True)
class Scale:
    """Where the dot-and-whisker marks of one column stand, in percent of its width."""

    low: float
    high: float
    chance: float | None

    def at(self, value: float) -> float:
        """Percent from the left."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """A few round values inside the scale, with their texts."""
        from matplotlib.ticker import MaxNLocator

        inside = [tick for tick in MaxNLocator(4).tick_values(self.low, self.high) if 3 < self.at(tick) < 97]
        return [(float(tick), f"{tick:.4g}".replace("-", "−")) for tick in inside]


@dataclass(frozen=True)
class Block:
    """One task: what it was measured on, its metrics and its lines."""

    task: str
    kind: str
    target: str
    where: str
    n: int
    excluded: int | None  # test images without a usable target; None where the results do not say
    patients: int | None
    positives: int | None
    prevalence: float | None
    metrics: list[Metric]
    lines: list[Line]
    scales: list[Scale | None]
    reference: str = ""
    trained_on: str = ""
    absent: str = ""  # the reasons of all absences
    members: tuple[str, ...] = ()  # of an aggregate: the tasks whose values it averages
    positive: str = ""  # of a text column: the value that counts as positive
    unit: str = ""  # of the target, and of errors in it
    left_out: str = ""  # images without a usable target, by source
    partly: dict[str, str] = field(default_factory=dict)  # metric to "2 of 3 classes", what it averages of them

    @property
    def counts(self) -> str:
        """What :func:`positives_of` says."""
        return positives_of({"n": self.n, "positives": self.positives, "prevalence": self.prevalence})

    @property
    def labels(self) -> int | None:
        """Of an aggregate: labels, of which images have several; None where images are what was counted."""
        return labels_of({"n": self.n, "positives": self.positives, "prevalence": self.prevalence})

    def head(self, kind: Metric) -> str:
        """The metric's name, with the unit of an error and what an average lacks."""
        unit = f" in {self.unit}" if self.unit and kind.key in ("mae", "rmse") else ""
        return f"{kind.label}{unit}{f', {part}' if (part := self.partly.get(kind.key)) else ''}"

    def name(self, kind: Metric) -> str:
        """The task's name over a column of one metric, with what an average lacks."""
        return f"{self.task}, {part}" if (part := self.partly.get(kind.key)) else self.task


@dataclass(frozen=True)
class Sheet:
    """One metric as in a paper: encoders down, tasks across, aggregates last; ``lines`` hold a cell a block."""

    metric: Metric
    blocks: list[Block]
    lines: list[tuple[str, int, list[Cell | None]]]  # encoder, colour, cells

    @property
    def references(self) -> list[str]:
        """Encoders that differences are to."""
        return list(dict.fromkeys(block.reference for block in self.blocks if block.reference))

    @property
    def marked(self) -> bool:
        """Whether a cell differs clearly from the reference."""
        return any(cell.marked for _, _, cells in self.lines for cell in cells if cell)

    @property
    def spread(self) -> bool:
        """Whether a cell has a spread over seeds."""
        return any(cell.spread for _, _, cells in self.lines for cell in cells if cell)


def metric(key: str) -> Metric:
    """The metric of that name, or of one class, ``dice (heart)``; others count as unbounded, higher is better."""
    name, parenthesis, part = key.partition(" (")
    if parenthesis and name in METRICS:
        return replace(METRICS[name], key=key, label=f"{METRICS[name].label} ({part}")
    return METRICS.get(key, Metric(key, key.replace("_", " "), bounded=False))


def number(value: float | None, kind: Metric) -> str:
    """``0.873`` for bounded metrics, three significant digits for others, ``–`` where there is none."""
    if value is None or value != value:
        return "–"
    decimals = ".3f" if kind.bounded or value == 0 else ".0f" if abs(value) >= 100 else "#.3g"
    text = format(value, decimals)
    return text.replace("-", "−")


def spread_of(row: dict[str, Any], kind: Metric) -> str:
    """``±0.004``, the SD over seeds with the decimals of the value; empty where there is one seed."""
    if not _is_number(row.get("seed_sd")) or not _is_number(row.get("value")):
        return ""
    decimals = len(number(row["value"], kind).partition(".")[2])
    return f"±{row['seed_sd']:.{decimals}f}"


def positives_of(row: dict[str, Any]) -> str:
    """``28 positive (49 %)``; of an aggregate, whose images have several labels, ``43 of 171 labels positive (25 %)``.

    Args:
        row: with ``n``, ``positives`` and ``prevalence``; an empty text where it has no positives.
    """
    positives, share = row.get("positives"), row.get("prevalence")
    if positives is None or share is None:
        return ""
    labels = labels_of(row)
    of = f" of {labels} labels" if labels else ""
    return f"{int(positives)}{of} positive ({100 * share:.0f} %)"


def labels_of(row: dict[str, Any]) -> int | None:
    """Labels that an aggregate's positives are among; None where ``n`` counts them already."""
    if not row.get("positives") or not row.get("prevalence") or not row.get("n"):
        return None
    counted_by_n = abs(row["positives"] / row["n"] - row["prevalence"]) < ROUNDING
    return None if counted_by_n else round(row["positives"] / row["prevalence"])


def blocks(metrics: dict[str, Any]) -> list[Block]:
    """The blocks of a ``metrics.json``, in the order of its tasks and encoders."""
    colours = {encoder["name"]: i for i, encoder in enumerate(metrics.get("encoders", []))}
    tasks = {task["name"]: task for task in metrics.get("tasks", [])}
    for row in metrics["rows"]:
        tasks.setdefault(row["task"], {"name": row["task"]})
        colours.setdefault(row["encoder"], len(colours))
    for gap in metrics.get("absent", []):
        if gap["task"]:
            tasks.setdefault(gap["task"], {"name": gap["task"]})
    return [_block(task, metrics, colours) for task in tasks.values()]


def crossed(metrics: dict[str, Any]) -> str:
    """``5-fold cross-validation by patient, 3 times``; empty where the numbers are of a test split."""
    detail = next(((row.get("detail") or {}) for row in metrics["rows"]), {})
    folds, repeats = (detail.get(key) for key in ("folds", "repeats"))
    times = "once" if repeats == 1 else f"{repeats} times"
    return f"{folds}-fold cross-validation by patient, {times}" if folds and repeats else ""


def interval_rule(metrics: dict[str, Any]) -> str:
    """How the intervals were made, the scale left open where metrics have different ones; empty where not said."""
    said = list(dict.fromkeys(row["interval"] for row in metrics["rows"] if row.get("interval")))
    if len(said) < 2:
        return said[0] if said else ""
    rules = " or ".join(dict.fromkeys(one.partition(", scale ")[0] for one in said))
    return f"{rules}, on the scale of each metric" if ", scale " in said[0] else rules


def unplaced(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What is absent beside any task, with its reason: an encoder, an analysis, or differences."""
    found = []
    for gap in metrics.get("absent", []):
        if not gap["task"]:
            what = f"analysis {gap['analysis']}" if gap.get("analysis") else gap["encoder"] or "differences"
            found.append((what, gap["reason"]))
    return found


def sheets(blocks: list[Block]) -> list[Sheet]:
    """A sheet for each metric of the blocks, cut after ``SHEET_COLUMNS`` tasks; encoders without a value left out."""
    kinds = dict.fromkeys(kind for block in blocks for kind in block.metrics)
    made = []
    for kind in sorted(kinds, key=lambda one: SHOWN.index(one.key) if one.key in SHOWN else len(SHOWN)):
        having = [block for block in blocks if kind in block.metrics]
        for start in range(0, len(having), SHEET_COLUMNS):
            part = having[start : start + SHEET_COLUMNS]
            colours = {line.encoder: line.colour for block in part for line in block.lines}
            cells = {
                name: [_at(block, kind, name) for block in part]
                for name in sorted(colours, key=lambda name: colours[name])
            }
            lines = [(name, colours[name], row) for name, row in cells.items() if any(row)]
            made.append(Sheet(kind, part, lines))
    return made


def _at(block: Block, kind: Metric, encoder: str) -> Cell | None:
    line = next((line for line in block.lines if line.encoder == encoder), None)
    return line.cells[block.metrics.index(kind)] if line else None


def _block(task: dict[str, Any], metrics: dict[str, Any], colours: dict[str, int]) -> Block:
    rows = [row for row in metrics["rows"] if row["task"] == task["name"] and row.get("split", "test") == "test"]
    gaps = [gap for gap in metrics.get("absent", []) if gap["task"] == task["name"]]
    kinds = [metric(key) for key in _shown(rows)]
    columns = [_column(kind, [row for row in rows if row["metric"] == kind.key]) for kind in kinds]
    present = [name for name in colours if any(row["encoder"] == name for row in rows)]
    lines = [
        Line(name, colours[name], [column.get(name) for column in columns], _difference(kinds, columns, name))
        for name in present
    ]
    if rows:
        lines += [
            Line(name, colours.get(name, len(colours)), [None] * len(kinds), reason=gap["reason"])
            for gap in gaps
            if (name := gap.get("encoder")) and name not in present
        ]
    references = {
        cell.row["difference"]["to"] for column in columns for cell in column.values() if cell.row.get("difference")
    }
    first: dict[str, Any] = rows[0] if rows else {}
    return Block(
        task=task["name"],
        kind=task.get("kind", ""),
        target=task.get("target", ""),
        where=task.get("where") or "",
        n=first.get("n", 0),
        excluded=first.get("excluded"),
        patients=first.get("patients"),
        positives=first.get("positives"),
        prevalence=first.get("prevalence"),
        metrics=kinds,
        lines=lines,
        scales=[_scale(kind, column) for kind, column in zip(kinds, columns, strict=True)],
        reference=next(iter(references), ""),
        trained_on=_trained_on(task),
        members=tuple((first.get("detail") or {}).get("tasks", ())),
        positive=_text(task.get("positive")),
        unit=UNITS.get(task.get("target", ""), "") if task.get("kind") == "regression" else "",
        left_out=_left_out(task),
        partly={row["metric"]: part for row in rows if (part := _partly(row))},
        absent="; ".join(
            f"{gap['encoder']}: {gap['reason']}" if gap.get("encoder") else str(gap["reason"]) for gap in gaps
        ),
    )


def _partly(row: dict[str, Any]) -> str:
    """``2 of 3 classes`` of a number that averages fewer than it was to; averages over tasks have it in their name."""
    members, listed = row.get("members") or (), row.get("listed") or 0
    detail = row.get("detail") or {}
    if len(members) >= listed or "tasks" in detail:
        return ""
    return f"{len(members)} of {listed} {'classes' if 'classes' in detail else 'thresholds'}"


def _shown(rows: list[dict[str, Any]]) -> list[str]:
    present = list(dict.fromkeys(row["metric"] for row in rows))
    return [key for key in SHOWN if key in present] or present[:2]


def _column(kind: Metric, rows: list[dict[str, Any]]) -> dict[str, Cell]:
    values = sorted({row["value"] for row in rows if _is_number(row["value"])}, reverse=kind.higher_is_better)
    ranked = len(rows) > 1
    return {
        row["encoder"]: Cell(
            row,
            number(row["value"], kind),
            f"{number(row.get('low'), kind)} to {number(row.get('high'), kind)}" if _is_number(row.get("low")) else "",
            spread_of(row, kind),
            best=ranked and row["value"] == values[0] if values else False,
            second=ranked and len(values) > 1 and row["value"] == values[1],
            marked=_differs(row.get("difference")),
        )
        for row in rows
    }


def _differs(gap: dict[str, Any] | None) -> bool:
    return bool(gap) and _is_number(gap.get("p_holm")) and gap["p_holm"] < SIGNIFICANT  # type: ignore[union-attr,index]


def _difference(kinds: list[Metric], columns: list[dict[str, Cell]], name: str) -> tuple[str, str, str]:
    """Value, interval and p of the paired difference in the first metric; empty texts where there is none."""
    cell = columns[0].get(name) if columns else None
    gap = cell.row.get("difference") if cell else None
    if not gap:
        return "", "", ""
    value, low, high = (_signed(gap.get(key), kinds[0]) for key in ("value", "low", "high"))
    adjusted = gap.get("p_holm") is not None
    p = gap["p_holm"] if adjusted else gap.get("p")
    said = "" if not _is_number(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return value, f"{low} to {high}", f"{said} (Holm)" if said and adjusted else said


def _signed(value: float | None, kind: Metric) -> str:
    return ("+" if value is not None and value > 0 else "") + number(value, kind)


def _scale(kind: Metric, column: dict[str, Cell]) -> Scale | None:
    rows = [cell.row for cell in column.values()]
    chance = {"auroc": 0.5, "r2": 0.0}.get(kind.key)
    if kind.key == "auprc" and rows:
        chance = rows[0].get("prevalence")
    ends = [row[key] for row in rows for key in ("low", "value", "high") if _is_number(row.get(key))]
    if not ends:
        return None
    ends += [chance] if _is_number(chance) else []
    margin = (max(ends) - min(ends) or 1.0) * 0.06
    return Scale(min(ends) - margin, max(ends) + margin, chance)


def _trained_on(task: dict[str, Any]) -> str:
    n = task.get("n")
    if not isinstance(n, dict):
        return ""
    return ", ".join(
        f"{n[split]:,} {word}" for split, word in (("train", "to fit"), ("val", "to select")) if n.get(split)
    )


def _left_out(task: dict[str, Any]) -> str:
    """``50 of 178 images of cohen``, of all splits."""
    counts = (task.get("by_source") or {}).items()
    return ", ".join(f"{n['left_out']} of {n['used'] + n['left_out']} images of {source}" for source, n in counts)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value
