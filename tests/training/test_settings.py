"""What a run is configured with, and each combination that is refused in one line."""

import pytest

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.training.settings import PretrainConfig


def test_defaults_hold():
    config = PretrainConfig()
    assert (config.steps, config.batch_size, config.accumulate, config.seed) == (35_000, 64, 1, 0)
    assert (config.precision, config.init, config.splits, config.where) == ("auto", None, ("train",), None)
    assert (config.fraction, config.checkpoint_every, config.keep_checkpoints) == (1.0, 500, 2)
    assert config.keep_every is None
    assert (config.compile, config.cuda_graphs) == ("auto", False)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 1}, {"steps": 10**7, "schedule": {"length": None}}, {"batch_size": 2}, {"seed": 2**63 - 1},
        {"batch_size": 4, "accumulate": 2}, {"fraction": 1e-6}, {"fraction": 1}, {"checkpoint_every": 1},
        {"keep_checkpoints": 1}, {"splits": ["train", "val"]}, {"steps": 70, "schedule": {"length": 70}},
        {"vit": {"num_register_tokens": 4, "interpolate_antialias": True}}, {"precision": "bf16"},
        {"schedule": {"shape": "constant", "freeze_backbone_steps": 10**7, "backbone_ramp_steps": 10**7}},
        {"views": {"local_views": 0, "local_size": 99}}, {"vit": {"depth": 1000}},
        {"keep_every": 500}, {"keep_every": 1000}, {"checkpoint_every": 7, "keep_every": 21},
        {"compile": True}, {"compile": False}, {"compile": "auto"}, {"cuda_graphs": True},
        {"cuda_graphs": True, "compile": True, "activation_checkpointing": True},
    ],
)  # fmt: skip
def test_limits_themselves_are_allowed(values):
    validate(PretrainConfig, values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps"), ({"steps": 10**7 + 1}, "steps"), ({"batch_size": 1}, "batch_size"),
        ({"batch_size": 2**20 + 2}, "batch_size"), ({"accumulate": 0}, "accumulate"), ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"), ({"fraction": 0}, "fraction"), ({"fraction": 1.01}, "fraction"),
        ({"checkpoint_every": 0}, "checkpoint_every"), ({"keep_checkpoints": 0}, "keep_checkpoints"),
        ({"precision": "fp16"}, "precision"), ({"batch_size": 10, "accumulate": 4}, "accumulate 4 does not divide"),
        ({"schedule": {"shape": "linear"}}, "'cosine' or 'constant'"),
        ({"schedule": {"backbone_ramp_steps": -1}}, "ramp"), ({"schedule": {"backbone_ramp_steps": 10**7 + 1}}, "ramp"),
        ({"schedule": {"freeze_backbone_steps": 10**9}}, "freeze"),
        ({"batch_size": 4, "accumulate": 4}, "at least 2 images"), ({"splits": []}, "at least one split"),
        ({"splits": ["train", "train"]}, "each once"), ({"steps": 71, "schedule": {"length": 70}}, "is shorter than"),
        ({"vit": {"depth": 1001}}, "more than 1000 blocks"), ({"vit": {"in_channels": 3}}, "must be 1"),
        ({"views": {"global_size": 225}}, "view size 225 is no multiple"),
        ({"views": {"local_size": 99}}, "view size 99 is no multiple"),
        ({"vit": {"interpolate_offset": 0.1}}, "interpolate_antialias=false"),
        ({"vit": {"interpolate_antialias": True}}, "interpolate_antialias=false"),
        ({"keep_every": 0}, "keep_every"),
        ({"keep_every": 750}, "keep_every 750 is no multiple of checkpoint_every 500"),
        ({"vit": {"num_register_tokens": 4}}, "interpolate_antialias=true"),
        ({"compile": "never"}, r"'compile'.*'auto', True or False"), ({"compile": 2}, "compile"),
        ({"cuda_graphs": True, "compile": False}, "cuda_graphs needs compile"),
        ({"cuda_graphs": True, "sharding": "fsdp"}, "sharding must be none"), ({"cuda_graphs": "auto"}, "cuda_graphs"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(values, words):
    with pytest.raises(ConfigError, match=words) as refused:
        validate(PretrainConfig, values)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("init", "kept"), [("none", None), (None, None), ("ask", "ask"), ("rad-dino", "rad-dino")])
def test_none_is_a_word_too(init, kept):
    assert validate(PretrainConfig, {"init": init}).init == kept
