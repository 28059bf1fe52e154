"""``make gpu``: what its rows would run where there is a GPU, as far as that can be told without one."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raddino.config import load_config
from raddino.training.blocks import decided
from raddino.training.pretrain import PretrainConfig

FILE = Path(__file__).parents[2] / "benchmarks/gpu.py"


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_rows", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def settings(command: list[str]) -> list[str]:
    """What a command sets, by one ``--set`` each or by one for all."""
    return [word for word in command if "=" in word and not word.startswith("-")]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_row_has_settings_that_are_taken(gpu, device, tmp_path):
    rows = gpu.checks(device, tmp_path)
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        for command in row.commands:
            files = [Path(word) for word in command if word.endswith(".py")]
            assert all(file.is_file() for file in files), row.name
            if "--preset" in command:
                preset = command[command.index("--preset") + 1]
                decided(load_config(PretrainConfig, preset, settings(command)), torch.device(device))


def test_rows_measure_what_is_compiled_beside_what_is_not(gpu, tmp_path):
    rows = {row.name: [settings(command) for command in row.commands][-1] for row in gpu.checks("cuda", tmp_path)}
    for preset in ("rad-dino-vit-b-518", "dinov2-vit-b"):
        assert "compile=false" in rows[f"step, {preset}"]
        assert "compile=true" in rows[f"step, compiled, {preset}"]
        assert "cuda_graphs=true" in rows[f"step, CUDA graphs, {preset}"]
    assert {"CUDA graphs", "CUDA graphs, activation checkpointing", "varlen_attn for all views"} <= rows.keys()
    assert not [row.name for row in gpu.checks("cpu", tmp_path) if "CUDA" in row.name]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, str(FILE)], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no GPU here: nothing was run")
