"""Ranking metrics against scikit-learn, on ties, weights and degenerate input."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score, roc_curve

from raddino.metrics import ranking


def cases():
    rng = np.random.default_rng(0)
    for n in (2, 5, 40, 300):
        y = rng.integers(0, 2, n)
        y[:2] = 0, 1
        for decimals in (8, 1, 0):  # the fewer decimals, the more ties
            yield y, (rng.normal(size=n) + 0.7 * y).round(decimals)
    yield np.array([0, 1, 1]), np.zeros(3)


@pytest.mark.parametrize(("y", "score"), list(cases()))
def test_equal_to_scikit_learn(y, score):
    assert ranking.auroc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert ranking.auprc(y, score) == pytest.approx(average_precision_score(y, score), abs=1e-12)


@pytest.mark.parametrize(("y", "score"), list(cases()))
def test_equal_to_torchmetrics(y, score):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    target, s = torch.tensor(y), torch.tensor(score, dtype=torch.float64).sigmoid()
    probability = s.numpy()
    assert ranking.auroc(y, probability) == pytest.approx(functional.binary_auroc(s, target).item(), abs=1e-6)
    expected = functional.binary_average_precision(s, target).item()
    assert ranking.auprc(y, probability) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("y", "score"), list(cases()))
def test_equal_to_monai(y, score):
    monai = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    target, s = torch.tensor(y), torch.tensor(score, dtype=torch.float64)
    assert ranking.auroc(y, score) == pytest.approx(monai.compute_roc_auc(s, target), abs=1e-9)


def test_weights_are_repeated_images_in_every_resample_at_once():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 60)
    score = (rng.normal(size=60) + y).round(1)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=25)
    for metric, reference in (
        (ranking.auroc, roc_auc_score),
        (ranking.auprc, average_precision_score),
        (lambda y, s, w=None: ranking.sensitivity(y, s, 0.5, w), lambda y, s: recall_score(y, s >= 0.5)),
        (
            lambda y, s, w=None: ranking.specificity(y, s, 0.5, w),
            lambda y, s: recall_score(y, s >= 0.5, pos_label=0),
        ),
    ):
        values = metric(y, score, weights)
        expected = [reference(np.repeat(y, w), np.repeat(score, w)) for w in weights]
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_only_ranks_count():
    rng = np.random.default_rng(2)
    y, score = rng.integers(0, 2, 50), rng.normal(size=50)
    assert ranking.auroc(y, np.exp(score)) == ranking.auroc(y, score)
    assert ranking.auroc(1 - y, -score) == pytest.approx(ranking.auroc(y, score))
    assert ranking.auroc(y, -score) == pytest.approx(1 - ranking.auroc(y, score))


def test_auprc_is_stepwise_and_not_the_trapezoid():
    y, score = np.array([1, 0, 1, 0, 0]), np.array([5.0, 4, 3, 2, 1])
    assert ranking.auprc(y, score) == pytest.approx((1 + 2 / 3) / 2)


def test_a_missing_class_is_undefined_and_not_zero():
    score = np.array([0.1, 0.4, 0.2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(ranking.auroc(np.ones(3), score))
        assert np.isnan(ranking.auroc(np.zeros(3), score))
        assert np.isnan(ranking.auprc(np.zeros(3), score))
        assert ranking.auprc(np.ones(3), score) == 1
        assert np.isnan(ranking.sensitivity(np.zeros(3), score, 0.0))
        assert np.isnan(ranking.auroc([], []))
    weights = np.array([[1, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(np.isnan(ranking.auroc([0, 1, 0], score, weights)), [True, False])


@pytest.mark.parametrize("level", [0.0, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("decimals", [8, 1])
def test_threshold_is_the_lowest_that_keeps_the_specificity(level, decimals):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 80)
    score = (rng.normal(size=80) + y).round(decimals)
    threshold = ranking.threshold_at_specificity(y, score, level)
    assert ranking.specificity(y, score, threshold) >= level
    false_rate, true_rate, _ = roc_curve(y, score, drop_intermediate=False)
    best = true_rate[false_rate <= 1 - level + 1e-12].max()
    assert ranking.sensitivity(y, score, threshold) == pytest.approx(best)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([0, 1], [0.1], "belong together"),
        ([0, 2], [0.1, 0.2], "0 and 1"),
        ([0, np.nan], [0.1, 0.2], "0 and 1"),
        ([0, 1], [0.1, np.nan], "finite"),
        ([[0, 1]], [[0.1, 0.2]], "belong together"),
    ],
)
def test_bad_input_is_refused(y, score, message):
    with pytest.raises(ValueError, match=message):
        ranking.auroc(y, score)


def test_threshold_without_negatives_is_refused():
    with pytest.raises(ValueError, match="no negatives"):
        ranking.threshold_at_specificity([1, 1], [0.2, 0.3], 0.9)


def test_stratified_is_the_share_of_pairs_within_strata():
    draw = np.random.default_rng(2)
    target, score, strata = draw.integers(0, 2, 40), draw.normal(size=40).round(1), draw.choice(list("abc"), 40)
    won = pairs = 0.0
    for i in np.flatnonzero(target == 1):
        for j in np.flatnonzero((target == 0) & (strata == strata[i])):
            pairs += 1
            won += (score[i] > score[j]) + 0.5 * (score[i] == score[j])
    assert ranking.stratified_auroc(target, score, strata) == pytest.approx(won / pairs)
    counts = draw.integers(0, 3, (5, 40)).astype(float)
    for row, value in zip(counts, ranking.stratified_auroc(target, score, strata, counts), strict=True):
        drawn = np.repeat(np.arange(40), row.astype(int))
        assert value == pytest.approx(float(ranking.stratified_auroc(target[drawn], score[drawn], strata[drawn])))
    assert np.isnan(ranking.stratified_auroc(np.array([0, 1]), np.array([0.1, 0.2]), np.array(["a", "b"])))


def test_one_stratum_is_the_plain_auroc():
    target, score = np.array([0, 1, 1, 0, 1]), np.array([0.2, 0.1, 0.9, 0.3, 0.8])
    assert ranking.stratified_auroc(target, score, np.array(["a"] * 5)) == pytest.approx(roc_auc_score(target, score))


def test_the_threshold_of_a_sensitivity_is_the_highest_that_keeps_it():
    rng = np.random.default_rng(0)
    for level in (0.01, 0.5, 0.9, 0.95, 1):
        y, s = rng.integers(0, 2, 57), rng.integers(0, 20, 57) / 20
        threshold = ranking.threshold_at_sensitivity(y, s, level)
        assert ranking.sensitivity(y, s, threshold) >= level
        above = s[s > threshold]
        assert not len(above) or ranking.sensitivity(y, s, above.min()) < level
    with pytest.raises(ValueError, match="no positives"):
        ranking.threshold_at_sensitivity([0, 0], [0.1, 0.2], 0.9)


def test_predictive_values_are_those_of_the_table():
    y, s = np.array([1, 1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1])
    assert ranking.predictive_value(y, s, 0.7) == pytest.approx(precision_score(y, s >= 0.7))
    assert ranking.predictive_value(y, s, 0.7, positive=False) == pytest.approx(precision_score(1 - y, s < 0.7))
    np.testing.assert_allclose(ranking.predictive_value(y, s, 0.7, [[1, 0, 3, 0, 0, 0], [0, 0, 0, 1, 1, 1]]),
                               [0.25, np.nan])  # fmt: skip
