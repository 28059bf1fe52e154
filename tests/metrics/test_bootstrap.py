"""The patient bootstrap: what is drawn, that it is shared, and that its intervals cover."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, binomtest, norm
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from raddino.metrics.bootstrap import CHUNK_CELLS, PatientBootstrap, interval
from raddino.metrics.ranking import auroc
from raddino.metrics.scales import BIASED_LOGIT, COMPLEMENT, FISHER, IDENTITY, LOG, LOGIT, SHARE, SQUARE


def test_images_of_a_patient_are_drawn_together_and_patients_are_conserved():
    patients = np.array(["b", "a", "b", "c", "a", "b"])
    bootstrap = PatientBootstrap(patients, resamples=50)
    weights = []
    bootstrap.distribution(lambda w: weights.append(w) or w[:, 0])
    drawn = np.concatenate(weights)
    for patient in "abc":
        same = drawn[:, patients == patient]
        assert (same == same[:, :1]).all()
    assert (drawn[:, [0, 1, 3]].sum(1) == 3).all()
    assert bootstrap.patients == 3


def test_every_value_is_scikit_learns_on_the_resampled_images():
    rng = np.random.default_rng(0)
    y, score, patients = rng.integers(0, 2, 80), rng.normal(size=80).round(1), rng.integers(0, 30, 80)
    bootstrap = PatientBootstrap(patients, resamples=20, seed=3)
    weights = []
    values = bootstrap.distribution(lambda w: weights.append(w.astype(int)) or auroc(y, score, w))
    expected = [roc_auc_score(np.repeat(y, w), np.repeat(score, w)) for w in np.concatenate(weights)]
    np.testing.assert_allclose(values, expected)


def test_the_draw_depends_on_seed_and_patients_not_on_image_order_or_chunks(monkeypatch):
    rng = np.random.default_rng(1)
    patients, x = rng.integers(0, 20, 50).astype(str), rng.normal(size=50)

    def mean(order, seed=0):
        return PatientBootstrap(patients[order], 200, seed).distribution(lambda w: w @ x[order] / w.sum(-1))

    plain, shuffled = np.arange(50), rng.permutation(50)
    np.testing.assert_allclose(mean(plain), mean(shuffled))
    assert not np.allclose(mean(plain), mean(plain, seed=1))
    before = mean(plain)
    monkeypatch.setattr("raddino.metrics.bootstrap.CHUNK_CELLS", CHUNK_CELLS // 100_000)
    np.testing.assert_allclose(mean(plain), before)


def test_intervals_of_a_mean_cover_it_with_clustered_images():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        patients = np.repeat(np.arange(40), 3)
        x = np.repeat(rng.normal(size=40), 3) + 0.3 * rng.normal(size=120)
        values = PatientBootstrap(patients, 300, trial).distribution(lambda w, x=x: w @ x / w.sum(-1))
        bounds = interval(x.mean(), values, 40)
        covered += bounds.low <= 0 <= bounds.high
    assert 0.9 <= covered / 200 <= 0.99  # image-wise resampling would cover about 75 %


def test_undefined_resamples_are_counted_and_left_out():
    some = interval(2.0, np.array([np.nan, 1.0, 2.0, 3.0]), 5)
    assert some.undefined == 1
    assert some.median == 2
    assert some == replace(interval(2.0, np.array([1.0, 2.0, 3.0]), 5), undefined=1)
    empty = interval(0.5, np.full(3, np.nan), 5)
    assert empty.undefined == 3
    assert np.isnan(empty.low)


def test_one_patient_bounds_nothing():
    values = PatientBootstrap(["a"] * 5, 20).distribution(lambda w: w @ np.arange(5.0))
    bounds = interval(10.0, values, 1)
    assert np.isnan([bounds.low, bounds.high, bounds.median]).all()
    assert bounds.undefined == 20
    assert np.isnan(interval(0.7, np.linspace(0.6, 0.8, 50), 1, LOGIT).low)  # one patient of the rarer class


def test_the_identity_scale_is_students_interval_of_a_mean():
    x = np.random.default_rng(0).normal(3, 2, 24)
    values = PatientBootstrap(np.arange(24), 40_000).distribution(lambda w: w @ x / w.sum(-1))
    bounds = interval(x.mean(), values, 24)
    expected = student.interval(0.95, 23, x.mean(), x.std(ddof=1) / np.sqrt(24))
    np.testing.assert_allclose((bounds.low, bounds.high), expected, rtol=0.01)


@pytest.mark.parametrize(
    ("scale", "value", "forward", "back", "smooth"),
    [
        (LOGIT, 0.8, lambda x: np.log(x / (1 - x)), lambda z: 1 / (1 + np.exp(-z)), False),
        (LOG, 4.0, np.log, np.exp, True),
        (COMPLEMENT, -0.3, lambda x: np.log(1 - x), lambda z: 1 - np.exp(z), True),
        (FISHER, -0.4, lambda x: 0.5 * np.log((1 + x) / (1 - x)), np.tanh, False),
    ],
)
def test_a_scale_is_left_as_it_was_entered(scale, value, forward, back, smooth):
    values = back(forward(value) + 0.2 * np.random.default_rng(1).normal(size=5000))
    low, high = forward(np.quantile(values, norm.cdf([-1, 1])))
    spread = forward(values).std() if smooth else abs(high - low) / 2
    half = student.ppf(0.975, 11) * spread * np.sqrt(12 / 11)
    bounds = interval(value, values, 12, scale)
    expected = sorted(back(forward(value) + np.array([-half, half])))
    np.testing.assert_allclose((bounds.low, bounds.high), expected, rtol=1e-9)


def test_a_share_has_the_normal_quantile_and_no_more_for_few_patients():
    values = np.clip(0.7 + 0.1 * np.random.default_rng(1).normal(size=5000), 0.01, 0.99)
    low, high = logit(np.quantile(values, norm.cdf([-1, 1])))
    expected = expit(logit(0.7) + norm.ppf(0.975) * (high - low) / 2 * np.array([-1, 1]))
    for m in (3, 300):
        bounds = interval(0.7, values, m, SHARE, 300)
        np.testing.assert_allclose((bounds.low, bounds.high), expected)


def test_a_side_of_the_range_that_lies_at_an_end_says_nothing():
    values = np.repeat([0.6, 0.95], [40, 60])  # of ten images, 0.95 is the end
    bounds = interval(0.8, values, 10, LOGIT)
    half = student.ppf(0.975, 9) * np.sqrt(10 / 9) * (logit(0.8) - logit(0.6))
    np.testing.assert_allclose((bounds.low, bounds.high), expit(logit(0.8) + half * np.array([-1, 1])))


@pytest.mark.parametrize(("scale", "forward"), [(IDENTITY, np.asarray), (BIASED_LOGIT, logit)])
def test_a_smooth_scale_sees_the_tenth_of_resamples_that_moves(scale, forward):
    values = np.repeat([0.4, 0.5, 0.8], [5, 90, 5])
    half = student.ppf(0.975, 19) * forward(values).std() * np.sqrt(20 / 19)
    bounds = interval(0.5, values, 20, scale)
    np.testing.assert_allclose(forward(np.array([bounds.low, bounds.high])), forward(0.5) + half * np.array([-1, 1]))


def test_an_error_that_noise_enlarges_is_moved_back_by_what_resampling_added():
    values = np.sqrt(0.05 + 0.01 * np.random.default_rng(2).normal(size=20_000).clip(-3, 3))
    bounds = interval(0.2, values, 2000, SQUARE)  # 0.2 squared is 0.04: resampling added 0.01
    assert bounds.low == pytest.approx(np.sqrt(0.03 - 0.0196), abs=0.002)
    assert bounds.high == pytest.approx(np.sqrt(0.03 + 0.0196), abs=0.002)
    assert interval(0.2, 0.3 + 1e-4 * values, 2000, SQUARE).high == 0.2


@pytest.mark.parametrize("m", [2, 10, 57])
@pytest.mark.parametrize("scale", [LOGIT, SQUARE])
def test_nothing_varies_at_an_end_and_the_bound_is_that_of_clopper_and_pearson(scale, m):
    for value, right in ((1.0, m), (0.0, 0)):
        exact = binomtest(right, m).proportion_ci(method="exact")
        bounds = interval(value, np.full(40, value), m, scale)
        np.testing.assert_allclose((bounds.low, bounds.high), (exact.low, exact.high))


def test_nothing_varies_elsewhere():
    for scale, value in ((LOGIT, 0.4), (LOG, 0.0), (LOG, 3.0), (IDENTITY, 0.0), (COMPLEMENT, 1.0)):
        bounds = interval(value, np.full(40, value), 12, scale)
        assert (bounds.low, bounds.high) == (value, value)


@pytest.mark.parametrize("scale", [BIASED_LOGIT, IDENTITY, LOGIT, LOG, COMPLEMENT, FISHER, SHARE, SQUARE])
def test_the_value_lies_inside_and_the_interval_in_the_range(scale):
    rng = np.random.default_rng(4)
    ends = [end for end in (scale.low, scale.high) if np.isfinite(end)]
    low, high = (max(scale.low, -50), min(scale.high, 50))
    for m in (2, 3, 40):
        for value in (*ends, *rng.uniform(low, high, 20)):
            spread = np.clip(value + rng.normal(0, rng.choice([1e-9, 0.05, 5]), 60), low, high)
            for values in (spread, np.append(spread, np.nan), np.append(np.full(59, low), high)):
                bounds = interval(value, values, m, scale)
                assert scale.low <= bounds.low <= value <= bounds.high <= scale.high


def test_a_value_that_does_not_exist_has_no_interval():
    assert np.isnan(interval(np.nan, np.linspace(0, 1, 9), 5, LOGIT).high)


def test_the_interval_covers_what_percentiles_do_not():
    """AUROC 0.93 of 12 positive and 138 negative patients: the limit is 95 % less three binomial deviations."""
    truth, held, percentiles, trials = 0.93, 0, 0, 300
    y = np.repeat([1.0, 0.0], [12, 138])
    for trial in range(trials):
        score = np.random.default_rng([trial, 6]).normal(size=150) + np.sqrt(2) * norm.ppf(truth) * y
        values = PatientBootstrap(np.arange(150), 200, trial).distribution(lambda w, s=score: auroc(y, s, w))
        bounds = interval(auroc(y, score), values, 12, LOGIT, 150)
        held += bounds.low <= truth <= bounds.high
        low, high = np.nanquantile(values, [0.025, 0.975])
        percentiles += low <= truth <= high
    limit = binom.ppf(0.001, trials, 0.95)
    assert held >= limit
    assert percentiles < limit


def test_a_thousand_resamples_are_the_default():
    assert PatientBootstrap(["a", "b"]).resamples == 1000


@pytest.mark.parametrize(("patients", "resamples"), [([], 10), (["a"], 0)])
def test_an_empty_bootstrap_is_refused(patients, resamples):
    with pytest.raises(ValueError, match="impossible"):
        PatientBootstrap(patients, resamples)
