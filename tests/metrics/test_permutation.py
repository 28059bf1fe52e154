"""Permutations of groups by patient: what stays, exact p of a tiny set, and SciPy's permutation test."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import permutation_test

from raddino.metrics.permutation import permutation_gap, permuted_groups
from raddino.metrics.ranking import auroc, ratio


def several(seed=0, n=60):
    """Patients of one to three images, of two classes, in groups that change within a patient."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), rng.integers(1, 4, n))
    return patients, rng.integers(0, 3, len(patients)), rng.integers(0, 2, len(patients)).astype(float)


def test_patients_move_as_wholes_and_groups_keep_their_classes():
    patients, groups, classes = several()
    drawn = permuted_groups(groups, patients, classes, 50, 1)
    assert (drawn != groups).any(1).all()
    for one in (0, 1):
        counts = np.bincount(groups[classes == one], minlength=3)
        assert all((np.bincount(row[classes == one], minlength=3) == counts).all() for row in drawn)

    def profiles(labels):
        return sorted(
            (tuple(classes[own][order]), tuple(labels[own][order]))
            for one in set(patients)
            for own in [patients == one]
            for order in [np.argsort(classes[own], kind="stable")]
        )

    assert all(profiles(row) == profiles(groups) for row in drawn)


def test_who_is_like_no_other_keeps_its_labels():
    drawn = permuted_groups(["a", "b", "b", "a", "b"], [1, 2, 2, 3, 4], [1, 0, 1, 0, 0], 100)
    np.testing.assert_array_equal(np.unique(drawn[:, :3], axis=0), [[0, 1, 1]])
    assert len(np.unique(drawn[:, 3:], axis=0)) == 2
    np.testing.assert_array_equal(permuted_groups(["a", "b"], [1, 1], None, 3), [[0, 1]] * 3)


def mean_of(values):
    return lambda w: ratio(w @ values, w.sum(-1))


def test_p_is_that_of_all_permutations_of_a_tiny_set():
    values, groups = np.array([0.0, 1, 2, 5, 7, 9]), np.array([0, 0, 0, 1, 1, 1])
    gaps = [abs(values[list(order)[:3]].mean() - values[list(order)[3:]].mean()) for order in permutations(range(6))]
    exact = np.mean(np.array(gaps) >= 6 - 1e-12)
    expected, p = permutation_gap(mean_of(values), groups, permuted_groups(groups, np.arange(6), None, 20_000))
    assert p == pytest.approx(exact, abs=0.006)
    assert np.quantile(gaps, 0.4) <= expected <= np.quantile(gaps, 0.6)


def test_p_is_that_of_scipy_where_each_patient_has_one_image():
    rng = np.random.default_rng(3)
    values, groups = rng.normal(size=80), np.repeat([0, 1, 2], [30, 30, 20])
    values[groups == 2] += 0.4
    _, p = permutation_gap(mean_of(values), groups, permuted_groups(groups, np.arange(80), None, 4000))
    theirs = permutation_test(
        [values[groups == one] for one in range(3)], lambda a, b, c: np.ptp([a.mean(), b.mean(), c.mean()]),
        n_resamples=4000, alternative="greater", rng=np.random.default_rng(4), vectorized=False,
    )  # fmt: skip
    assert p == pytest.approx(theirs.pvalue, abs=0.03)


def test_without_a_difference_p_is_uniform_and_with_one_it_is_small():
    p = []
    for seed in range(200):
        patients, groups, classes = several(seed, 40)
        score = np.random.default_rng(seed + 900).normal(size=40)[patients] + classes
        drawn = permuted_groups(groups, patients, classes, 99, seed)
        p.append(permutation_gap(lambda w, c=classes, s=score: auroc(c, s, w), groups, drawn)[1])
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p) == pytest.approx(0.5, abs=0.07)
    patients, groups, classes = several(1, 150)
    score = np.where(groups == 0, -1, 1) * classes + np.random.default_rng(0).normal(size=len(classes))
    assert permutation_gap(lambda w: auroc(classes, score, w), groups,
                           permuted_groups(groups, patients, classes, 199))[1] == 1 / 200  # fmt: skip


def test_chunks_do_not_matter_and_nothing_defined_is_no_evidence(monkeypatch):
    patients, groups, classes = several()
    drawn = permuted_groups(groups, patients, classes, 60)
    whole = permutation_gap(mean_of(classes), groups, drawn)
    monkeypatch.setattr("raddino.metrics.permutation.CHUNK_CELLS", 700)
    assert permutation_gap(mean_of(classes), groups, drawn) == whole
    expected, p = permutation_gap(lambda w: np.full(len(w), np.nan), groups, drawn)
    assert np.isnan(expected)
    assert p == 1
