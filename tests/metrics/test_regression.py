"""Regression metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from raddino.metrics import regression


def test_equal_to_scikit_learn_with_and_without_weights():
    rng = np.random.default_rng(0)
    y = rng.normal(1000, 15, 200)
    p = y + rng.normal(0, 10, 200)
    weights = rng.integers(0, 3, (4, 200))
    for ours, theirs in ((regression.mae, mean_absolute_error), (regression.r2, r2_score)):
        assert ours(y, p) == pytest.approx(theirs(y, p))
        expected = [theirs(y, p, sample_weight=w) for w in weights]
        np.testing.assert_allclose(ours(y, p, weights), expected)


def test_r2_of_a_constant_target_is_undefined():
    assert np.isnan(regression.r2([3.0, 3, 3], [1.0, 2, 3]))
    assert np.isnan(regression.r2([1.0, 3], [1.0, 2], [[5, 0]])[0])


@pytest.mark.filterwarnings("error")
def test_no_images_are_undefined():
    for metric in (regression.mae, regression.r2, lambda *a: regression.auroc_binned(*a[:2], [3.0], *a[2:])):
        assert np.isnan(metric([], []))
        assert np.isnan(metric([1.0, 5], [1.0, 2], [[0, 0]])[0])
    assert regression.mae([1.0], [4.0]) == 3


def test_equal_to_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    y, p = rng.normal(50, 15, 80), rng.normal(50, 15, 80)
    pair = torch.tensor(p), torch.tensor(y)
    assert regression.mae(y, p) == pytest.approx(functional.mean_absolute_error(*pair).item())
    assert regression.r2(y, p) == pytest.approx(functional.r2_score(*pair).item())


def test_binned_auroc_is_the_mean_over_defined_edges():
    rng = np.random.default_rng(1)
    y = rng.uniform(20, 80, 100)
    p = y + rng.normal(0, 20, 100)
    expected = np.mean([roc_auc_score(y > edge, p) for edge in (40, 60)])
    assert regression.auroc_binned(y, p, [40, 60]) == pytest.approx(expected)
    assert regression.auroc_binned(y, p, [40, 60, 200]) == pytest.approx(expected)
    assert np.isnan(regression.auroc_binned(y, p, [200]))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="belong together"):
        regression.mae([1.0, 2], [1.0])
    with pytest.raises(ValueError, match="finite"):
        regression.mae([1.0, np.nan], [1.0, 2])
