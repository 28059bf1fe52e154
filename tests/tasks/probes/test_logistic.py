"""Penalised regression to convergence against scikit-learn's coefficients and probabilities."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from linear_problems import planted
from raddino.errors import RaddinoError
from raddino.tasks.probes.base import Request
from raddino.tasks.probes.logistic import LogisticConfig, fit_logistic


def fit(splits, loss, **settings):
    return fit_logistic(*splits[:2], LogisticConfig(**settings), Request(loss, labels=("a", "b", "c")))


def scaled(train, x):
    scaler = StandardScaler().fit(train[0].astype(np.float64))
    return scaler.scale_, *(scaler.transform(one.astype(np.float64)) for one in (train[0], x))


@pytest.mark.parametrize("d", [8, 150])
@pytest.mark.parametrize("c", [1e-4, 0.1, 100.0])
def test_binary_labels_have_scikit_learns_coefficients(d, c):
    train, val, (x, _) = planted(90, d, "logistic")
    probe = fit((train, val), "logistic", c=(c,))
    scale, z, zx = scaled(train, x)
    for label in range(3):
        theirs = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=500).fit(z, train[1][:, label])
        np.testing.assert_allclose(probe.weight[0, :, label] * scale, theirs.coef_[0], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(expit(probe.predict(x)[0, :, label]), theirs.predict_proba(zx)[:, 1], atol=1e-7)


@pytest.mark.parametrize("d", [8, 150])
@pytest.mark.parametrize("c", [1e-3, 10.0])
def test_classes_have_scikit_learns_coefficients(d, c):
    train, val, (x, _) = planted(90, d, "softmax")
    probe = fit((train, val), "softmax", c=(c,))
    scale, z, zx = scaled(train, x)
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(z, train[1].argmax(1))
    np.testing.assert_allclose(probe.weight[0] * scale[:, None], theirs.coef_.T, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(softmax(probe.predict(x)[0], 1), theirs.predict_proba(zx), atol=1e-5)


@pytest.mark.parametrize("d", [8, 150])
@pytest.mark.parametrize("c", [1e-4, 1.0])
def test_numbers_are_scikit_learns_ridge(d, c):
    train, val, (x, _) = planted(90, d, "squared")
    probe = fit((train, val), "squared", c=(c,))
    scale, z, zx = scaled(train, x)
    theirs = Ridge(1 / c).fit(z, train[1])
    np.testing.assert_allclose(probe.weight[0] * scale[:, None], theirs.coef_.T, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(probe.predict(x)[0], theirs.predict(zx), rtol=1e-6)


def test_separable_labels_converge_at_a_weak_penalty():
    x = np.linspace(-1, 1, 40)[:, None]
    y = (x > 0).astype(float)
    probe = fit(((x, y), (x, y)), "logistic", c=(1e6,))
    theirs = LogisticRegression(C=1e6, solver="newton-cholesky", tol=1e-12, max_iter=500).fit(x / x.std(), y[:, 0])
    np.testing.assert_allclose(probe.weight[0, 0] * x.std(), theirs.coef_[0], rtol=1e-5)


def test_validation_chooses_c_for_each_label_and_labels_do_not_touch():
    train, val, (x, _) = planted(80, 60, "logistic")
    probe = fit((train, val), "logistic")
    for label, chosen in enumerate(probe.chosen):
        alone = [(features, y[:, [label]]) for features, y in (train, val)]
        losses = {c: log_loss(val[1][:, label], expit(fit(alone, "logistic", c=(c,)).predict(val[0])[0, :, 0]))
                  for c in LogisticConfig().c}  # fmt: skip
        assert chosen["c"] == min(losses, key=losses.get)
        single = fit(alone, "logistic").predict(x)[0, :, 0]
        np.testing.assert_allclose(probe.predict(x)[0, :, label], single, rtol=1e-5, atol=1e-7)


def test_constant_and_repeated_features_change_nothing():
    train, val, (x, _) = planted(80, 6, "logistic")

    def spoil(features):
        return np.concatenate([features, np.full((len(features), 2), 1e4, np.float32)], 1)

    plain = fit((train, val), "logistic").predict(x)
    spoiled = fit(((spoil(train[0]), train[1]), (spoil(val[0]), val[1])), "logistic").predict(spoil(x))
    np.testing.assert_allclose(plain, spoiled, rtol=1e-5, atol=1e-6)
    flat = [(np.ones_like(features), y) for features, y in (train, val)]
    prevalence = train[1].mean(0)
    np.testing.assert_allclose(expit(fit(flat, "logistic").predict(np.ones_like(x))[0, 0]), prevalence, rtol=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_a_class_that_training_lacks_is_refused_by_name(loss):
    train, val, _ = planted(60, 6, loss)
    kept = train[1][:, 1] == 0
    with pytest.raises(RaddinoError, match="b: all training images are 0"):
        fit(((train[0][kept], train[1][kept]), val), loss)


def test_one_image_is_enough_for_numbers_and_nan_for_nothing():
    train, val, (x, _) = planted(1, 6, "squared")
    np.testing.assert_allclose(fit((train, val), "squared").predict(x)[0, 0], train[1][0])
    with pytest.raises(RaddinoError, match="NaN"):
        fit(((train[0] * np.nan, train[1]), val), "squared")
