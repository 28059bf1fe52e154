"""Encoders trained further on labels: what is trained, what is chosen, and that nothing is left of it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from blob_corpus import grey_encoder
from raddino.config import validate
from raddino.encoders.load import load_encoder
from raddino.encoders.network import NetworkEncoder
from raddino.encoders.preparation import Preparation
from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.fine_tuning import tune
from raddino.tasks.fine_tuning.network import LowRank, TunedNetwork, opened, why_not
from raddino.tasks.fine_tuning.settings import FineTuneConfig, parse_fine_tune
from raddino.tasks.fine_tuning.tune import fine_tune, moved
from raddino.tasks.probes.base import Request
from raddino.tasks.probes.linear import LinearConfig

SIDE = 16
METHODS = ["full", "last-1", "lora"]


def settings(method="full", **values) -> FineTuneConfig:
    fast = {"learning_rates": (1e-3,), "steps": 12, "warmup": 2, "evaluate_every": 6, "batch_size": 8}
    return parse_fine_tune(parse_fine_tune(method).model_dump() | fast | values)


def striped(n=60, seed=0):
    """Noise with fine stripes, upright or lying: means and halves tell nothing; and how far apart grey levels lie."""
    rng = np.random.default_rng(seed)
    label, contrast = rng.integers(0, 2, n), rng.uniform(20, 60, n)
    wave = np.where(np.arange(SIDE) % 4 < 2, 1.0, -1.0)
    stripes = np.where(label[:, None, None] == 1, wave[None, :, None], wave[None, None, :])
    images = 128 + contrast[:, None, None] * stripes + rng.normal(0, 10, (n, SIDE, SIDE))
    return images.clip(0, 255).astype(np.uint8), label.astype(float)[:, None], contrast[:, None]


def tuned(encoder, config, images, y, loss="logistic", probe=None, **options):
    rows = np.arange(len(images))
    train, val, test = rows[:30], rows[30:45], rows[45:]
    request = Request(loss, tuple("abc"[: y.shape[1]]), **options)
    return fine_tune(
        encoder,
        config,
        lambda row: images[row],
        (train, y[train]),
        (val, y[val]),
        [test],
        probe or LinearConfig(),
        request,
    )


def convolutional() -> NetworkEncoder:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return NetworkEncoder(
        "conv", network, lambda batch: (network(batch), None), Preparation(SIDE, SIDE, (0.5,), (0.25,)),
        dim=8, grid=None, provenance=grey_encoder().provenance, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_the_encoder_is_left_as_it_was(method):
    images, y, _ = striped()
    encoder = grey_encoder(SIDE)
    batch = encoder.preprocess(list(images[:4]))
    before, state = encoder.encode(batch), {name: one.clone() for name, one in encoder.model.state_dict().items()}
    tuned(encoder, settings(method), images, y)
    after = encoder.encode(batch)
    assert sorted(state) == sorted(encoder.model.state_dict())
    assert all(torch.equal(one, encoder.model.state_dict()[name]) for name, one in state.items())
    assert torch.equal(before.cls, after.cls)
    assert not any(one.requires_grad for one in encoder.model.parameters())


def test_it_is_left_as_it_was_when_training_fails(monkeypatch):
    images, y, _ = striped()
    encoder = convolutional()
    state = {name: one.clone() for name, one in encoder.network.state_dict().items()}
    monkeypatch.setattr(tune, "rate_at", lambda step, plan: 1 / 0 if step == 3 else 1e-2)
    with pytest.raises(ZeroDivisionError):
        tuned(encoder, settings(), images, y)
    assert all(torch.equal(one, encoder.network.state_dict()[name]) for name, one in state.items())


@pytest.mark.parametrize(
    ("method", "trained"),
    [
        ("full", lambda name: True),
        ("last-1", lambda name: name.startswith(("head.", "trunk.blocks.3.", "trunk.norm."))),
        ("last-2", lambda name: name.startswith(("head.", "trunk.blocks.3.", "trunk.blocks.2.", "trunk.norm."))),
        ("lora", lambda name: name.startswith("head.") or name.endswith((".down", ".up"))),
    ],
)
def test_what_is_asked_for_takes_gradients_and_nothing_else(method, trained):
    encoder = grey_encoder(SIDE)
    with opened(encoder, settings(method), seed=0) as trunk:
        network = TunedNetwork(encoder, trunk, "cls", 1, "fp32")
        names = {name: one.requires_grad for name, one in network.named_parameters()}
        network(encoder.preprocess([np.zeros((SIDE, SIDE), np.uint8)])).sum().backward()
    assert names == {name: trained(name) for name in names}
    assert sum(names.values()) < len(names) or method == "full"
    if method == "lora":
        assert sum(name.endswith(".down") for name in names) == 4 * 4


@pytest.mark.parametrize("make", [lambda: grey_encoder(SIDE), convolutional])
def test_labels_that_take_training_are_learned(make):
    images, y, _ = striped(120)
    train, val, test = np.arange(80), np.arange(80, 100), np.arange(100, 120)
    config = settings(
        steps=120, warmup=10, evaluate_every=20, batch_size=16, learning_rates=(1e-5, 3e-3), augment=False
    )
    found = fine_tune(
        make(), config, lambda row: images[row], (train, y[train]), (val, y[val]), [test], LinearConfig(),
        Request("logistic", ("stripes",)),
    )  # fmt: skip
    assert found.val.shape == (1, 20, 1)
    assert roc_auc_score(y[test, 0], found.others[0][0, :, 0]) > 0.95
    assert found.learning_rate == 3e-3
    assert found.step % 20 == 0


def test_the_same_seed_gives_the_same_outputs():
    images, y, _ = striped()
    one, again, other = (tuned(grey_encoder(SIDE), settings(), images, y, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.val, again.val)
    assert np.array_equal(one.others[0], again.others[0])
    assert not np.array_equal(one.val, other.val)


def test_before_training_it_says_how_frequent_labels_are():
    """With a rate of next to nothing the outputs are the log-odds, and the mean of numbers in their own unit."""
    images, y, contrast = striped()
    still = settings(learning_rates=(1e-12,), steps=1, evaluate_every=1)
    share = (y[:30].sum() + 0.5) / 31
    np.testing.assert_allclose(tuned(grey_encoder(SIDE), still, images, y).val, np.log(share / (1 - share)), atol=1e-5)
    found = tuned(grey_encoder(SIDE), still, images, contrast, loss="squared")
    np.testing.assert_allclose(found.others[0], contrast[:30].mean(), rtol=1e-5)
    classes = np.eye(3)[np.arange(60) % 3]
    found = tuned(grey_encoder(SIDE), still, images, classes, loss="softmax")
    assert found.val.shape == (1, 15, 3)
    np.testing.assert_allclose(np.exp(found.val[0]).sum(1), 30.0 / 31 + 1.5 / 31, rtol=1e-4)


def test_low_rank_updates_are_those_of_peft():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(3, 6)
    update = LowRank(layer.weight, rank=2, alpha=4.0)
    nn.init.normal_(update.up)
    theirs = peft.tuners.lora.LoraModel(
        nn.Sequential(nn.Linear(6, 5)), {"default": peft.LoraConfig(r=2, lora_alpha=4, target_modules=["0"])}, "default"
    )
    inner = theirs.model[0]
    with torch.no_grad():
        inner.base_layer.weight.copy_(layer.weight)
        inner.base_layer.bias.copy_(layer.bias)
        inner.lora_A["default"].weight.copy_(update.down)
        inner.lora_B["default"].weight.copy_(update.up)
    torch.testing.assert_close(nn.functional.linear(x, update(layer.weight), layer.bias), theirs.model(x))


def test_training_images_are_changed_within_their_bounds(monkeypatch):
    batch = torch.rand(3, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    changed = moved(batch, np.random.default_rng(0))
    assert changed.shape == batch.shape
    assert not torch.allclose(changed, batch, atol=0.05)
    for name in ("TURN", "SHIFT", "SCALE", "LIGHT"):
        monkeypatch.setattr(tune, name, 0.0)
    torch.testing.assert_close(moved(batch, np.random.default_rng(0)), batch)
    monkeypatch.setattr(tune, "SHIFT", 0.5)
    ones = np.ones((6, 3))
    fixed = type("Fixed", (), {"uniform": lambda self, *_: ones * np.array([[0], [1], [0], [0], [0], [0]])})()
    torch.testing.assert_close(moved(batch, fixed)[..., :10], batch[..., 10:])


@pytest.mark.parametrize(
    ("spec", "method", "features", "reason"),
    [
        ("hog", "full", "cls", "it has no network to train"),
        ("grey", "full", "patches", "the head reads cls, mean_patch or both, the suite's probe reads patches"),
        ("grey", "last-5", "cls", "last 5 blocks: it has 4"),
        ("conv", "lora", "cls", "LoRA 8: its network is no row of blocks; train it in full"),
        ("conv", "full", "both", "the head reads both, but this encoder has no patch tokens"),
        ("grey", "last-4", "both", None),
        ("conv", "full", "cls", None),
    ],
)
def test_what_cannot_be_trained_is_said(spec, method, features, reason):
    encoder = {"grey": lambda: grey_encoder(SIDE), "conv": convolutional}.get(spec, lambda: load_encoder(spec))()
    assert why_not(encoder, parse_fine_tune(method), features) == reason


def test_rates_that_diverge_are_refused():
    images, y, _ = striped()
    with pytest.raises(RaddinoError, match="grey: every learning rate diverged; give lower learning_rates"):
        tuned(grey_encoder(SIDE), settings(learning_rates=(1e30,)), images, y)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("half", "fine_tune takes full, last-2 (any number) or lora, got 'half'"),
        ("last", None),
        ("last-0", "blocks"),
        (7, "fine_tune takes full, last-2, lora, or settings with a method; got 7"),
        ({"method": "full", "step": 3}, "step"),
        ({"method": "full", "learning_rates": []}, "learning_rates"),
    ],
)
def test_settings_that_are_none(value, match):
    if match is None:
        assert parse_fine_tune(value).blocks == 2
        return
    with pytest.raises(ConfigError) as refused:
        parse_fine_tune(value)
    assert match in str(refused.value)
    assert "\n" not in str(refused.value)


def test_words_and_settings_say_the_same():
    assert parse_fine_tune("last-1") == validate(FineTuneConfig, {"method": "last", "blocks": 1})
    assert [parse_fine_tune(word).words for word in ("full", "last-1", "last-3", "lora")] == [
        "fine-tuned", "last block", "last 3 blocks", "LoRA 8",
    ]  # fmt: skip
