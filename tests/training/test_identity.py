"""A run keeps which weights it started from, and not where they lay."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.training.identity import initial_weights
from raddino.training.pretrain import PretrainConfig, pretrain


def run(corpus, out: Path, values: dict, **options) -> Path:
    return pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", workers=0, **options).parent


@pytest.fixture(scope="module")
def weights(corpus, tiny, tmp_path_factory) -> Path:
    """Encoder of another run, in a person's folder."""
    place = tmp_path_factory.mktemp("zqmeier")
    return run(corpus, place / "run", tiny | {"steps": 1}) / "encoder"


def other(weights: Path, place: Path) -> Path:
    """An encoder with other weights."""
    shutil.copytree(weights, place)
    state = load_file(place / "model.safetensors")
    save_file({name: tensor + 0.01 for name, tensor in state.items()}, place / "model.safetensors")
    about = json.loads((place / "raddino.json").read_text(encoding="utf-8"))
    (place / "raddino.json").write_text(
        json.dumps({k: v for k, v in about.items() if k not in ("sha256", "seal")}), encoding="utf-8"
    )
    return place


def test_a_run_goes_on_wherever_its_initial_weights_were_moved(corpus, tiny, tmp_path, weights):
    begun = tiny | {"init": str(weights), "steps": 2, "schedule": {"length": 8}}
    out = run(corpus, tmp_path / "run", begun)
    moved = shutil.copytree(weights, tmp_path / "moved")
    run(corpus, out, begun | {"init": str(moved)})
    for name in ("config.yaml", "environment.json"):
        assert "zqmeier" not in (out / name).read_text(encoding="utf-8")
        assert "moved" not in (out / name).read_text(encoding="utf-8")
    assert yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))["init"] == "ask"


@pytest.mark.parametrize("init", ["other", None])
def test_a_run_does_not_go_on_from_other_weights(corpus, tiny, tmp_path, weights, init):
    begun = tiny | {"steps": 1}
    out = run(corpus, tmp_path / "run", begun | {"init": str(weights)})
    given = init and str(other(weights, tmp_path / init))
    with pytest.raises(ConfigError, match=r"init: weights \w{16} -> (weights \w{16}|None)"):
        run(corpus, out, begun | {"init": given})


def test_a_run_of_before_goes_on_by_the_place_and_forgets_it(corpus, tiny, tmp_path, weights):
    begun = tiny | {"init": str(weights), "steps": 1}
    out = run(corpus, tmp_path / "run", begun)
    told = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    (out / "environment.json").write_text(json.dumps({k: v for k, v in told.items() if k != "init"}), encoding="utf-8")
    (out / "config.yaml").write_text(yaml.safe_dump(config | {"init": str(weights)}), encoding="utf-8")
    with pytest.raises(ConfigError, match="init: "):
        run(corpus, out, begun | {"init": None})
    run(corpus, out, begun)
    assert "zqmeier" not in (out / "config.yaml").read_text(encoding="utf-8")
    assert json.loads((out / "environment.json").read_text(encoding="utf-8"))["init"] == told["init"]


def test_names_are_kept_and_weights_are_told_apart_by_what_they_hold(tmp_path):
    assert [initial_weights(name) for name in (None, "dinov2-base", "raddino-tiny")] == [
        None, "dinov2-base", "raddino-tiny",
    ]  # fmt: skip
    for number, name in enumerate("aba"):
        file = tmp_path / f"{number}.pth"
        torch.save({"w": torch.tensor([float(ord(name))])}, file)
    said = [initial_weights(f"{prefix}{tmp_path}/{number}.pth") for prefix in ("", "dinov2-base:") for number in "01"]
    assert said[:2] == said[2:]
    assert said[0] != said[1]
