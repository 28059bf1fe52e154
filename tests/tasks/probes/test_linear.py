"""The batched linear probe against scikit-learn, and its invariants."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import average_precision_score, log_loss, r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from linear_problems import planted
from raddino.config import validate
from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.probes.base import Request
from raddino.tasks.probes.linear import CURVATURE, LinearConfig, fit_linear_probe, fit_linear_probes, patient_shares

QUICK = LinearConfig(steps=300, seeds=2)


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
    ours = fit_linear_probe(train, val, "logistic", LinearConfig()).predict(x).mean(0)[:, 0]
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
    ours = fit_linear_probe(train, val, "squared", LinearConfig()).predict(x).mean(0)[:, 0]
    scaler = StandardScaler().fit(train[0])
    theirs = RidgeCV(np.logspace(-2, 6, 17)).fit(scaler.transform(train[0]), train[1][:, 0])
    assert r2_score(y[:, 0], ours) > r2_score(y[:, 0], theirs.predict(scaler.transform(x))) - 0.03


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_long_training_reaches_the_exact_penalised_minimum(loss):
    train, val, (x, _) = problem(200, 10, kind="binary" if loss == "logistic" else "number")
    config = LinearConfig(
        learning_rates=(0.3,), weight_decays=(0.1,), seeds=1, steps=4000, batch_size=200, momentum=0.9
    )
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
    assert fit_linear_probe(train, flipped, "logistic", QUICK).chosen[0]["weight_decay"] == max(QUICK.weight_decays)


def test_a_diverging_learning_rate_is_never_chosen():
    train, val, (x, _) = problem(100, 20, kind="number")
    config = LinearConfig(learning_rates=(1e4, 0.01), seeds=2, steps=200)
    probe = fit_linear_probe(train, val, "squared", config)
    assert probe.chosen[0]["learning_rate"] == 0.01
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
        fit_linear_probe(train, val, "squared", LinearConfig(learning_rates=(1e4,), seeds=1, steps=300))


def test_two_images_one_positive_is_enough_to_run():
    x = np.array([[0.0, 1], [1, 0]], np.float32)
    y = np.array([[0.0], [1]])
    probe = fit_linear_probe((x, y), (x, y), "logistic", QUICK)
    assert np.isfinite(probe.predict(x)).all()
    assert probe.predict(x)[0, 1, 0] > probe.predict(x)[0, 0, 0]


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="learning_rates"):
        validate(LinearConfig, {"learning_rate": 1})


def reference_head(x, y, z, loss, rate, decay, seed, config):
    """One probe of all its outputs, alone, in float64 and in the coordinates of the features: logits of ``z``."""
    offset, unit = (y.mean(0), y.std(0)) if loss == "squared" else (0.0, 1.0)
    y = (y - offset) / unit
    scaler = StandardScaler().fit(x.astype(np.float64))
    x, z = (scaler.transform(one.astype(np.float64)) for one in (x, z))
    (n, d), size = x.shape, min(len(x), config.batch_size)
    top = np.linalg.svd(x, compute_uv=False)[0] ** 2
    curvature = {"logistic": 0.25, "softmax": 0.5, "squared": 1.0}[loss] * ((top + (x**2).sum() / size) / n + 1)
    generator = torch.Generator().manual_seed(seed)
    start = 0.01 / d**0.5 * torch.randn(d, 1, generator=generator).numpy().astype(np.float64)
    weight = np.linalg.pinv(x) @ x @ start @ np.ones((1, y.shape[1])) if n < d else start.repeat(y.shape[1], 1)
    prevalence = y.mean(0).clip(1e-3, 1 - 1e-3)
    bias = {"logistic": logit(prevalence), "softmax": np.log(prevalence), "squared": np.zeros(y.shape[1])}[loss]
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(-(-config.steps * size // n))]).numpy()
    velocity, bias_velocity = np.zeros_like(weight), np.zeros_like(bias)
    for step in range(config.steps):
        at = order[step * size : (step + 1) * size]
        output = x[at] @ weight + bias
        output = {"logistic": expit(output), "softmax": softmax(output, 1), "squared": output}[loss]
        residual = (output - y[at]) / size
        velocity = config.momentum * velocity + x[at].T @ residual + decay * curvature * weight
        bias_velocity = config.momentum * bias_velocity + residual.sum(0)
        now = rate / curvature * (1 + np.cos(np.pi * step / config.steps)) / 2
        weight, bias = weight - now * velocity, bias - now * bias_velocity
    return (z @ weight + bias) * unit + offset


@pytest.mark.parametrize("d", [7, 90])
@pytest.mark.parametrize("loss", ["logistic", "softmax", "squared"])
def test_every_head_of_the_batch_is_the_head_trained_alone(loss, d):
    train, val, (x, _) = planted(120, d, loss)
    shares = patient_shares(np.arange(120) // 2, [0.2, 1.0], 2)
    for rate, decay in [(0.05, 0.0), (0.01, 0.1)]:
        config = LinearConfig(learning_rates=(rate,), weight_decays=(decay,), seeds=2, steps=150, batch_size=50)
        for share, probe in zip(shares, fit_linear_probes(train, val, config, Request(loss), shares), strict=True):
            outputs = probe.predict(x)
            for seed in range(2):
                rows = np.flatnonzero(share[seed])
                alone = reference_head(train[0][rows], train[1][rows], x, loss, rate, decay, seed, config)
                np.testing.assert_allclose(outputs[seed], alone, atol=2e-3 * np.ptp(alone))


def test_a_grid_holds_what_its_points_give_one_by_one():
    train, val, (x, _) = planted(100, 8, "logistic")
    grid = LinearConfig(learning_rates=(0.01, 0.1), weight_decays=(0.0, 0.3), seeds=2, steps=100)
    probe = fit_linear_probe(train, val, "logistic", grid)
    for label, chosen in enumerate(probe.chosen):
        losses = {}
        for rate, decay in grid.grid:
            point = grid.model_copy(update={"learning_rates": (rate,), "weight_decays": (decay,)})
            one = fit_linear_probe(train, val, "logistic", point)
            probabilities = expit(one.predict(val[0]))[..., label]
            losses[rate, decay] = np.mean([log_loss(val[1][:, label], p) for p in probabilities])
            if (rate, decay) == (chosen["learning_rate"], chosen["weight_decay"]):
                np.testing.assert_allclose(one.predict(x)[..., label], probe.predict(x)[..., label], atol=1e-4)
        assert min(losses, key=losses.get) == (chosen["learning_rate"], chosen["weight_decay"])


def test_a_fraction_alone_and_beside_others_is_the_same_probe():
    train, val, (x, _) = planted(150, 40, "logistic")
    shares = patient_shares(np.arange(150) // 3, [0.1, 0.4, 1.0], QUICK.seeds)
    beside = fit_linear_probes(train, val, QUICK, Request("logistic"), shares)
    for share, probe in zip(shares, beside, strict=True):
        alone = fit_linear_probes(train, val, QUICK, Request("logistic"), share[None])[0]
        np.testing.assert_array_equal(alone.predict(x), probe.predict(x))
    whole = fit_linear_probe(train, val, "logistic", QUICK)
    np.testing.assert_array_equal(whole.predict(x), beside[-1].predict(x))


def test_fractions_are_nested_whole_patients_and_differ_by_seed():
    patients = np.arange(400) // 2
    shares = patient_shares(patients, [0.1, 0.5, 1.0], 3)
    assert shares.shape == (3, 3, 400)
    assert not (shares[:-1] & ~shares[1:]).any()
    assert shares[2].all()
    assert (shares.reshape(3, 3, 200, 2).std(-1) == 0).all()
    assert (shares[0, 0] != shares[0, 1]).any()


def test_classes_are_told_apart_as_by_multinomial_regression():
    train, val, (x, y) = planted(400, 12, "softmax", t=4, val=300, test=1500)
    ours = fit_linear_probe(train, val, "softmax", LinearConfig(seeds=2)).predict(x).mean(0)
    scaler = StandardScaler().fit(train[0])
    theirs = LogisticRegression(C=0.1, max_iter=500).fit(scaler.transform(train[0]), train[1].argmax(1))
    limit = log_loss(y.argmax(1), theirs.predict_proba(scaler.transform(x))) + 0.02
    assert log_loss(y.argmax(1), softmax(ours, 1)) < limit
    probe = fit_linear_probe(train, val, "softmax", QUICK)
    assert all(chosen == probe.chosen[0] for chosen in probe.chosen)


@pytest.mark.parametrize(("criterion", "metric"), [("auroc", roc_auc_score), ("auprc", average_precision_score)])
def test_the_criterion_chooses(criterion, metric):
    train, val, _ = planted(60, 30, "logistic", t=1)
    config = LinearConfig(seeds=1, steps=100, criterion=criterion)
    values = {}
    for rate, decay in config.grid:
        point = config.model_copy(update={"learning_rates": (rate,), "weight_decays": (decay,)})
        values[rate, decay] = metric(val[1], fit_linear_probe(train, val, "logistic", point).predict(val[0])[0])
    chosen = fit_linear_probe(train, val, "logistic", config).chosen[0]
    assert values[chosen["learning_rate"], chosen["weight_decay"]] == pytest.approx(max(values.values()))
    assert chosen["criterion"] == criterion


def test_a_criterion_that_a_loss_does_not_know_is_not_claimed():
    train, val, _ = planted(60, 5, "squared")
    config = QUICK.model_copy(update={"criterion": "auroc"})
    assert fit_linear_probe(train, val, "squared", config).chosen[0]["criterion"] == "loss"


def test_a_criterion_that_validation_does_not_define_is_an_error():
    train, val, _ = planted(60, 5, "logistic", t=1)
    with pytest.raises(RaddinoError, match="auroc is not defined on validation"):
        fit_linear_probe(train, (val[0], np.zeros_like(val[1])), "logistic", LinearConfig(criterion="auroc", steps=10))


def test_classes_that_some_split_lacks_do_no_harm():
    train, val, (x, _) = planted(80, 6, "softmax", t=4)
    without = [(features[y[:, 3] == 0], y[y[:, 3] == 0]) for features, y in (train, val)]
    for splits in ((without[0], val), (train, without[1])):
        assert np.isfinite(fit_linear_probe(*splits, "softmax", QUICK).predict(x)).all()


@pytest.mark.parametrize("loss", ["logistic", "softmax", "squared"])
def test_one_image_gives_its_own_answer(loss):
    train, val, (x, _) = planted(1, 6, loss)
    outputs = fit_linear_probe(train, val, loss, QUICK).predict(x).mean(0)
    assert np.ptp(outputs, axis=0).max() < 1e-3 * max(1, np.abs(outputs).max())
    if loss == "softmax":
        assert (outputs.argmax(1) == train[1][0].argmax()).all()


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("column", [0, 1])
def test_what_is_not_finite_is_refused(part, column):
    splits = [[array.copy() for array in split] for split in planted(40, 6, "logistic")[:2]]
    splits[part][column][3, 1] = np.nan
    with pytest.raises(RaddinoError, match="target is missing" if column else "hold NaN or infinity"):
        fit_linear_probe(*map(tuple, splits), "logistic", QUICK)


def test_what_cannot_be_a_target_share_or_input_is_refused():
    train, val, (x, _) = planted(40, 6, "logistic")
    with pytest.raises(RaddinoError, match="neither 0 nor 1"):
        fit_linear_probe((train[0], train[1] * 2), val, "logistic", QUICK)
    with pytest.raises(RaddinoError, match="exactly one class"):
        fit_linear_probe((train[0], train[1] * 0), val, "softmax", QUICK)
    with pytest.raises(RaddinoError, match="shares of shape"):
        fit_linear_probes(train, val, QUICK, Request("logistic"), np.zeros((1, 2, 40), bool))
    probe = fit_linear_probe(train, val, "logistic", QUICK)
    with pytest.raises(RaddinoError, match="fitted on 6 features"):
        probe.predict(x[:, :4])
    with pytest.raises(RaddinoError, match="NaN or infinity"):
        probe.predict(x * np.inf)
