"""The patient bootstrap: what is drawn, that it is shared, and that its intervals cover."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raddino.metrics.bootstrap import CHUNK_CELLS, PatientBootstrap, percentile_interval
from raddino.metrics.ranking import auroc


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
        interval = percentile_interval(values)
        covered += interval.low <= 0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99  # image-wise resampling would cover about 75 %


def test_undefined_resamples_are_counted_and_left_out():
    interval = percentile_interval(np.array([np.nan, 1.0, 2.0, 3.0]))
    assert interval.undefined == 1
    assert interval.median == 2
    empty = percentile_interval(np.full(3, np.nan))
    assert empty.undefined == 3
    assert np.isnan(empty.low)


def test_one_patient_bounds_nothing():
    interval = percentile_interval(PatientBootstrap(["a"] * 5, 20).distribution(lambda w: w @ np.arange(5.0)))
    assert np.isnan([interval.low, interval.high, interval.median]).all()
    assert interval.undefined == 20


@pytest.mark.parametrize(("patients", "resamples"), [([], 10), (["a"], 0)])
def test_an_empty_bootstrap_is_refused(patients, resamples):
    with pytest.raises(ValueError, match="impossible"):
        PatientBootstrap(patients, resamples)
