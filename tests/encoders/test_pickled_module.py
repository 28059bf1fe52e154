"""Tensors out of pickled modules, in the present and the old format, whatever else is in the file."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raddino.encoders.pickled_module import read_pickled_module
from raddino.errors import RaddinoError

CLASSES = [
    "torch.nn.modules.container.Sequential", "torch.nn.modules.linear.Linear",
    "torch.nn.modules.batchnorm.BatchNorm1d", "torch.nn.modules.activation.ReLU",
]  # fmt: skip
FORMATS = [True, False]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU())
    tied = nn.Linear(4, 4)
    return nn.Sequential(nn.Linear(3, 4), inner, tied, nn.ReLU(), tied)


@pytest.mark.parametrize("new", FORMATS)
def test_the_state_is_that_of_the_module(tmp_path, new):
    file = tmp_path / "module.pt"
    torch.save(network(), file, _use_new_zipfile_serialization=new)
    state, expected = read_pickled_module(file, CLASSES), network().state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor)
        assert not state[name].requires_grad


@pytest.mark.parametrize("new", FORMATS)
def test_a_state_dict_is_none_of_them(tmp_path, new):
    file = tmp_path / "state.pt"
    torch.save(network().state_dict(), file, _use_new_zipfile_serialization=new)
    assert read_pickled_module(file, CLASSES) is None


@pytest.mark.parametrize("new", FORMATS)
def test_other_classes_and_code_are_refused_and_do_not_run(tmp_path, new, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "module.pt"
    torch.save(network(), file, _use_new_zipfile_serialization=new)
    with pytest.raises(RaddinoError, match="refused by the safe loader"):
        read_pickled_module(file, CLASSES[:2])
    harmful = network()
    harmful.extra = Code()
    torch.save(harmful, file, _use_new_zipfile_serialization=new)
    with pytest.raises(RaddinoError, match="refused by the safe loader"):
        read_pickled_module(file, CLASSES)
    file.write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(RaddinoError):
        read_pickled_module(file, CLASSES)
    assert not Path("ran_code").exists()
    with pytest.raises(RaddinoError, match="no weights at"):
        read_pickled_module(tmp_path / "absent.pt", CLASSES)


@pytest.mark.parametrize("new", FORMATS)
def test_damage_anywhere_is_one_kind_of_error(tmp_path, new):
    file = tmp_path / "module.pt"
    torch.save(network(), file, _use_new_zipfile_serialization=new)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for attempt in range(120):
        content = bytearray(whole[: rng.integers(len(whole))] if attempt % 2 else whole)
        for place in rng.integers(0, max(1, len(content)), 3):
            content[place : place + 1] = bytes([rng.integers(256)])
        file.write_bytes(content)
        try:
            read_pickled_module(file, CLASSES)
        except RaddinoError:
            refused += 1
    assert refused >= 60


class Code:
    def __reduce__(self):
        return open, ("ran_code", "w")
