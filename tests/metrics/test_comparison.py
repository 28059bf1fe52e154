"""Paired tests: against a direct DeLong, against resampling, and under the null."""

import itertools

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.metrics import average_precision_score

from raddino.metrics.comparison import delong_p, holm, paired_randomisation_p, unpaired_interval
from raddino.metrics.ranking import auprc, auroc
from raddino.tasks.base import Statistic


def textbook_delong(y, a, b):
    """DeLong, DeLong and Clarke-Pearson 1988, equations written out over all pairs."""
    kernel = [(s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0]) for s in (a, b)]
    v10, v01 = (np.stack([k.mean(axis) for k in kernel]) for axis in (1, 0))
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = kernel[0].mean() - kernel[1].mean()
    return 2 * norm.sf(abs(difference) / np.sqrt(variance))


def obuchowski(y, a, b, patients):
    """Obuchowski 1997 for clustered data, pair by pair and patient by patient; None where it is not defined."""
    difference, parts = 0.0, {}
    positives, negatives = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    groups = [len({patients[i] for i in chosen}) for chosen in (positives, negatives)]
    if min(groups) < 2:
        return None
    for i in positives:
        for j in negatives:
            kernel = sum(sign * ((s[i] > s[j]) + 0.5 * (s[i] == s[j])) for sign, s in ((1, a), (-1, b)))
            difference += kernel / len(positives) / len(negatives)
            parts[i] = parts.get(i, 0) + kernel / len(negatives)
            parts[j] = parts.get(j, 0) + kernel / len(positives)
    names = sorted(set(patients))
    ill, well = ([sum(parts[i] - difference for i in chosen if patients[i] == name) for name in names]
                 for chosen in (positives, negatives))  # fmt: skip
    variance = 2 * len(names) / (len(names) - 1) * np.dot(ill, well) / len(positives) / len(negatives)
    for sums, count, group in ((ill, len(positives), groups[0]), (well, len(negatives), groups[1])):
        variance += group / (group - 1) * np.dot(sums, sums) / count**2
    return 2 * norm.sf(abs(difference) / np.sqrt(variance)) if variance > 1e-15 else None


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("patients", [1, 2, 7, 25, 40])
def test_clustered_delong_is_the_pairwise_oracle(patients, decimals):
    rng = np.random.default_rng(100 * patients + decimals)
    for positives in (0, 1, 3, 20, 40):
        member = rng.integers(0, patients, 40)
        y = rng.permutation(np.repeat([1.0, 0.0], [positives, 40 - positives]))
        a, b = ((rng.normal(size=40) + 0.4 * y).round(decimals) for _ in range(2))
        expected = obuchowski(y, a, b, member)
        if expected is None:
            assert not delong_p(y, a, b, member) < 1
        else:
            assert delong_p(y, a, b, member) == pytest.approx(expected, rel=1e-9)


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


def test_delong_and_randomisation_of_ranks_agree():
    rng = np.random.default_rng(3)
    y, patients = rng.integers(0, 2, 200).astype(float), rng.integers(0, 120, 200)
    a = rng.normal(size=200) + y
    b = 1000 * (a + rng.normal(0, 1.2, size=200))
    joined = Statistic.of(auroc, y, a, ranks=True).beside(Statistic.of(auroc, y, b, ranks=True))
    p = paired_randomisation_p(joined, patients, 3000)
    assert 0.01 < p < 0.9
    assert p == pytest.approx(delong_p(y, a, b, patients), abs=0.04)


def test_degenerate_comparisons():
    y = np.array([0, 0, 1, 1])
    score = np.array([0.1, 0.6, 0.4, 0.9])
    assert delong_p(y, score, 2 * score, np.arange(4)) == 1
    assert np.isnan(delong_p(np.ones(4), score, -score, np.arange(4)))
    assert np.isnan(delong_p(y, score, -score, [0, 0, 1, 1]))
    assert np.isnan(delong_p(y, y.astype(float), np.zeros(4), np.arange(4)))


def test_randomisation_is_k_plus_one_over_b_plus_one_over_all_exchanges():
    y = np.array([1.0, 0, 1, 0, 1, 0, 0, 1])
    a, b = np.array([8.0, 1, 7, 3, 6, 5, 2, 4]), np.array([2.0, 1, 7, 5, 3, 4, 6, 8])
    exact = []
    for kept in itertools.product([True, False], repeat=8):
        one, two = np.where(kept, a, b), np.where(kept, b, a)
        exact.append(average_precision_score(y, one) - average_precision_score(y, two))
    expected = np.mean(np.abs(exact) >= abs(exact[0]) - 1e-12)
    joined = Statistic.of(auprc, y, a, ranks=True).beside(Statistic.of(auprc, y, b, ranks=True))
    drawn = paired_randomisation_p(joined, np.arange(8), 8000)
    assert drawn == pytest.approx(expected, abs=0.02)
    assert drawn * 8001 == pytest.approx(round(drawn * 8001))


def test_what_has_no_outputs_is_not_exchanged():
    ranked = Statistic.of(auroc, np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="nothing to exchange"):
        Statistic(ranked.compute).beside(ranked)
    with pytest.raises(ValueError, match="nothing to exchange"):
        ranked.beside(Statistic(ranked.compute))


def test_randomisation_does_not_depend_on_its_chunks(monkeypatch):
    rng = np.random.default_rng(5)
    values = rng.normal(size=60)
    values[:30] += 0.3

    def p():
        return paired_randomisation_p(lambda w: w @ values / w.sum(-1), np.arange(30), 200)

    whole = p()
    monkeypatch.setattr("raddino.metrics.comparison.CHUNK_CELLS", 700)
    assert p() == whole


@pytest.mark.parametrize("n", [1, 2, 9, 60])
def test_holm_is_that_of_statsmodels(n):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(n)
    for p in (rng.random(n), rng.random(n) ** 4, rng.random(n).round(1), np.ones(n)):
        np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.02, np.nan, 0.9]), [0.04, np.nan, 0.9])
    assert holm([]).size == 0


def test_randomisation_agrees_with_the_exact_sign_flip_test_of_a_mean():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(0.4, 1, 10), rng.normal(0, 1, 10)
    values = np.concatenate([ours, theirs])

    def mean(weights):
        return weights @ values / weights.sum(-1)

    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = (np.abs(signs @ (ours - theirs)) >= abs((ours - theirs).sum()) - 1e-12).mean()
    assert paired_randomisation_p(mean, np.arange(10), 20000) == pytest.approx(exact, abs=0.01)


def test_randomisation_moves_patients_and_not_images():
    values = np.concatenate([np.ones(40), np.zeros(40)])

    def mean(weights):
        return weights @ values / weights.sum(-1)

    assert paired_randomisation_p(mean, np.arange(40), 500) == pytest.approx(1 / 501)
    assert paired_randomisation_p(mean, np.zeros(40), 500) == 1.0


def test_randomisation_without_a_difference_or_a_value():
    def nothing(weights):
        return np.full(weights.shape[:-1], np.nan)

    assert np.isnan(paired_randomisation_p(nothing, np.arange(4), 50))
    assert paired_randomisation_p(lambda weights: weights.sum(-1), np.arange(4), 50) == 1.0


@pytest.mark.parametrize("together", [True, False])
def test_randomisation_of_what_exists_only_before_or_only_after_an_exchange(together):
    def metric(weights):
        first = weights[..., :30].mean(-1)
        return np.where(np.isin(first, [0, 1]) == together, first, np.nan)

    assert np.isnan(paired_randomisation_p(metric, np.arange(30), 50))


def test_a_thousand_exchanges_by_seed_0_are_the_default():
    x = np.random.default_rng(0).normal(size=30)
    unlike = np.concatenate([x, x - np.abs(x) - 1])
    assert paired_randomisation_p(lambda w: w @ unlike, np.arange(30)) == 1 / 1001
    near = np.concatenate([x, x[::-1] - 0.1])
    by_default, by_seed = (
        paired_randomisation_p(lambda w: w @ near, np.arange(30), *given) for given in ((), (1000, 0))
    )
    assert by_default == by_seed != paired_randomisation_p(lambda w: w @ near, np.arange(30), 1000, 1)


def test_randomisation_is_uniform_where_systems_are_exchangeable():
    rng = np.random.default_rng(0)
    found = []
    for trial in range(200):
        values = rng.normal(size=60)
        found.append(paired_randomisation_p(lambda w, v=values: w @ v / w.sum(-1), np.arange(30), 200, trial))
    assert kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("hits", "others"), [((45, 50), (30, 60)), ((50, 50), (7, 20)), ((0, 30), (1, 40))])
def test_unpaired_differences_of_shares_are_newcombes(hits, others):
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

    sides = [(count / n, proportion_confint(count, n, method="wilson")) for count, n in (hits, others)]
    expected = confint_proportions_2indep(*hits, *others, method="newcomb", compare="diff")
    assert unpaired_interval(*sides[0], *sides[1]) == pytest.approx(expected)


def test_an_unpaired_difference_without_bounds_has_none():
    assert np.isnan(unpaired_interval(0.8, (np.nan, np.nan), 0.7, (0.6, 0.8))).all()
