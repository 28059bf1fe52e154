"""Collectives: nothing alone, and sum, maximum and mean over two ranks of gloo."""

import json
import re
import subprocess
import sys
from pathlib import Path

import torch

import raddino
from raddino.dist import all_max, all_mean, all_sum, alone, rank, world_size

ONE_RANK = """
import json, sys
import torch
import torch.distributed as dist
from raddino.dist import all_max, all_mean, all_sum, world_size

store, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
values = [torch.tensor([1.0 + rank, -4.0 * rank]) for _ in range(3)]
found = [collective(value) for collective, value in zip((all_sum, all_max, all_mean), values)]
assert all(a is b for a, b in zip(found, values)), "in place"
print(json.dumps([world_size(), [value.tolist() for value in found]]))
dist.destroy_process_group()
"""


def test_alone_they_change_nothing():
    value = torch.tensor([1.5, -2.0])
    assert world_size() == 1
    for collective in (all_sum, all_max, all_mean):
        assert collective(value) is value
        assert value.tolist() == [1.5, -2.0]


def test_over_two_ranks(tmp_path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_RANK, str(tmp_path / "store"), str(rank)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for rank in range(2)
    ]
    found = [json.loads(rank.communicate(timeout=120)[0]) for rank in ranks]
    assert found == [[2, [[3, -4], [2, 0], [1.5, -2]]]] * 2


def test_alone_meets_nobody_whatever_the_group(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    with alone():
        with alone():
            assert world_size() == 1
        assert rank() == 0
        assert torch.equal(all_sum(torch.ones(2)), torch.ones(2))
    assert world_size() == 3


def test_the_objective_and_the_network_never_ask_whether_there_are_others():
    """What depends on the whole batch goes through collectives, which alone are the identity."""
    rooms = [Path(raddino.__file__).parent / name for name in ("ssl", "vit")]
    files = [file for room in rooms for file in room.glob("**/*.py")]
    assert len(files) > 10
    asked = re.compile(r"\b(torch\.distributed|is_initialized|world_size|WORLD_SIZE|DataParallel|dist\.get_)")
    assert [file.name for file in files if asked.search(file.read_text(encoding="utf-8"))] == []
