"""The corrected resampled t: against the plain one, and whether its intervals hold what they promise."""

import numpy as np
import pytest
from scipy.stats import norm, rankdata, ttest_1samp

from raddino.metrics.folds import corrected_mean


def test_without_a_share_it_is_students_t():
    values = np.random.default_rng(0).normal(0.1, 0.2, (3, 5))
    ours, theirs = corrected_mean(values, 0.0), ttest_1samp(values.ravel(), 0)
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert ours.p == pytest.approx(theirs.pvalue)


def test_repeats_do_not_bring_the_variance_to_zero():
    values = np.random.default_rng(0).normal(0.5, 0.1, (2, 5))
    widths = [np.ptp([one.low, one.high]) for one in (corrected_mean(np.tile(values, (n, 1)), 1 / 3) for n in (1, 500))]
    assert widths[1] > 2 * 1.96 * np.sqrt(1 / 3) * values.std()
    assert widths[1] < widths[0]


def test_ends_of_the_metric_and_folds_that_define_nothing():
    wide = corrected_mean([[0.9, 1.0, 0.6]], 1.0, 0.0, 1.0)
    assert wide.high == 1.0
    lacking = corrected_mean([[0.9, np.nan, 0.6, 0.7]], 0.5)
    assert lacking == corrected_mean([[0.9, 0.6, 0.7]], 0.5)
    assert np.isnan(corrected_mean([[np.nan, np.nan]], 0.5).value)
    assert np.isnan(corrected_mean([[0.7, np.nan]], 0.5).low)
    assert (corrected_mean([[0.0, 0.0]], 0.5).p, corrected_mean([[0.1, 0.1]], 0.5).p) == (1.0, 0.0)


def auroc_of(target, score):
    n = target.sum()
    return (rankdata(score)[target == 1].sum() - n * (n + 1) / 2) / (n * (len(target) - n))


def fitted(x, y):
    centred = x - x.mean(0)
    return np.linalg.solve(centred.T @ centred + np.eye(x.shape[1]), centred.T @ (y - y.mean()))


def test_intervals_cover_what_the_learner_reaches_on_new_patients():
    rng, n, folds, repeats, shift = np.random.default_rng(0), 60, 5, 2, np.r_[0.8, 0.8, np.zeros(4)]
    y = (np.arange(n) < 24).astype(float)
    kept = np.arange(n) % folds < folds - 2  # as many of each class as three folds of five hold

    def draw(target):
        return rng.normal(size=(len(target), len(shift))) + target[:, None] * shift

    weights = [fitted(draw(y[kept]), y[kept]) for _ in range(1500)]
    truth = np.mean([norm.cdf(w @ shift / np.sqrt(2 * w @ w)) for w in weights])
    held = plain = 0
    for _ in range(300):
        x, values = draw(y), np.empty((repeats, folds))
        for repeat in range(repeats):
            fold = np.empty(n, int)
            for label in (0, 1):
                own = np.flatnonzero(y == label)
                fold[rng.permutation(own)] = np.arange(len(own)) % folds
            for tested in range(folds):
                train = ~np.isin(fold, (tested, (tested + 1) % folds))
                w = fitted(x[train], y[train])
                values[repeat, tested] = auroc_of(y[fold == tested], x[fold == tested] @ w)
        one, naive = (corrected_mean(values, share, 0, 1) for share in (1 / (folds - 2), 0))
        held += one.low <= truth <= one.high
        plain += naive.low <= truth <= naive.high
    assert 0.92 * 300 <= held <= 0.99 * 300
    assert plain < 0.85 * 300
