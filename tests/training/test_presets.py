"""Every preset holds; their networks have the published sizes, and what they train loads in Transformers."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, Dinov2Config, Dinov2Model

from raddino.config import load_config, preset_names, validate
from raddino.encoders.export import export
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import VitEncoder
from raddino.errors import ConfigError
from raddino.training.pretrain import PretrainConfig, pretrain
from raddino.training.schedule import Schedule
from raddino.vit import VisionTransformer
from raddino.vit.embedding import position_embedding

GIANT = ["vit.embed_dim=1536", "vit.depth=40", "vit.num_heads=24"]
"""What makes ViT-g of the ViT-L recipe."""
SHAPES = {
    "dinov2-vit-s": (384, 12, 6, False), "dinov2-vit-b": (768, 12, 12, False), "dinov2-vit-l": (1024, 24, 16, True),
    "dinov2-vit-g": (1536, 40, 24, True),
}  # fmt: skip


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_holds_and_has_a_schedule_as_long_as_it_is(name):
    config = load_config(PretrainConfig, name)
    schedule = Schedule(config.schedule, config.steps)
    c = config.schedule
    assert max(c.warmup_steps, c.teacher_temperature_steps) < (c.length or config.steps)
    assert c.freeze_backbone_steps + c.backbone_ramp_steps < config.steps
    assert schedule[config.steps - 1].backbone_lr > 0
    micro = config.batch_size // config.accumulate
    assert micro >= (40 if name.startswith("rad-dino") else 16), "KoLeo compares them; RAD-DINO's saw 40 on a GPU"


@pytest.mark.parametrize("name", SHAPES)
def test_networks_have_as_many_weights_as_transformers_gives_theirs(name):
    width, depth, heads, gated = SHAPES[name]
    preset, overrides = ("dinov2-vit-l", GIANT) if name.endswith("g") else (name, [])
    vit = load_config(PretrainConfig, preset, overrides).vit
    shape = Dinov2Config(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads, use_swiglu_ffn=gated,
        image_size=224, patch_size=14, num_channels=1,
    )  # fmt: skip
    with torch.device("meta"):
        ours, theirs = VisionTransformer(vit), Dinov2Model(shape)
    assert vit.num_heads == heads
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_the_large_recipe_is_scaled_as_published():
    """vitl14.yaml: epochs of 1,250 steps, base rate 2e-4 at batch 1,024 with the square root of the batch."""
    config = load_config(PretrainConfig, "dinov2-vit-l")
    schedule = config.schedule
    assert config.batch_size == 96 * 32
    assert schedule.lr == pytest.approx(2e-4 * math.sqrt(config.batch_size / 1024), rel=1e-4)
    lengths = (config.steps, schedule.warmup_steps, schedule.teacher_temperature_steps)
    assert [steps / 1250 for steps in lengths] == [500, 80, 30]
    assert schedule.freeze_last_layer_steps == 1250


SMALL = {
    "steps": 2, "batch_size": 4, "precision": "fp32", "monitor": {"images": 16, "every": 1},
    "ssl": {"head": {"prototypes": 16, "hidden": 16, "bottleneck": 8}},
    "views": {"global_size": 28, "local_size": 14, "local_views": 1}, "schedule": {"lr": 1e-2},
}  # fmt: skip
VIT = {"embed_dim": 64, "depth": 2, "num_heads": 1, "patch_size": 14, "image_size": 28, "layerscale_init": 0.5}


def small(registers: int = 0, ffn: str = "mlp", **values) -> PretrainConfig:
    vit = VIT | {"num_register_tokens": registers, "interpolate_antialias": registers > 0, "ffn": ffn}
    return validate(PretrainConfig, SMALL | {"vit": vit} | values)


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A run of two steps with registers, one with the gated layers of ViT-g, and one with both."""
    root = tmp_path_factory.mktemp("runs")
    for registers, ffn in ((4, "mlp"), (0, "swiglu"), (4, "swiglu")):
        pretrain(corpus, root / f"{registers}-{ffn}", small(registers, ffn), device="cpu", workers=0)
    return root


@pytest.mark.parametrize(("registers", "ffn"), [(4, "mlp"), (0, "swiglu"), (4, "swiglu")])
def test_what_is_trained_loads_in_transformers(runs, tmp_path, registers, ffn):
    run = runs / f"{registers}-{ffn}"
    export(run / "encoder", tmp_path / "exported", "huggingface")
    encoder = VitEncoder.load(run / "encoder", "cpu")
    assert not torch.equal(encoder.model.blocks[1].attn.qkv.weight, _initial(run).blocks[1].attn.qkv.weight)
    for place in (run / "encoder", tmp_path / "exported"):
        theirs = AutoModel.from_pretrained(place).eval()
        assert theirs.config.use_swiglu_ffn == (ffn == "swiglu")
        assert getattr(theirs.config, "num_register_tokens", 0) == registers
        for size in (28, 42, 14):
            grey = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(size))
            with torch.no_grad():
                tokens, own = theirs(grey.expand(-1, 3, -1, -1)).last_hidden_state, encoder.model(grey)
            torch.testing.assert_close(tokens[:, 0], own.cls, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(tokens[:, 1 + registers :], own.patches, rtol=1e-4, atol=1e-4)


def _initial(run):
    return VitEncoder.load(run / "initial", "cpu").model


HIGH_RES = [
    "steps=3", "batch_size=4", "accumulate=1", "precision=fp32", "monitor.images=16", "vit.image_size=42",
    "ssl.head={prototypes: 16, hidden: 16, bottleneck: 8}", "views.global_size=42", "views.local_size=14",
    "schedule.warmup_steps=0", "schedule.freeze_backbone_steps=1", "schedule.backbone_ramp_steps=2",
]  # fmt: skip


def go_on(corpus, init, folder, overrides=()):
    """A high-res run from ``init`` in ``folder``."""
    config = load_config(PretrainConfig, "high-res", [*HIGH_RES, f"init={init}", *overrides])
    pretrain(corpus, folder / "run", config, device="cpu", workers=0)


def test_high_res_asks_for_a_run():
    assert load_config(PretrainConfig, "high-res").init == "ask"


@pytest.mark.parametrize("start", ["encoder", "checkpoints/step_2"])
def test_high_res_goes_on_from_a_run_with_interpolated_positions(runs, corpus, tmp_path, start):
    """The network of the run, registers and gates too, though the preset names neither."""
    run = runs / "4-swiglu"
    go_on(corpus, run / start, tmp_path)
    before, after = (load_file(place / "model.safetensors") for place in (run / "encoder", tmp_path / "run/initial"))
    positions = "embeddings.position_embeddings"
    expected = position_embedding(before[positions], (3, 3), antialias=True)
    torch.testing.assert_close(after[positions], expected, rtol=0, atol=1e-6)
    for name in before.keys() - {positions}:
        torch.testing.assert_close(after[name], before[name], rtol=1e-5, atol=1e-5)
    trained = load_encoder(str(tmp_path / "run/encoder"), "cpu")
    assert (trained.size, trained.model.config.num_register_tokens, trained.model.config.ffn) == (42, 4, "swiglu")
    assert trained.provenance.sources == ["synthetic"]
    theirs = AutoModel.from_pretrained(tmp_path / "run/encoder").eval()
    grey = torch.randn(1, 1, 56, 56)
    with torch.no_grad():
        tokens, own = theirs(grey.expand(-1, 3, -1, -1)).last_hidden_state, trained.model(grey)
    torch.testing.assert_close(tokens[:, 0], own.cls, rtol=1e-4, atol=1e-4)


def test_high_res_refuses_what_does_not_fit_in_one_line(runs, corpus, tmp_path):
    for overrides, words in (
        (["vit.image_size=40"], "image_size 40 is no multiple of patch_size 14"),
        (["vit.patch_size=7"], r"init has vit\.patch_size=14, the config says 7"),
        (
            ["vit.num_register_tokens=2", "vit.interpolate_antialias=true"],
            r"vit\.num_register_tokens=4, the config says 2",
        ),
    ):
        with pytest.raises(ConfigError, match=words) as refused:
            go_on(corpus, runs / "4-swiglu/encoder", tmp_path, overrides)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_high_res_refuses_another_patch_size(corpus, tmp_path):
    """Sizes are multiples of 14 where the config says nothing; the run that is gone on from has patches of 16."""
    vit = VIT | {"patch_size": 16, "image_size": 32}
    values = SMALL | {"vit": vit, "views": {"global_size": 32, "local_size": 16, "local_views": 1}, "steps": 1}
    pretrain(corpus, tmp_path / "first", validate(PretrainConfig, values), device="cpu", workers=0)
    with pytest.raises(ConfigError, match="42 is no multiple of patch_size 16"):
        go_on(corpus, tmp_path / "first/encoder", tmp_path)
