"""``benchmarks/views.py`` runs and prints a row a way."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "views.py"


def test_views_are_timed(monkeypatch, capsys):
    spec = spec_from_file_location("views_benchmark", BENCHMARK)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["views.py", "--preset", "cpu-smoke", "--count", "2", "--rounds", "1"])
    threads = torch.get_num_threads()
    try:
        module.main()
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[0] for line in lines if re.search(r"images/s and core", line)]
    assert rows == ["ours", "recipe,", "recipe,"]
    assert lines[-1].startswith("masks of 80 views")
