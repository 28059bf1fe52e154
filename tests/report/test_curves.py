from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raddino.errors import RaddinoError
from raddino.report.artefacts import read_run
from raddino.report.curves import PANELS, drawable, pieces, plot_curves, running_mean, thinned

from .fabricated import log_lines, write_run


def test_every_panel_of_a_whole_log_is_drawn(run: Path) -> None:
    titles = {panel.title for panel in drawable(read_run(run))}
    assert titles == {panel.title for panel in PANELS}
    picture = plot_curves(run)
    assert picture == run / "curves.png"
    with Image.open(picture) as image:
        assert image.size[0] > 1500
        assert np.asarray(image.convert("L")).std() > 5


@pytest.mark.parametrize(
    "lines",
    [
        [{"step": 0, "loss": 1.0}],
        [{"step": s, "loss": float("nan") if s % 2 else 1.0, "koleo": None} for s in range(6)],
        [{"step": 0, "monitor": True, "effective_rank": 3.0}],
        [{"step": s, "loss": 1.0} for s in [0, 1, 2, 500, 501]],
        [{"step": s, "loss": 1.0, "grad_norm_backbone": 0.0} for s in range(4)],
    ],
    ids=["one line", "NaN and null", "monitor only", "gap", "zero on a log axis"],
)
def test_odd_logs_are_drawn(tmp_path: Path, lines: list[dict]) -> None:
    assert plot_curves(write_run(tmp_path, lines), tmp_path / "x.png").stat().st_size > 1000


def test_a_log_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RaddinoError, match="no value to draw"):
        plot_curves(write_run(tmp_path, [{"step": 0, "loss": float("nan")}]))


def test_lines_break_at_nan_and_at_missing_steps() -> None:
    steps = np.array([0, 1, 2, 3, 50, 51, 52.0])
    values = np.array([1, np.nan, 1, 1, 1, 1, 1])
    assert list(pieces(steps, values)) == [slice(0, 1), slice(2, 4), slice(4, 7)]


def test_thinning_keeps_means_and_running_mean_keeps_nan() -> None:
    steps, values = thinned(np.arange(3000.0), np.arange(3000.0))
    assert len(steps) <= 500
    assert np.array_equal(steps, values)
    noisy = np.random.default_rng(0).normal(size=200)
    noisy[7] = np.nan
    smooth = running_mean(noisy)
    assert np.isnan(smooth).nonzero()[0].tolist() == [7]
    assert np.nanstd(smooth) < np.nanstd(noisy)


def test_a_schedule_is_not_smoothed(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    from raddino.report.curves import draw

    run = read_run(write_run(tmp_path, log_lines(300)))
    axes = Figure().subplots()
    draw(axes, next(panel for panel in PANELS if panel.title == "Learning rate"), run)
    drawn = axes.lines[0].get_ydata()
    assert np.array_equal(drawn, run.steps["lr"].to_numpy())
