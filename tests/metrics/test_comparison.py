"""Paired tests: against a direct DeLong, against resampling, and under the null."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from raddino.metrics.bootstrap import PatientBootstrap
from raddino.metrics.comparison import delong_p, holm, paired_bootstrap_p
from raddino.metrics.ranking import auroc


def textbook_delong(y, a, b):
    """DeLong, DeLong and Clarke-Pearson 1988, equations written out over all pairs."""
    kernel = [(s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0]) for s in (a, b)]
    v10, v01 = (np.stack([k.mean(axis) for k in kernel]) for axis in (1, 0))
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = kernel[0].mean() - kernel[1].mean()
    return 2 * norm.sf(abs(difference) / np.sqrt(variance))


def test_one_image_a_patient_is_textbook_delong():
    rng = np.random.default_rng(0)
    for decimals in (8, 1):
        y = rng.integers(0, 2, 90)
        a, b = (rng.normal(size=90) + 0.8 * y).round(decimals), (rng.normal(size=90) + y).round(decimals)
        assert delong_p(y, a, b, np.arange(90)) == pytest.approx(textbook_delong(y, a, b))


def test_repeating_every_image_of_a_patient_changes_nothing():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    a, b = rng.normal(size=60) + y, rng.normal(size=60) + 0.5 * y
    once = delong_p(y, a, b, np.arange(60))
    thrice = delong_p(*(np.repeat(x, 3) for x in (y, a, b)), np.repeat(np.arange(60), 3))
    assert thrice == pytest.approx(once, rel=1e-9)


def test_p_is_uniform_when_clustered_models_are_equal():
    rng = np.random.default_rng(2)
    values = []
    for _ in range(300):
        patients = np.repeat(np.arange(60), 3)
        y = np.repeat(rng.integers(0, 2, 60), 3)
        a, b = (np.repeat(rng.normal(size=60), 3) + 0.5 * rng.normal(size=180) + y for _ in range(2))
        values.append(delong_p(y, a, b, patients))
    assert kstest(values, "uniform").pvalue > 0.001


def test_delong_and_the_paired_bootstrap_agree():
    rng = np.random.default_rng(3)
    y, patients = rng.integers(0, 2, 200), rng.integers(0, 120, 200)
    a = rng.normal(size=200) + y
    b = a + rng.normal(0, 1.2, size=200)
    bootstrap = PatientBootstrap(patients, 4000)
    samples = bootstrap.distribution(lambda w: auroc(y, a, w) - auroc(y, b, w))
    p = paired_bootstrap_p(float(auroc(y, a) - auroc(y, b)), samples)
    assert p == pytest.approx(delong_p(y, a, b, patients), abs=0.02)


def test_degenerate_comparisons():
    y = np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.6, 0.4, 0.9])
    assert delong_p(y, score, 2 * score, np.arange(4)) == 1
    assert np.isnan(delong_p(np.ones(4), score, -score, np.arange(4)))
    assert np.isnan(delong_p(y, score, -score, [0, 0, 1, 1]))
    assert np.isnan(paired_bootstrap_p(np.nan, np.zeros(3)))


def test_bootstrap_p_is_k_plus_one_over_b_plus_one():
    assert paired_bootstrap_p(1.0, np.array([0.0, 0.9, 1.1, 2.5, np.nan])) == pytest.approx(3 / 5)
    assert paired_bootstrap_p(5.0, np.full(99, 5.0)) == pytest.approx(1 / 100)
    assert paired_bootstrap_p(0.0, np.array([0.1, -0.1])) == 1


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.9]), [0.04, np.nan, 0.9])
    assert holm([]).size == 0
