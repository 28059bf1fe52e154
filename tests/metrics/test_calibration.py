"""Calibration against scikit-learn, hand-made bins and a known temperature."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss

from raddino.metrics import calibration


def draw(n=400, seed=0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    return (rng.random(n) < expit(logit)).astype(float), logit


def test_brier_equals_scikit_learn_under_weights():
    y, logit = draw()
    p = expit(logit)
    weights = np.random.default_rng(1).integers(0, 4, (3, len(y)))
    expected = [brier_score_loss(y, p, sample_weight=w) for w in weights]
    np.testing.assert_allclose(calibration.brier(y, p, weights), expected)


def test_ece_equals_a_loop_over_bins():
    y, logit = draw()
    p = np.append(expit(logit)[:-2], [0.0, 1.0])
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (p > low) & (p <= low + 1 / 15) | ((low == 0) & (p == 0))
        if inside.any():
            total += inside.mean() * abs(y[inside].mean() - p[inside].mean())
    assert calibration.expected_calibration_error(y, p) == pytest.approx(total)
    twice = np.full((2, len(y)), 2.0)
    np.testing.assert_allclose(calibration.expected_calibration_error(y, p, twice), total)


@pytest.mark.parametrize("n", [1, 3, 400])
def test_ece_equals_torchmetrics(n):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    y, logit = draw(n)
    p = expit(logit)
    expected = functional.binary_calibration_error(torch.tensor(p), torch.tensor(y), n_bins=15, norm="l1")
    assert calibration.expected_calibration_error(y, p) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_no_images_and_resamples_without_any_are_undefined():
    for metric in (calibration.brier, calibration.expected_calibration_error):
        assert np.isnan(metric([], []))
        np.testing.assert_array_equal(np.isnan(metric([0, 1], [0.2, 0.7], [[0, 0], [1, 1]])), [True, False])
        assert metric([1, 1], [1.0, 1.0]) == 0


def test_reliability_accounts_for_every_image():
    y, logit = draw()
    points = calibration.reliability(y, expit(logit))
    assert sum(points["n"]) == len(y)
    assert np.average(points["frequency"], weights=points["n"]) == pytest.approx(y.mean())
    assert np.average(points["probability"], weights=points["n"]) == pytest.approx(expit(logit).mean())


def test_temperature_is_recovered_and_keeps_ranks():
    y, logit = draw(n=20_000)
    temperature = calibration.fit_temperature(y, 3 * logit)
    assert temperature == pytest.approx(3, rel=0.05)
    p = calibration.apply_temperature(3 * logit, temperature)
    assert calibration.expected_calibration_error(y, p) < calibration.expected_calibration_error(y, expit(3 * logit))
    assert (np.argsort(p) == np.argsort(expit(logit))).mean() > 0.99


def test_perfect_separation_gives_a_bounded_temperature():
    assert 0.009 < calibration.fit_temperature([0, 0, 1, 1], [-1.0, -2, 1, 2]) < 0.02


def test_a_probability_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        calibration.brier([0, 1], [0.5, 1.2])
