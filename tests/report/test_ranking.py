import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from raddino.metrics.bootstrap import PatientBootstrap
from raddino.report.ranking import GRID, precision_recall, roc


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
    alone = roc(target, score, PatientBootstrap(["a", "a", "a"], 5, 0))
    np.testing.assert_allclose(alone.low, alone.high)
