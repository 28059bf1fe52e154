"""The batched linear probe against scikit-learn, and its invariants."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from raddino.config import validate
from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.probe import CURVATURE, ProbeConfig, fit_linear_probe

QUICK = ProbeConfig(steps=300, seeds=2)


def problem(n, d, *, kind, seed=0, noise=1.0):
    """Train, val and test (x, y) of a linear truth on features of very different scales and correlations."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * np.exp(-3 * np.arange(d) / d)[:, None]
    latent = rng.normal(size=(2 * n + 2000, d))
    x = (latent @ mixing + rng.normal(size=d) * 5) * np.exp(rng.normal(size=d))
    signal = latent[:, : max(3, d // 20)].sum(1)
    signal = signal / signal.std()
    y = signal + noise * rng.normal(size=len(x))
    y = (rng.random(len(x)) < expit(3 * signal)).astype(float) if kind == "binary" else 50 + 10 * y
    parts = np.split(np.arange(len(x)), [n, 2 * n])
    return [(x[part].astype(np.float32), y[part][:, None]) for part in parts]


@pytest.mark.parametrize(("n", "d"), [(500, 30), (300, 900)])
def test_binary_is_as_good_as_exact_logistic_regression_chosen_on_validation(n, d):
    train, val, (x, y) = problem(n, d, kind="binary")
    ours = fit_linear_probe(train, val, "logistic", ProbeConfig()).predict(x).mean(0)[:, 0]
    scaler = StandardScaler().fit(train[0])
    fits = [
        LogisticRegression(C=c, max_iter=500).fit(scaler.transform(train[0]), train[1][:, 0])
        for c in np.logspace(-5, 1, 7)
    ]
    best = min(fits, key=lambda fit: log_loss(val[1], fit.predict_proba(scaler.transform(val[0]))))
    theirs = best.decision_function(scaler.transform(x))
    assert roc_auc_score(y, ours) > roc_auc_score(y, theirs) - 0.015
    assert log_loss(y, expit(ours)) < log_loss(y, expit(theirs)) + 0.02


@pytest.mark.parametrize(("n", "d"), [(500, 30), (300, 900)])
def test_regression_is_as_good_as_cross_validated_ridge(n, d):
    train, val, (x, y) = problem(n, d, kind="number")
    ours = fit_linear_probe(train, val, "squared", ProbeConfig()).predict(x).mean(0)[:, 0]
    scaler = StandardScaler().fit(train[0])
    theirs = RidgeCV(np.logspace(-2, 6, 17)).fit(scaler.transform(train[0]), train[1][:, 0])
    assert r2_score(y[:, 0], ours) > r2_score(y[:, 0], theirs.predict(scaler.transform(x))) - 0.03


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_long_training_reaches_the_exact_penalised_minimum(loss):
    train, val, (x, _) = problem(200, 10, kind="binary" if loss == "logistic" else "number")
    config = ProbeConfig(learning_rates=(0.3,), weight_decays=(0.1,), seeds=1, steps=4000, batch_size=200, momentum=0.9)
    ours = fit_linear_probe(train, val, loss, config).predict(x)[0, :, 0]
    scaler = StandardScaler().fit(train[0])
    z = scaler.transform(train[0])
    curvature = CURVATURE[loss] * ((np.linalg.norm(z, 2) ** 2 + (z**2).sum() / len(z)) / len(z) + 1)
    penalty = 0.1 * curvature * len(z)
    if loss == "logistic":
        reference = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=1000).fit(z, train[1][:, 0])
        theirs = reference.decision_function(scaler.transform(x))
    else:
        theirs = Ridge(penalty).fit(z, train[1][:, 0]).predict(scaler.transform(x))
    np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.ptp(theirs))


def test_a_label_alone_and_beside_others_is_the_same_probe():
    rng = np.random.default_rng(0)
    train, val, (x, _) = problem(120, 200, kind="binary")
    others = [np.concatenate([y, rng.integers(0, 2, (len(y), 2))], 1) for _, y in (train, val)]
    alone = fit_linear_probe(train, val, "logistic", QUICK)
    beside = fit_linear_probe((train[0], others[0]), (val[0], others[1]), "logistic", QUICK)
    assert beside.chosen[0] == alone.chosen[0]
    np.testing.assert_allclose(beside.predict(x)[..., :1], alone.predict(x), atol=1e-4)


def test_same_seed_same_bits_and_seeds_differ_little():
    train, val, (x, _) = problem(150, 60, kind="binary")
    first, second = (fit_linear_probe(train, val, "logistic", QUICK, seed=1).predict(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (2, 2000, 1)
    assert not np.array_equal(first[0], first[1])
    assert np.corrcoef(first[..., 0])[0, 1] > 0.98


def test_scale_shift_and_useless_columns_do_not_matter():
    train, val, (x, y) = problem(150, 20, kind="number")

    def spoil(features):
        constant = np.full((len(features), 2), 1e4, np.float32)
        return np.concatenate([features * 1e3 + 7, constant], 1)

    plain = fit_linear_probe(train, val, "squared", QUICK).predict(x).mean(0)
    spoiled = fit_linear_probe((spoil(train[0]), train[1]), (spoil(val[0]), val[1]), "squared", QUICK)
    assert np.corrcoef(plain[:, 0], spoiled.predict(spoil(x)).mean(0)[:, 0])[0, 1] > 0.999
    moved = fit_linear_probe((train[0], train[1] * 12 - 500), (val[0], val[1] * 12 - 500), "squared", QUICK)
    np.testing.assert_allclose(moved.predict(x).mean(0), plain * 12 - 500, atol=0.5)
    assert r2_score(y[:, 0], plain[:, 0]) > 0.3


def test_selection_uses_validation_loss():
    train, val, _ = problem(80, 400, kind="binary")
    flipped = (val[0], 1 - val[1])
    assert fit_linear_probe(train, flipped, "logistic", QUICK).chosen[0][1] == max(QUICK.weight_decays)


def test_a_diverging_learning_rate_is_never_chosen():
    train, val, (x, _) = problem(100, 20, kind="number")
    config = ProbeConfig(learning_rates=(1e4, 0.01), seeds=2, steps=200)
    probe = fit_linear_probe(train, val, "squared", config)
    assert probe.chosen[0][0] == 0.01
    assert np.isfinite(probe.predict(x)).all()


@pytest.mark.parametrize("d", [20, 400])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_a_collapsed_encoder_predicts_the_mean(d, loss):
    train, val, (x, _) = problem(100, d, kind="binary" if loss == "logistic" else "number")
    constant = [np.full_like(part, 3.7) for part in (train[0], val[0], x)]
    probe = fit_linear_probe((constant[0], train[1]), (constant[1], val[1]), loss, QUICK)
    outputs = probe.predict(constant[2])
    assert np.ptp(outputs, axis=1).max() == 0
    expected = train[1].mean() if loss == "squared" else np.log(train[1].mean() / (1 - train[1].mean()))
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=0.05)


def test_divergence_everywhere_is_an_error():
    train, val, _ = problem(100, 20, kind="number")
    with pytest.raises(RaddinoError, match="diverged"):
        fit_linear_probe(train, val, "squared", ProbeConfig(learning_rates=(1e4,), seeds=1, steps=300))


def test_two_images_one_positive_is_enough_to_run():
    x = np.array([[0.0, 1], [1, 0]], np.float32)
    y = np.array([[0.0], [1]])
    probe = fit_linear_probe((x, y), (x, y), "logistic", QUICK)
    assert np.isfinite(probe.predict(x)).all()
    assert probe.predict(x)[0, 1, 0] > probe.predict(x)[0, 0, 0]


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="learning_rates"):
        validate(ProbeConfig, {"learning_rate": 1})
