"""Ranks and tau against SciPy, rank intervals by simulation, planted leaders."""

import numpy as np
import pytest
from scipy.stats import kendalltau

from raddino.metrics.stability import first_share, kendall_tau, rank_bounds, ranks


def test_tau_equals_scipy_with_and_without_ties():
    rng = np.random.default_rng(0)
    for count in (2, 3, 7):
        one, other = rng.integers(0, 4, (2, 20, count)).astype(float)
        found = kendall_tau(one, other)
        expected = [kendalltau(a, b).statistic for a, b in zip(one, other, strict=True)]
        np.testing.assert_allclose(found, expected)
    assert kendall_tau([1, 2, 3], [9, 8, 7]) == -1


def test_the_best_has_rank_one_and_equals_share():
    np.testing.assert_array_equal(ranks([0.9, 0.7, 0.7, 0.8]), [1, 3.5, 3.5, 2])
    np.testing.assert_array_equal(ranks([[9.0, 7], [1, 2]], higher_is_better=False), [[2, 1], [1, 2]])


def test_clear_differences_fix_the_ranks_and_equals_stay_open():
    rng = np.random.default_rng(1)
    values = np.array([0.9, 0.7, 0.7, 0.5])
    drawn = values + 0.01 * rng.normal(size=(500, 4))
    low, high = rank_bounds(values, drawn)
    np.testing.assert_array_equal((low, high), ([1, 2, 2, 4], [1, 3, 3, 4]))
    low, high = rank_bounds(-values, -drawn, higher_is_better=False)
    np.testing.assert_array_equal((low, high), ([1, 2, 2, 4], [1, 3, 3, 4]))
    shared = values + 0.3 * rng.normal(size=(500, 1)) + 0.01 * rng.normal(size=(500, 4))
    np.testing.assert_array_equal(rank_bounds(values, shared)[0], [1, 2, 2, 4]), "pairs are compared, not values"
    for nothing in (np.full((5, 4), np.nan), np.empty((0, 4)), np.tile(values, (9, 1))[:1]):
        np.testing.assert_array_equal(rank_bounds(values, nothing), ([1] * 4, [4] * 4))
    np.testing.assert_array_equal(rank_bounds(values, np.tile(values, (9, 1)))[0], [1, 2, 2, 4])


@pytest.mark.parametrize("truth", [[0, 0, 0, 0], [0, 0, 0.3, 0.6], [0, 0.2, 0.4, 0.6]])
def test_all_ranks_hold_together_as_often_as_promised(truth):
    rng = np.random.default_rng(2)
    true, held = ranks(truth), []
    for _ in range(300):
        images = np.asarray(truth) + rng.normal(size=(80, 1)) + rng.normal(size=(80, 4))
        weights = rng.multinomial(80, np.full(80, 1 / 80), 200)
        low, high = rank_bounds(images.mean(0), weights @ images / 80)
        held.append(((low <= true) & (true <= high)).all())
    assert np.mean(held) > 0.92


def test_who_leads_and_how_often():
    drawn = np.array([[3.0, 1, 2], [1, 3, 2], [2, 2, 1], [np.nan, 1, 2]])
    np.testing.assert_array_equal(first_share(drawn, 0), [1, 0, 0.5, np.nan])
    np.testing.assert_array_equal(first_share(drawn, 2, higher_is_better=False), [0, 0, 1, np.nan])
