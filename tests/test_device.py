"""Which device a word means, with and without a GPU."""

import os

import pytest
import torch

from raddino.cores import usable_cores
from raddino.device import resolve_device
from raddino.errors import ConfigError


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(monkeypatch, gpu, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert resolve_device("auto") == torch.device(device)


def test_a_named_device_is_itself():
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta"])
def test_a_device_that_is_not_here_is_one_line(name):
    with pytest.raises(ConfigError, match=f"there is no device '{name}' here: use cpu"):
        resolve_device(name)


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0: {1, 4, 5}}[process])
        assert usable_cores() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
    for count, usable in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores() == usable
