"""What a run takes, against numbers by hand and files on the disk."""

import re
from pathlib import Path

import pytest

from raddino.cli import app
from raddino.config import load_config
from raddino.errors import ConfigError, RaddinoError
from raddino.training.cost import step_cost
from raddino.training.hardware import ACCELERATORS, parse_hardware
from raddino.training.plan import plan, plan_text
from raddino.training.pretrain import PretrainConfig, pretrain


@pytest.fixture
def config(tiny) -> PretrainConfig:
    """Of 8 steps of 8 images."""
    return PretrainConfig(**{**tiny, "precision": "auto"})


def test_hours_and_energy_are_those_by_hand(config):
    made = plan(config, hardware="h100x2", images=100, share=0.25)
    cost = step_cost(config.model_copy(update={"precision": "bf16", "compile": True}), 4, gpu=True)
    assert made.cost == cost
    assert (made.steps, made.samples, made.epochs, made.devices) == (8, 64, 0.64, 2)
    assert made.flops == cost.flops * 2 * 8, "two halves of each micro-batch, 8 steps"
    seconds = made.flops / (2 * 989e12 * 0.25)
    assert made.hours == pytest.approx(seconds / 3600)
    assert made.rate == pytest.approx(64 / seconds)
    assert made.energy_kwh == pytest.approx(seconds / 3600 * 1.4)
    assert plan(config, hardware="h100x2", share=0.25, watts=100).energy_kwh == pytest.approx(seconds / 3600 * 0.2)
    assert plan(config, hardware="h100x2").hours == pytest.approx(made.hours * 0.25 / 0.3)


def test_accumulation_changes_the_memory_and_hardly_the_arithmetic(config):
    whole = plan(config, hardware="l4")
    parts = plan(config.model_copy(update={"accumulate": 2}), hardware="l4")
    assert parts.cost.peak_bytes < whole.cost.peak_bytes
    assert parts.flops == pytest.approx(whole.flops, rel=0.1)
    assert parts.samples == whole.samples


@pytest.mark.parametrize(("steps", "keep_every", "left"), [(2, None, 2), (5, 2, 3), (1, None, 1)])
def test_storage_is_what_a_run_leaves(corpus, config, tmp_path, steps, keep_every, left):
    """Checkpoints and one being written; headers and digests of these tiny files aside."""
    short = config.model_copy(
        update={"steps": steps, "checkpoint_every": 1, "keep_every": keep_every, "precision": "fp32"}
    )
    made = plan(short, corpus, device="cpu")
    pretrain(corpus, tmp_path / "run", short, device="cpu", workers=0)
    kept = sum(file.stat().st_size for file in (tmp_path / "run/checkpoints").rglob("*.safetensors"))
    encoders = sum(file.stat().st_size for file in (tmp_path / "run").glob("*/model.safetensors"))
    assert kept == pytest.approx(made.checkpoints * left / (left + 1), rel=0.05)
    assert encoders == pytest.approx(made.encoders, rel=0.1)


def test_a_corpus_says_its_images_and_bytes(corpus, config):
    made = plan(config, corpus.path, hardware="a100")
    rows = corpus.manifest[corpus.manifest["split"] == "train"]
    assert made.images == len(rows) == 32
    assert made.epochs == 2
    assert made.corpus == pytest.approx(rows["length"].sum())
    assert made.read == pytest.approx(made.rate * rows["length"].mean())
    assert made.pixels == pytest.approx(made.rate * (rows["height"] * rows["width"]).mean())
    with pytest.raises(RaddinoError, match="too few for batch_size 64"):
        plan(config.model_copy(update={"batch_size": 64}), corpus, hardware="a100")


def test_this_machine_is_measured(config):
    made = plan(config, device="cpu", watts=50)
    assert made.device == "cpu"
    assert made.devices == 1
    assert 1 < made.rate < 1e5
    assert made.hours == pytest.approx(64 / made.rate / 3600)
    assert made.energy_kwh == pytest.approx(made.hours * 0.05)
    assert re.match(r"measured, 3 steps of 8 random images each in (bf16|fp32)", made.rate_from)
    assert made.images is made.epochs is made.corpus is None


def test_the_full_run_is_about_235_exaflop():
    """35,000 steps of 2,560 images at 518 pixels: the scale that the public checkpoint had."""
    config = load_config(PretrainConfig, "rad-dino-vit-b-518")
    made = plan(config, hardware="h100x8", images=882_775)
    assert made.flops == pytest.approx(235e18, rel=0.05)
    assert made.samples == 35_000 * 2560
    assert made.cost.parameters == pytest.approx(109e6, rel=0.01)
    text = plan_text(made)
    for words in ("89,600,000 samples", "101.5 times", "EFLOP", "30% (assumed, not measured)", "h100", "kWh"):
        assert words in text


def test_what_does_not_fit_is_said_with_what_to_change():
    config = load_config(PretrainConfig, "rad-dino-vit-b-518", ["accumulate=8"])
    made = plan(config, hardware="h100")
    assert "does not fit: a step needs" in plan_text(made)
    assert "activation_checkpointing=true" in made.advice
    assert plan(config, hardware="h100x64").advice == ""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"hardware": "h10"}, "Did you mean 'h100'"),
        ({"hardware": "h100x0"}, "for example h100x8"),
        ({"hardware": ""}, "Known: a100"),
        ({"hardware": "x" * 10**5}, "--hardware takes"),
        ({"hardware": "h100x3"}, "cannot be shared evenly by 3 processes"),
        ({"hardware": "h100", "share": 0.0}, "--share"),
        ({"hardware": "h100", "share": float("nan")}, "--share"),
        ({"share": 0.5}, "--share goes with --hardware"),
        ({"hardware": "h100", "watts": -1.0}, "--watts"),
        ({"hardware": "h100", "images": 7}, "fewer than batch_size"),
        ({"images": 100, "corpus": "somewhere"}, "not both"),
        ({"corpus": "nowhere"}, "no corpus"),
    ],
)
def test_bad_input_is_one_line(config, options, match):
    with pytest.raises(RaddinoError, match=match) as seen:
        plan(config, **options)
    assert "\n" not in str(seen.value)
    assert len(str(seen.value)) < 400


def test_fp32_has_no_table(config):
    with pytest.raises(ConfigError, match="rates of bf16"):
        plan(config.model_copy(update={"precision": "fp32"}), hardware="h100")


def test_hardware_is_a_name_and_a_number():
    assert parse_hardware("h100x8") == ("h100", 8)
    assert parse_hardware(" RTX4090 ") == ("rtx4090", 1)
    assert parse_hardware("a100-40x2") == ("a100-40", 2)
    for name, one in ACCELERATORS.items():
        assert parse_hardware(f"{name}x12") == (name, 12)
        assert 1e13 < one.flops < 1e16
        assert 1e9 < one.memory < 1e12
        assert one.source


def test_the_command_prints_it(capsys):
    app(["plan", "cpu-smoke", "--hardware", "l4", "--images", "1680"], standalone_mode=False)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == [
        "steps", "arithmetic", "network", "memory", "storage", "speed", "loader", "time", "energy",
    ]  # fmt: skip
    assert "22,400 samples, each of 1,680 images 13.3 times" in said[0]


def test_the_page_says_what_the_command_says():
    """Numbers of a version of torch may differ a little."""
    page = (Path(__file__).parents[2] / "docs/plan.md").read_text(encoding="utf-8")
    shown = re.search(r"^```\n(steps.*?)^```", page, re.M | re.S)[1].rstrip()
    config = load_config(PretrainConfig, "rad-dino-vit-b-518")
    said = plan_text(plan(config, hardware="h100x8", images=882_775))
    number = re.compile(r"\d[\d,]*(?:\.\d+)?")
    assert number.sub("#", shown) == number.sub("#", said)
    values = [[float(one.replace(",", "")) for one in number.findall(text)] for text in (shown, said)]
    assert values[0] == pytest.approx(values[1], rel=0.05)
