"""Cox's intercept and slope against statsmodels and scikit-learn, closed forms, and what recalibration mends."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from raddino.metrics import recalibration
from raddino.metrics.recalibration import (
    calibration_intercept,
    calibration_slope,
    cross_fitted,
    fit_intercept,
    fit_platt,
    in_the_large,
)


def draw(n=300, seed=0, intercept=-0.7, slope=0.6):
    rng = np.random.default_rng(seed)
    z = rng.normal(0.3, 2, n)
    return (rng.random(n) < expit(intercept + slope * z)).astype(float), z


@pytest.mark.parametrize("seed", range(5))
def test_intercept_and_slope_equal_statsmodels(seed):
    api = pytest.importorskip("statsmodels.api")
    y, z = draw(60 + 100 * seed, seed)
    w = np.random.default_rng(seed).integers(0, 4, (3, len(y))).astype(float)
    offset = [api.GLM(y, np.ones(len(y)), api.families.Binomial(), offset=z, freq_weights=one).fit() for one in w]
    np.testing.assert_allclose(calibration_intercept(y, z, w), [one.params[0] for one in offset], atol=1e-6)
    free = [api.GLM(y, api.add_constant(z), api.families.Binomial(), freq_weights=one).fit() for one in w]
    np.testing.assert_allclose(calibration_slope(y, z, w), [one.params[1] for one in free], atol=1e-6)


def test_slope_equals_scikit_learn_where_logits_are_far_from_zero_and_wide():
    for shift, stretch in ((0, 1), (400, 1), (-3, 300)):
        y, z = draw()
        far = shift + stretch * z
        found = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(z[:, None], y)
        assert calibration_slope(y, far) == pytest.approx(found.coef_[0, 0] / stretch, rel=1e-4)


def test_a_constant_prediction_has_the_intercept_of_the_prevalence():
    y = np.array([1, 0, 0, 0, 0])
    assert calibration_intercept(y, np.full(5, 2.0)) == pytest.approx(logit(0.2) - 2)
    assert in_the_large(y, np.full(5, 0.7)) == pytest.approx(-0.5)
    np.testing.assert_allclose(in_the_large(y, np.full(5, 0.7), [[5, 0, 0, 0, 0], [1, 1, 0, 0, 0]]), [0.3, -0.2])
    assert np.isnan(calibration_slope(y, np.full(5, 2.0)))


def test_the_intercept_makes_the_mean_risk_right_however_sure_the_logits_are():
    y, z = draw()
    for stretch in (1, 50, 400):
        a = calibration_intercept(y, stretch * z)
        assert in_the_large(y, expit(a + stretch * z)) == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("error")
def test_what_no_finite_number_fits_is_undefined():
    y = np.array([0.0, 0, 1, 1])
    for z in ([0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 1, 2], [1, 1, 1, 1]):
        assert np.isnan(calibration_slope(y, z))
    assert np.isfinite(calibration_slope(y, [0, 2, 1, 3]))
    weights = [[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]
    np.testing.assert_array_equal(np.isnan(calibration_slope(y, [0, 2, 1, 3], weights)), [True, False, True, True])
    np.testing.assert_array_equal(np.isnan(calibration_intercept(y, [0, 2, 1, 3], weights)), [False, False, True, True])
    for metric in (in_the_large, calibration_intercept, calibration_slope):
        assert np.isnan(metric([], []))


def test_platt_equals_scikit_learn_on_his_targets():
    y, z = draw()
    positives, negatives = y.sum(), (1 - y).sum()
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    share = np.where(y == 1, high, low)
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    model.fit(np.r_[z, z][:, None], np.r_[np.ones(len(y)), np.zeros(len(y))], sample_weight=np.r_[share, 1 - share])
    a, b = fit_platt(y, z)
    assert (a, b) == (pytest.approx(model.intercept_[0], abs=1e-4), pytest.approx(model.coef_[0, 0], abs=1e-4))


def test_recalibration_is_finite_where_classes_are_separated_or_missing():
    separated = np.array([0.0, 0, 1, 1]), np.array([-3.0, -1, 1, 3])
    a, b = fit_platt(*separated)
    assert 0 < b < 10
    assert a == pytest.approx(0, abs=1e-6)
    for one in (0.0, 1.0):
        a, b = fit_intercept(np.full(6, one), np.zeros(6))
        assert (a, b) == (pytest.approx(logit(0.5 / 6.5) * (1 if one == 0 else -1)), 1.0)
        assert np.isfinite(fit_platt(np.full(6, one), np.arange(6.0))).all()
    assert fit_platt([0, 1, 1, 1], [2, 2, 2, 2]) == (pytest.approx(logit(0.75) - 2), 1.0)


def test_no_image_recalibrates_itself():
    y, z = draw()
    patients = np.arange(len(y)) // 3
    for fit in (fit_intercept, fit_platt):
        before = cross_fitted(y, z, patients, fit)
        for patient in (0, 7, 50):
            own = patients == patient
            turned = np.where(own, 1 - y, y)
            after = cross_fitted(turned, z, patients, fit)
            np.testing.assert_array_equal(after[own], before[own])
            assert (after[~own] != before[~own]).any()


def test_recalibration_mends_what_it_says():
    y, z = draw(4000, 3)
    patients = np.arange(len(y)) // 2
    shifted, stretched = (cross_fitted(y, z, patients, fit) for fit in (fit_intercept, fit_platt))
    assert abs(in_the_large(y, expit(z))) > 0.05
    assert in_the_large(y, expit(shifted)) == pytest.approx(0, abs=0.002)
    assert calibration_slope(y, shifted) == pytest.approx(0.6, abs=0.06)
    assert calibration_slope(y, stretched) == pytest.approx(1, abs=0.02)
    assert calibration_intercept(y, stretched) == pytest.approx(0, abs=0.02)


def test_the_deal_depends_on_patients_and_seed_alone():
    y, z = draw(90)
    patients = np.arange(90) // 2
    order = np.random.default_rng(5).permutation(90)
    one = cross_fitted(y, z, patients, fit_platt)
    np.testing.assert_allclose(cross_fitted(y[order], z[order], patients[order], fit_platt), one[order], atol=1e-8)
    assert (cross_fitted(y, z, patients, fit_platt, seed=1) != one).any()
    with pytest.raises(ValueError, match="4 patients cannot be dealt out into 5 parts"):
        cross_fitted(y[:4], z[:4], np.arange(4), fit_platt)


def test_the_fold_count_is_what_the_page_says():
    assert recalibration.FOLDS == 5
