"""Batches and steps as functions of the seed, exact resumption, validation Dice, early stopping, learning rates."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from blob_corpus import EXCLUSIVE, OVERLAPPING, BlobCorpus, grey_encoder
from raddino.config import validate
from raddino.errors import RaddinoError
from raddino.tasks.learning import learning_groups, rate_at
from raddino.tasks.segmentation.feeds import WHOLE, PictureFeed, read_squares
from raddino.tasks.segmentation.network import build_network
from raddino.tasks.segmentation.score import score_case, statistics
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.targets import IGNORE, Targets
from raddino.tasks.segmentation.train import STATE, batch_at, decide, train
from raddino.tasks.segmentation.train import validate as judge

CPU = torch.device("cpu")


def settings(**values):
    plan = {"steps": 12, "evaluate_every": 4, "batch_size": 4, "warmup": 2, "lr": 1e-2}
    return validate(SegmentationConfig, EXCLUSIVE | plan | values)


def start(tmp_path, options, augmented=False):
    """Network, training and validation feeds on the blobs."""
    corpus = BlobCorpus(tmp_path)
    targets = Targets(corpus, "values", options)
    network = build_network(grey_encoder(), options, seed=3, device="cpu")
    rows = [corpus.rows("train"), corpus.rows("val")]
    bits = [read_squares(targets, one, network.side, WHOLE) for one in rows]
    feed = PictureFeed(corpus, rows[0], bits[0], network, augmented=augmented, mirror=targets.mirror)
    return network, feed, PictureFeed(corpus, rows[1], bits[1], network)


def run(tmp_path, options, key="key", augmented=False, notify=lambda progress: None):
    network, feed, check = start(tmp_path, options, augmented)
    progress = train(
        network, feed, check, options, folder=tmp_path, key=key, seed=5, device=CPU, notify=notify
    )  # fmt: skip
    return progress, {name: tensor.clone() for name, tensor in network.state_dict().items()}


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("values", "augmented"),
    [({"head": "upernet", "depths": 4}, True), ({"finetune": True}, False)],
    ids=["augmented", "finetuned"],
)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(tmp_path, values, augmented):
    options = settings(**values)
    whole, expected = run(tmp_path / "whole", options, augmented=augmented)

    def kill(progress):
        if progress.step == 8:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "cut", options, augmented=augmented, notify=kill)
    steps = []
    again, found = run(
        tmp_path / "cut", options, augmented=augmented, notify=lambda progress: steps.append(progress.step)
    )
    assert steps == [12]
    assert again == whole
    assert len(whole.history) == 3
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_a_state_of_another_key_is_started_over_and_a_damaged_one_refused(tmp_path):
    options = settings(steps=4)
    run(tmp_path, options, key="one")
    seen = []
    run(tmp_path, options, key="two", notify=lambda progress: seen.append(progress.step))
    assert seen == [4]
    (tmp_path / STATE).write_bytes(b"nothing")
    with pytest.raises(RaddinoError, match=r"state\.safetensors is damaged"):
        run(tmp_path, options, key="two")


def test_patience_ends_training_and_the_best_weights_are_kept(tmp_path):
    options = settings(steps=100, evaluate_every=1, patience=2, lr=0.5, warmup=0)
    progress, state = run(tmp_path, options)
    dice = [one["dice"] for one in progress.history]
    assert progress.best == max(dice)
    assert progress.best_step == dice.index(max(dice)) + 1 == progress.step - 2
    network, _, check = start(tmp_path, options)
    network.load_state_dict(state)
    assert judge(network, check, options, CPU) == progress.best


def test_a_loss_that_is_not_finite_stops_with_a_word(tmp_path):
    options = settings(steps=4)
    network, feed, check = start(tmp_path, options)
    with torch.no_grad():
        next(network.head.parameters()).fill_(float("nan"))
    with pytest.raises(RaddinoError, match=r"the loss is nan before step 4: lower lr"):
        train(network, feed, check, options, folder=tmp_path, key="key", device=CPU)


@pytest.mark.parametrize("coding", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
def test_validation_dice_is_the_primary_metric_of_the_squares(coding):
    options = validate(SegmentationConfig, coding)
    rng = np.random.default_rng(0)
    bits = rng.choice([0, 1, 2, IGNORE], (5, 9, 9)).astype(np.int32)
    bits[0][bits[0] == 2] = 0
    logits = torch.from_numpy(rng.normal(size=(5, 2 + options.exclusive, 9, 9)).astype(np.float32))
    logits[0, 1 + options.exclusive] = -50

    class Fixed:
        def __len__(self):
            return 5

        def read(self, at, seeds=None):
            return logits[at], torch.from_numpy(bits[at])

        def logits(self, network, batch):
            return batch

    chosen = decide(logits, options.exclusive).numpy()
    predicted = chosen[:, 0].astype(np.int32) | chosen[:, 1].astype(np.int32) << 1
    records = pd.DataFrame([score_case(p, t, ("disc", "bar"), 1.0) for p, t in zip(predicted, bits, strict=True)])
    expected = float(statistics(records)["dice"](None))
    assert judge(nn.Identity(), Fixed(), options, CPU) == pytest.approx(expected, abs=1e-12)


def test_batches_pass_over_all_images_in_shuffled_turns():
    at = np.concatenate([batch_at(10, step, 4, seed=1) for step in range(5)])
    assert sorted(at[:10]) == sorted(at[10:]) == list(range(10))
    assert at[:10].tolist() != at[10:].tolist()
    np.testing.assert_array_equal(batch_at(10, 3, 4, seed=1), at[12:16])
    assert set(batch_at(3, 0, 8, seed=0)) == {0, 1, 2}


def test_rates_rise_and_fall_and_decay_down_the_encoder():
    options = settings(steps=20, warmup=4, lr=1.0, finetune=True, layer_decay=0.5)
    rates = [rate_at(step, options) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[-1] == pytest.approx(0.5 * (1 + np.cos(np.pi * 15 / 16)))
    assert rate_at(2, settings(steps=3, warmup=50)) < 1e-2
    network = build_network(grey_encoder(), options, device="cpu")
    scale = {
        id(parameter): (group["scale"], group["weight_decay"])
        for group in learning_groups(network, options)
        for parameter in group["params"]
    }
    named = {name: scale[id(parameter)] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert named["head.classifier.weight"] == (1.0, 1e-2)
    assert named["head.classifier.bias"] == (1.0, 0.0)
    assert named["trunk.blocks.3.attn.qkv.weight"] == (0.5, 1e-2)
    assert named["trunk.blocks.0.attn.qkv.weight"] == (0.5**4, 1e-2)
    assert named["trunk.patch_embed.proj.weight"][0] == 0.5**5
    frozen = build_network(grey_encoder(), settings(), device="cpu")
    assert {name for name, _ in frozen.named_parameters()} == {f"head.{n}" for n, _ in frozen.head.named_parameters()}
