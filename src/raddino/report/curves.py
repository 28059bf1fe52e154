"""Training curves: what the log of a run says, as ``curves.png`` and as the panels of the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raddino.errors import RaddinoError
from raddino.files import draft_of
from raddino.report.artefacts import Run, read_run
from raddino.report.style import dash, draw_level, figure, hue, legend, put_stamp, stamp_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

POINTS = 500
LEGEND_LINE = 14
"""Points of height."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: log columns with their labels, what to look for, and an optional level.

    A column without a label stands for all that begin with it, labelled by the rest of their names.
    """

    title: str
    reads: str
    lines: dict[str, str]
    level: tuple[float | str, str] | None = None  # a value, or the log column that holds it, and its label
    log: bool = False
    zero: bool = False  # the axis starts at 0
    exact: bool = False  # a schedule: drawn as it is, without a running mean


PANELS = (
    Panel("Loss", "Falls, then flattens.", {"loss": "total"}),
    Panel(
        "Loss terms",
        "As they are weighted in the total; a term that stays flat is not being learned.",
        {"dino_global": "DINO global", "dino_local": "DINO local", "ibot": "iBOT", "gram": "Gram"},
    ),
    Panel("Spread", "Lower means that embeddings are spread more evenly.", {"koleo": "KoLeo", "kde": "KDE"}),
    Panel(
        "Prototype use",
        "Entropy of the mean assignment; at 0 all images share one prototype.",
        {"student_entropy": "student", "teacher_entropy": "teacher"},
        level=("log_prototypes", "ln K"),
        zero=True,
    ),
    Panel(
        "Assignment entropy",
        "Mean entropy of single assignments; at ln K they say nothing.",
        {"student_sharpness_entropy": "student", "teacher_sharpness_entropy": "teacher"},
        level=("log_prototypes", "ln K"),
        zero=True,
    ),
    Panel(
        "Effective rank",
        "Directions that CLS features use; a fall is collapse.",
        {"effective_rank": "rank"},
        zero=True,
    ),
    Panel("Mean cosine", "Between CLS features; near 1, all images look alike.", {"mean_cosine": "cosine"}),
    Panel(
        "KoLeo distance",
        "To the nearest other CLS feature; near 0, they crowd.",
        {"koleo_distance": "distance"},
        zero=True,
    ),
    Panel(
        "Patch features",
        "Locality falls, and likeness to the CLS feature rises, where patches degrade.",
        {"patch_locality": "locality", "cls_patch_cosine": "cosine with CLS"},
    ),
    Panel(
        "kNN probe",
        "AUROC of the nearest neighbours' vote, on labels that training never uses.",
        {"knn_": ""},
        level=(0.5, "chance"),
    ),
    Panel("Learning rate", "As scheduled.", {"lr": "rate"}, exact=True),
    Panel("Weight decay", "As scheduled.", {"weight_decay": "decay"}, exact=True),
    Panel("Teacher momentum", "As scheduled.", {"momentum": "momentum"}, exact=True),
    Panel("Teacher temperature", "As scheduled.", {"teacher_temperature": "temperature"}, exact=True),
    Panel(
        "Guides",
        "Accuracy of each guide's head, classes weighted alike.",
        {"guide_accuracy_": ""},
    ),
    Panel("Gradient norm", "Before clipping, log axis; a spike is a hard batch.", {"grad_norm_": ""}, log=True),
    Panel("Images per second", "Through the whole step.", {"images_per_second": "images"}, zero=True),
    Panel("Waiting for data", "Seconds a step; near 0, the loader keeps up.", {"data_wait": "wait"}, zero=True),
)


def plot_curves(run: Path, out: Path | None = None) -> Path:
    """Draw every panel that the run's ``metrics.jsonl`` has values for.

    Args:
        run: a run folder.
        out: the PNG to write; default ``run/curves.png``.

    Raises:
        RaddinoError: no log, or nothing to draw in it.
    """
    log, out = read_run(run), out or run / "curves.png"
    panels = drawable(log)
    if not panels:
        raise RaddinoError(f"{run / 'metrics.jsonl'} holds no value to draw")
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    with figure(4.3 * columns, 2.75 * rows + 0.3) as page:
        axes = page.subplots(rows, columns, squeeze=False).ravel()
        for place, panel in zip(axes, panels, strict=False):
            place.set_title(panel.title, pad=8 + LEGEND_LINE * _legend_lines(_names(panel, log)))
            draw(place, panel, log)
        for place in axes[len(panels) :]:
            place.set_axis_off()
        put_stamp(page, stamp_of(log.synthetic))
        with draft_of(out) as draft:
            page.savefig(draft, dpi=160, facecolor="white")
    return out


def drawable(run: Run) -> list[Panel]:
    """The panels that have at least one finite value, in order."""
    return [panel for panel in PANELS if any(True for _ in _series(panel, run))]


def draw(axes: Axes, panel: Panel, run: Run) -> None:
    """One panel: each value faint, its running mean strong, broken where steps are missing."""
    from matplotlib.ticker import LogLocator

    for i, (label, steps, values) in enumerate(_series(panel, run)):
        steps, values = thinned(steps, values)
        smooth = values if panel.exact else running_mean(values)
        for first, piece in enumerate(pieces(steps, values)):
            marker = "o" if piece.stop - piece.start == 1 else None
            if smooth is not values and marker is None:
                axes.plot(steps[piece], values[piece], color=hue(i), linewidth=0.7, alpha=0.3)
            axes.plot(
                steps[piece], smooth[piece], color=hue(i), linestyle=dash(i), marker=marker, markersize=4,
                label=None if first else label,
            )  # fmt: skip
    level = _level(panel, run)
    if panel.level and level is not None:
        draw_level(axes, level, panel.level[1])
    if panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.margins(x=0.02, y=0.12)
    if panel.zero:
        axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], level or 0))
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True)
    names = _names(panel, run)
    if len(names) > 1:
        legend(axes, _legend_columns(names))


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most ``POINTS`` points, each the mean of equally many neighbours; NaN stays NaN."""
    size = -(-len(steps) // POINTS)
    if size == 1:
        return steps, values
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    return np.add.reduceat(steps, starts) / counts, np.add.reduceat(values, starts) / counts


def running_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over a twenty-fifth of the curve; short curves are returned as they are."""
    import pandas as pd

    window = len(values) // 25
    if window < 3:
        return values
    return pd.Series(values).rolling(window, center=True, min_periods=1).mean().where(pd.notna(values)).to_numpy()


def pieces(steps: np.ndarray, values: np.ndarray) -> Iterator[slice]:
    """Runs of finite values whose steps follow each other; a wider gap (a lost part of a log) splits them."""
    finite = np.isfinite(values)
    usual = np.median(np.diff(steps)) if len(steps) > 1 else 1
    new = np.ones(len(steps), dtype=bool)
    new[1:] = (np.diff(steps) > 5 * usual) | (finite[1:] != finite[:-1])
    starts = np.flatnonzero(new)
    for start, stop in zip(starts, [*starts[1:], len(steps)], strict=True):
        if finite[start]:
            yield slice(int(start), int(stop))


def _series(panel: Panel, run: Run) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    import pandas as pd

    for table in (run.steps, run.monitors):
        for key, label in panel.lines.items():
            names = [key] if label else [name for name in table.columns if str(name).startswith(key)]
            for name in names:
                if name not in table:
                    continue
                known: pd.Series = pd.to_numeric(table[name], errors="coerce")
                present = known.notna() | (table is run.steps)
                values = known[present].to_numpy(float, copy=True)
                if panel.log:
                    values[values <= 0] = np.nan
                if np.isfinite(values).any():
                    title = label or str(name).removeprefix(key).replace("_", " ")
                    yield title, table["step"][present].to_numpy(float), values


def _names(panel: Panel, run: Run) -> list[str]:
    return [label for label, _, _ in _series(panel, run)]


def _legend_columns(names: list[str]) -> int:
    return 3 if len("".join(names)) < 30 else 2


def _legend_lines(names: list[str]) -> int:
    return -(-len(names) // _legend_columns(names)) if len(names) > 1 else 0


def _level(panel: Panel, run: Run) -> float | None:
    if panel.level is None:
        return None
    if not isinstance(panel.level[0], str):
        return panel.level[0]
    for table in (run.monitors, run.steps):
        if panel.level[0] in table and table[panel.level[0]].notna().any():
            return float(table[panel.level[0]].dropna().iloc[-1])
    return None
