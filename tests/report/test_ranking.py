import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from raddino.metrics.bootstrap import PatientBootstrap
from raddino.report.ranking import GRID, Curve, draw_agreement, draw_precision_recall, draw_roc, precision_recall, roc


def scores(n: int = 150, ties: bool = False) -> tuple[np.ndarray, np.ndarray, PatientBootstrap]:
    draw = np.random.default_rng(1)
    target = (draw.random(n) < 0.4).astype(float)
    score = target + draw.normal(0, 1, n)
    return target, score.round(0 if ties else 12), PatientBootstrap(np.arange(n) // 2, 300, 0)


@pytest.mark.parametrize("ties", [False, True])
def test_points_are_those_of_scikit_learn(ties: bool) -> None:
    target, score, bootstrap = scores(ties=ties)
    curve = roc(target, score, bootstrap)
    x, y, _ = roc_curve(target, score, drop_intermediate=False)
    np.testing.assert_allclose(curve.x, x)
    np.testing.assert_allclose(curve.y, y)
    assert auc(curve.x, curve.y) == pytest.approx(roc_auc_score(target, score))
    curve = precision_recall(target, score, bootstrap)
    precision, recall, _ = precision_recall_curve(target, score)
    known = set(zip(recall.round(9), precision.round(9), strict=True))
    assert set(zip(curve.x[1:].round(9), curve.y[1:].round(9), strict=True)) <= known
    area = np.sum(np.diff(curve.x) * curve.y[1:])
    assert area == pytest.approx(average_precision_score(target, score))


def test_bands_contain_the_curve() -> None:
    target, score, bootstrap = scores()
    curve = roc(target, score, bootstrap)
    on_grid = np.interp(GRID, curve.x + np.arange(len(curve.x)) * 1e-12, curve.y)
    assert (curve.low <= on_grid + 1e-9).all()
    assert (on_grid <= curve.high + 1e-9).all()
    assert (curve.low < curve.high).mean() > 0.8
    curve = precision_recall(target, score, bootstrap)
    on_grid = curve.y[np.searchsorted(curve.x, curve.grid - 1e-9)]
    assert (curve.low <= on_grid + 1e-9).all()
    assert (on_grid <= curve.high + 1e-9).all()


def test_a_perfect_and_a_constant_score() -> None:
    target, _, bootstrap = scores()
    perfect = roc(target, target, bootstrap)
    assert (perfect.low == 1).all()
    assert (perfect.high == 1).all()
    flat = roc(target, np.zeros(len(target)), bootstrap)
    np.testing.assert_allclose(flat.low, GRID, atol=1e-9)
    np.testing.assert_allclose(flat.high, GRID, atol=1e-9)


def test_resamples_without_a_class_are_left_out() -> None:
    target, score = np.array([1.0, 0, 0]), np.array([0.9, 0.1, 0.2])
    curve = roc(target, score, PatientBootstrap(["a", "b", "c"], 50, 0))
    assert (curve.low == 1).all()
    wrong = np.array([0.1, 0.2, 0.9])
    for one in (target, 1 - target):
        whole = roc(one, np.where(one == 1, wrong.min(), wrong.max()), PatientBootstrap(["a", "b", "c"], 50, 0))
        assert (whole.high[:-1] == 0).all()
    alone = roc(target, score, PatientBootstrap(["a", "a", "a"], 5, 0))
    np.testing.assert_allclose(alone.low, alone.high)


def curves(number: int) -> dict[str, Curve]:
    """Curves of areas 1 / number, 2 / number, ..., 1 with bands half as high; the first is the reference."""
    x = np.linspace(0, 1, 5)
    heights = np.arange(1, number + 1) / number
    return {f"e{n}": Curve(x, np.full(5, y), x, np.full(5, y / 2), np.full(5, y)) for n, y in enumerate(heights)}


@pytest.mark.parametrize(("number", "bands"), [(1, 1), (3, 3), (4, 2)])
@pytest.mark.parametrize("kind", ["roc", "precision-recall"])
def test_every_curve_is_drawn_and_bands_of_few(kind: str, number: int, bands: int) -> None:
    axes, shown = Figure().add_subplot(), curves(number)
    colours = {name: place for place, name in enumerate(shown)}
    if kind == "roc":
        draw_roc(axes, shown, colours)
    else:
        draw_precision_recall(axes, shown, colours, 0.2)
    chance, *lines = axes.lines
    assert list(chance.get_ydata()) == ([0, 1] if kind == "roc" else [0.2, 0.2])
    assert [line.get_drawstyle() for line in lines] == ["default" if kind == "roc" else "steps-pre"] * number
    for line, curve in zip(lines, shown.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), curve.x)
        np.testing.assert_array_equal(line.get_ydata(), curve.y)
    assert len({line.get_color() for line in lines}) == number
    drawn = [band.get_paths()[0].get_extents() for band in axes.collections]
    kept = list(shown.values()) if number <= 3 else [shown["e0"], shown[f"e{number - 1}"]]
    assert len(drawn) == bands
    np.testing.assert_allclose([(box.y0, box.y1) for box in drawn], [(one.low[0], one.high[0]) for one in kept])
    names = ("1 − specificity", "sensitivity") if kind == "roc" else ("recall", "precision")
    assert (axes.get_xlabel(), axes.get_ylabel()) == names
    assert axes.get_xlim() == axes.get_ylim() == (-0.02, 1.02)
    assert axes.get_xticks().tolist() == axes.get_yticks().tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("images", "shown"), [(7, 7), (5000, 400)])
def test_agreement_shows_at_most_400_images_from_first_to_last(images: int, shown: int) -> None:
    axes = Figure().add_subplot()
    predictions = pd.DataFrame({"target": np.arange(images) + 0.5, "score": -np.arange(images)})
    draw_agreement(axes, predictions, 0, (10.0, 20.0))
    perfect, points = axes.lines
    assert list(perfect.get_xdata()) == list(perfect.get_ydata()) == [10, 20]
    assert len(points.get_xdata()) == shown
    np.testing.assert_array_equal(points.get_xdata(), 0.5 - points.get_ydata())
    assert (points.get_xdata()[0], points.get_xdata()[-1]) == (0.5, images - 0.5)
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((9.6, 20.4))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("true", "predicted")
