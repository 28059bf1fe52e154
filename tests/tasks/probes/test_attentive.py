"""Attentive pooling finds what a mean over patches cannot hold, and equals a plain autograd training."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score

from raddino.errors import RaddinoError
from raddino.tasks.probes.attentive import AttentiveConfig, fit_attentive
from raddino.tasks.probes.base import Request
from raddino.tasks.probes.linear import LinearConfig, fit_linear_probe

QUICK = AttentiveConfig(seeds=2, steps=150)


def hidden(n, seed, side=4, d=12):
    """Patches of which one carries a mark (feature 0) and +-1 (feature 1); another, unmarked, the opposite sign."""
    rng = np.random.default_rng(seed)
    patches = 0.3 * rng.normal(size=(n, side * side, d))
    patches -= patches.mean(1, keepdims=True)
    y = rng.integers(0, 2, n).astype(float)
    place = rng.permuted(np.tile(np.arange(side * side), (n, 1)), axis=1)
    image = np.arange(n)
    patches[image, place[:, 0], 0] += 4
    patches[image, place[:, 0], 1] += 4 * (y - 0.5)
    patches[image, place[:, 1], 1] -= 4 * (y - 0.5)
    return patches.reshape(n, side, side, d).astype(np.float16), y[:, None]


def test_a_signal_that_the_mean_cancels_is_found():
    train, val, (x, y) = (hidden(n, seed) for seed, n in enumerate((400, 150, 300)))
    probe = fit_attentive(train, val, AttentiveConfig(seeds=2), Request("logistic"))
    means = [(patches.astype(np.float32).mean((1, 2)), labels) for patches, labels in (train, val, (x, y))]
    pooled = fit_linear_probe(*means[:2], "logistic", LinearConfig(seeds=2, steps=300)).predict(means[2][0])
    assert roc_auc_score(y, probe.predict(x).mean(0)) > 0.97
    assert roc_auc_score(y, pooled.mean(0)) < 0.6
    assert probe.chosen[0]["probe"] == "attentive"


def test_gradients_are_those_of_autograd():
    train, val, (x, _) = (hidden(n, seed) for seed, n in enumerate((50, 20, 20)))
    config = AttentiveConfig(learning_rates=(0.01,), weight_decays=(0.1,), seeds=1, steps=25, batch_size=50)
    ours = fit_attentive(train, val, config, Request("logistic", seed=3)).predict(x)[0, :, 0]

    tokens = [torch.from_numpy(one.astype(np.float64)).flatten(1, 2) for one in (train[0], x)]
    mean, scale = tokens[0].mean((0, 1)), tokens[0].std((0, 1), correction=0)
    tokens = [(one - mean) / scale for one in tokens]
    y, d = torch.from_numpy(train[1][:, 0]), tokens[0].shape[2]
    generator = torch.Generator().manual_seed(3000)
    start = (0.1 / d**0.5 * torch.randn(2, d, 1, generator=generator)).double()
    query, weight = (torch.nn.Parameter(one[:, 0].clone()) for one in start)
    bias = torch.nn.Parameter(torch.logit(y.mean()))
    groups = [{"params": [query, weight], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)

    def logits(z):
        return torch.einsum("nl,nld,d->n", (z @ query / d**0.5).softmax(1), z, weight) + bias

    for step in range(25):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (0.5 + 0.5 * np.cos(np.pi * step / 25))
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits(tokens[0]), y).backward()
        optimizer.step()
    np.testing.assert_allclose(ours, logits(tokens[1]).detach().numpy(), atol=1e-3)


def test_labels_and_seeds_stay_apart_and_repeat():
    train, val, (x, _) = (hidden(n, seed) for seed, n in enumerate((80, 40, 30)))
    rng = np.random.default_rng(0)
    wide = [(patches, np.concatenate([y, rng.integers(0, 2, (len(y), 2))], 1)) for patches, y in (train, val)]
    alone, again, beside = (
        fit_attentive(*splits, QUICK, Request("logistic")) for splits in ((train, val), (train, val), wide)
    )
    np.testing.assert_array_equal(alone.predict(x), again.predict(x))
    np.testing.assert_allclose(beside.predict(x)[..., :1], alone.predict(x), atol=2e-3)
    assert alone.predict(x).shape == (2, 30, 1)


def test_numbers_and_classes():
    splits = [hidden(n, seed) for seed, n in enumerate((300, 100, 200))]
    numbers = [(patches, 40 + 10 * y) for patches, y in splits]
    outputs = fit_attentive(*numbers[:2], AttentiveConfig(seeds=1), Request("squared")).predict(splits[2][0])[0]
    assert r2_score(numbers[2][1], outputs) > 0.7
    classes = [(patches, np.concatenate([y, 1 - y], 1)) for patches, y in splits]
    outputs = fit_attentive(*classes[:2], AttentiveConfig(seeds=1), Request("softmax")).predict(splits[2][0])[0]
    assert np.mean(outputs.argmax(1) == 1 - splits[2][1][:, 0]) > 0.9


def test_constant_patches_and_one_image_stay_finite():
    train, val, (x, _) = (hidden(n, seed) for seed, n in enumerate((30, 20, 20)))
    flat = [(np.full_like(patches, 2), y) for patches, y in (train, val)]
    outputs = fit_attentive(*flat, QUICK, Request("logistic")).predict(np.full_like(x, 2))
    assert np.ptp(outputs) < 1e-3
    assert np.isfinite(fit_attentive((train[0][:1], train[1][:1]), val, QUICK, Request("logistic")).predict(x)).all()


def test_bad_input_is_refused():
    train, val, (x, _) = (hidden(n, seed) for seed, n in enumerate((30, 20, 20)))
    with pytest.raises(RaddinoError, match=r"reads patches \(N, H, W, D\)"):
        fit_attentive((train[0][:, 0, 0], train[1]), val, QUICK, Request("logistic"))
    with pytest.raises(RaddinoError, match="NaN"):
        fit_attentive((train[0] * np.nan, train[1]), val, QUICK, Request("logistic"))
    probe = fit_attentive(train, val, QUICK, Request("logistic"))
    with pytest.raises(RaddinoError, match="fitted on patches"):
        probe.predict(x[..., :5])
    with pytest.raises(RaddinoError, match="NaN"):
        probe.predict(x * np.float16("inf"))
