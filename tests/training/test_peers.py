"""``benchmarks/peers.py`` with a stand-in for LightlyTrain: what it is given, and what is timed."""

import ast
import json
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from raddino.config import load_config
from raddino.training.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2]
STAND_IN = '''
import json, time
from torch.utils.data import DataLoader

def pretrain(*, out, data, batch_size, num_workers, strategy, **given):
    """Takes 0.02 s for a batch's data and 0.1 s for its step, far more for the first three steps."""
    given |= {"data": data[:1], "batch_size": batch_size, "num_workers": num_workers}
    with open(TOLD, "w", encoding="utf-8") as file:
        json.dump(given, file)
    print("words on stdout")
    loader = DataLoader(range(10**6), batch_size=batch_size, collate_fn=lambda images: time.sleep(0.02))
    for step, batch in enumerate(loader):
        strategy.batch_to_device(batch, dataloader_idx=0)
        time.sleep(1.0 if step < 2 else 0.1)
'''
STRATEGIES = """
class SingleDeviceStrategy:
    def __init__(self, device):
        self.device = device

    def batch_to_device(self, batch, dataloader_idx):
        return batch
"""


@pytest.fixture(scope="module")
def peers():
    spec = spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(tmp_path) -> Path:
    """An environment in which LightlyTrain is the stand-in."""
    packages, folder = tmp_path / "packages", tmp_path / "environment"
    (packages / "pytorch_lightning").mkdir(parents=True)
    (packages / "lightly_train-0.0.dist-info").mkdir()
    (folder / "bin").mkdir(parents=True)
    for name, text in {
        "lightly_train.py": f"TOLD = {str(tmp_path / 'told.json')!r}\n{STAND_IN}",
        "pytorch_lightning/__init__.py": "",
        "pytorch_lightning/strategies.py": STRATEGIES,
        "lightly_train-0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: lightly-train\nVersion: 0.0\n",
    }.items():
        (packages / name).write_text(text, encoding="utf-8")
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return folder


def measured(peers, monkeypatch, environment, *argv) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", "--environment", str(environment), "--device", "cpu", *argv])
    peers.main()


def test_both_sides_take_turns(peers, corpus, environment, tmp_path, monkeypatch, capsys):
    """One run of both: some seconds, most of them the starts of two processes."""
    answers, real = [], peers.Side.turn
    monkeypatch.setattr(peers.Side, "turn", lambda side, steps: answers.append(real(side, steps)) or answers[-1])
    tiny = ["vit.embed_dim=48", "vit.depth=1", "ssl.head.hidden=16", "views.global_size=28", "views.local_size=14"]
    measured(
        peers, monkeypatch, environment, "--images", str(corpus.path.parent / "sample"), "--size", "48", "--rounds",
        "2", "--steps", "3", "--workers", "0", "--threads", "1", "--precision", "fp32", "--set", "batch_size=4", *tiny,
    )  # fmt: skip
    ours, theirs = answers[::2], answers[1::2]
    for one in theirs:
        assert 0.1 <= one["step"] < 0.3
        assert 0.02 <= one["data"] < one["step"]
        assert one["step_processor"] < 0.1
    for one in ours:
        assert 0 < one["data"] < 1
        assert 0 < one["step"] < 1
        assert one["flops"] > 0
        assert 0.1 < one["gigabytes"] < 4
    *_, first, second, ratio = capsys.readouterr().out.splitlines()
    assert re.match(r"\| raddino \| \S+ \| [\d.]+ \([\d.]+ to [\d.]+\) \| \d+% \| ", first)
    assert re.match(r"\| LightlyTrain 0\.0 \| \S+ \| \d+\.\d+ ", second)
    assert re.match(r"\| ours is faster by \| \| [\d.]+ ", ratio)
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert told["method"] == "dinov2"
    assert told["model"] == "dinov2/vits14-noreg-notpretrained"
    assert told["batch_size"] == 4
    assert told["transform_args"]["image_size"] == [28, 28]


def test_lightly_train_is_given_what_the_config_says(peers):
    values = [
        "views.local_views=3", "views.global_scale=[0.4,0.9]", "views.local_scale=[0.1,0.3]", "views.flip=0.25",
        "views.blur=[0.1,0.2,0.3]", "views.brightness=0.15", "views.masks.ratio=[0.2,0.6]", "ssl.head.prototypes=77",
        "ssl.centering=softmax", "ssl.koleo_weight=0.05", "vit.drop_path=0.15", "batch_size=6", "optim.clip_grad=2.5",
    ]  # fmt: skip
    config = load_config(PretrainConfig, "small-batch", values)
    options = type("Options", (), {"model": "base", "device": "cpu"})
    given = peers.arguments(config, Path("png"), "bf16", 2, options)
    method, views = given["method_args"], given["transform_args"]
    assert given["model"] == "dinov2/vitb14-noreg-notpretrained"
    assert given["model_args"] == {"drop_path_rate": 0.15}
    assert given["precision"] == "bf16-mixed"
    assert (given["batch_size"], given["num_workers"], given["accelerator"]) == (6, 2, "cpu")
    assert set(given["data"]) == {"png"}
    assert (method["output_dim"], method["center_method"], method["koleo_loss_weight"]) == (77, "softmax", 0.05)
    assert (method["mask_ratio_min"], method["mask_ratio_max"], method["gradient_clip_val"]) == (0.2, 0.6, 2.5)
    assert views["random_resize"] == {"min_scale": 0.4, "max_scale": 0.9}
    assert views["local_view"]["random_resize"] == {"min_scale": 0.1, "max_scale": 0.3}
    assert (views["local_view"]["num_views"], views["local_view"]["view_size"]) == (3, [98, 98])
    assert views["color_jitter"]["brightness"] == 0.15
    assert views["random_flip"] == {"horizontal_prob": 0.25}
    blurs = (views, views["global_view_1"], views["local_view"])
    assert [one["gaussian_blur"]["prob"] for one in blurs] == [0.1, 0.2, 0.3]


def test_the_last_words_of_a_side_that_ends_are_shown(peers, environment, corpus, monkeypatch):
    (environment.parent / "packages" / "lightly_train.py").write_text("raise ValueError('broken')", encoding="utf-8")
    command = [str(environment / "bin" / "python"), str(ROOT / "benchmarks" / "peers_lightly.py"), "{}"]
    side = peers.Side(command, {})
    with pytest.raises(SystemExit, match=r"(?s)peers_lightly\.py has ended.*broken"):
        side.answer()
    side.end()


def test_without_an_environment_it_says_how_to_get_one(peers, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        measured(peers, monkeypatch, tmp_path / "none")
    assert "--install" in capsys.readouterr().err


def test_nothing_but_the_script_of_its_own_environment_imports_lightly_train():
    importing = set()
    for file in [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0].startswith("lightly") for name in names):
                importing.add(file.name)
    assert importing == {"peers_lightly.py"}
    assert "lightly" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
