"""Nearest neighbours against scikit-learn's, and the choice of k and temperature."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from linear_problems import planted
from raddino.errors import RaddinoError
from raddino.tasks.probes.base import Request
from raddino.tasks.probes.knn import KNNConfig, fit_knn


def fit(splits, loss, **settings):
    return fit_knn(*splits[:2], KNNConfig(**settings), Request(loss))


def weights_of(temperature):
    """Of cosine distances, as scikit-learn asks for them."""
    return lambda distances: np.exp(-(distances - distances.min(1, keepdims=True)) / temperature)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.05), (150, 0.5)])
def test_numbers_are_scikit_learns(k, temperature):
    train, val, (x, _) = planted(150, 10, "squared")
    ours = fit((train, val), "squared", neighbours=(k,), temperatures=(temperature,)).predict(x)[0]
    theirs = KNeighborsRegressor(k, weights=weights_of(temperature), metric="cosine").fit(*train).predict(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.05), (150, 0.5)])
def test_probabilities_are_scikit_learns_with_one_neighbour_of_the_prevalence(k, temperature):
    train, val, (x, _) = planted(150, 10, "logistic")
    ours = expit(fit((train, val), "logistic", neighbours=(k,), temperatures=(temperature,)).predict(x)[0])
    model = KNeighborsClassifier(k, weights=weights_of(temperature), metric="cosine").fit(*train)
    total = weights_of(temperature)(model.kneighbors(x)[0]).sum(1)
    for label, share in enumerate(model.predict_proba(x)):
        prior = (train[1][:, label].sum() + 0.5) / 151
        np.testing.assert_allclose(ours[:, label], (share[:, 1] * total + prior) / (total + 1), atol=1e-4)


def test_classes_vote_like_binary_labels_and_sum_to_one():
    train, val, (x, _) = planted(150, 10, "softmax")
    outputs = fit((train, val), "softmax", neighbours=(9,), temperatures=(0.1,)).predict(x)[0]
    np.testing.assert_allclose(softmax(outputs, 1), np.exp(outputs), atol=1e-9)
    model = KNeighborsClassifier(9, weights=weights_of(0.1), metric="cosine").fit(train[0], train[1].argmax(1))
    assert np.mean(model.predict(x) == outputs.argmax(1)) > 0.97


def test_validation_chooses_for_each_label_by_itself():
    train, val, (x, _) = planted(200, 10, "logistic", val=150)
    config = {"neighbours": (1, 5, 20, 500), "temperatures": (0.05, 0.5)}
    probe = fit((train, val), "logistic", **config)
    for label, chosen in enumerate(probe.chosen):
        one = [(features, y[:, [label]]) for features, y in (train, val)]
        losses = {
            (k, t): log_loss(
                one[1][1], expit(fit(one, "logistic", neighbours=(k,), temperatures=(t,)).predict(val[0])[0])
            )
            for k in config["neighbours"]
            for t in config["temperatures"]
        }
        best = min(losses, key=losses.get)
        assert (chosen["k"], chosen["temperature"]) == (min(best[0], 200), best[1])
        np.testing.assert_allclose(fit(one, "logistic", **config).predict(x)[0, :, 0], probe.predict(x)[0, :, label])
    assert probe.chosen[0]["probe"] == "knn"


@pytest.mark.parametrize("loss", ["logistic", "softmax", "squared"])
def test_degenerate_features_and_sets_stay_finite(loss):
    train, val, (x, _) = planted(30, 5, loss)
    lone = (train[0][:1], train[1][:1])
    constant = [(np.zeros_like(features), y) for features, y in (train, val)]
    for splits, asked in (((lone, val), x), (constant, np.zeros_like(x)), ((train, val), np.zeros_like(x))):
        assert np.isfinite(fit(splits, loss).predict(asked)).all()
    one_class = (train[0], np.zeros_like(train[1])) if loss == "logistic" else train
    assert np.isfinite(fit((one_class, val), loss).predict(x)).all()


def test_bad_input_is_refused():
    train, val, (x, _) = planted(30, 5, "logistic")
    with pytest.raises(RaddinoError, match="NaN"):
        fit(((train[0] * np.nan, train[1]), val), "logistic")
    with pytest.raises(RaddinoError, match="fitted on 5 features"):
        fit((train, val), "logistic").predict(x[:, :3])
