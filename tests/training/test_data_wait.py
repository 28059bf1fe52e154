"""``benchmarks/data_wait.py`` says what ``metrics.jsonl`` holds."""

import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "data_wait.py"
TINY = ["batch_size=4", "vit.depth=1", "vit.embed_dim=32", "ssl.head.hidden=16", "views.local_views=1"]


@pytest.fixture(scope="module")
def data_wait():
    spec = spec_from_file_location("data_wait", BENCHMARK)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_is_measured(data_wait, corpus, monkeypatch, capsys):
    """The command and its options, once: some seconds, most of them the start of a process."""
    argv = ["data_wait.py", "--preset", "cpu-smoke", "--corpus", str(corpus.path), "--rounds", "1", "--steps", "10"]
    monkeypatch.setattr(sys, "argv", [*argv, "--workers", "1", "--device", "cpu", "--set", *TINY])
    data_wait.main()
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\| workers 1 \| [\d.]+ \([\d.]+ to [\d.]+\) \| \d+\.\d\d% \| [\d.]+ \|", row)


def test_the_shares_are_those_of_the_warm_steps(data_wait, monkeypatch):
    """Ten steps of 32 images at 64 images/s take 5 s; of each 0.5 s, 0.1 s was waited."""

    def trained(command, **_):
        folder = Path(command[command.index("--out") + 1])
        folder.mkdir()
        cold = [{"step": step, "images_per_second": 1.0, "data_wait": 9.0} for step in range(11)]
        warm = [{"step": step, "images_per_second": 64.0, "data_wait": 0.1} for step in range(11, 21)]
        looks = [{"step": 20, "monitor": True, "verdict": "healthy"}]
        lines = "".join(json.dumps(line) + "\n" for line in [*cold, *warm, *looks])
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(data_wait.subprocess, "run", trained)
    options = SimpleNamespace(steps=10, device="cpu", set=[])
    figures = data_wait.run("cpu-smoke", Path("corpus"), Path(), 1, 32, options)
    assert figures.rate == pytest.approx(64.0)
    assert figures.waiting == pytest.approx(0.2)


def test_what_a_run_says_when_it_fails_is_shown(data_wait, monkeypatch):
    failed = subprocess.CompletedProcess([], 2, stderr="error: corpus is no corpus")
    monkeypatch.setattr(data_wait.subprocess, "run", lambda command, **_: failed)
    with pytest.raises(SystemExit, match="is no corpus"):
        data_wait.run("cpu-smoke", Path("corpus"), Path(), 1, 32, SimpleNamespace(steps=10, device="cpu", set=[]))


def test_other_numbers_of_steps_are_refused(data_wait, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["data_wait.py", "--steps", "15"])
    with pytest.raises(SystemExit):
        data_wait.main()
    assert "multiple of 10" in capsys.readouterr().err
