"""Filling a network strictly, reading states out of their wrappings, and what is said when it does not work."""

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raddino.encoders.network import check_prompts, fill, optional, read_state
from raddino.errors import RaddinoError


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_every_tensor_is_taken_over():
    state = {name: torch.full_like(tensor, 3) for name, tensor in network().state_dict().items()}
    filled = network()
    fill("net", filled, state)
    for name, tensor in filled.state_dict().items():
        assert torch.equal(tensor, state[name])
    del state["1.num_batches_tracked"]
    fill("net", network(), state)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"0.bias": None}, "0.bias is missing"),
        ({"2.weight": torch.zeros(1)}, "2.weight is not known"),
        ({"0.weight": torch.zeros(3, 4)}, r"0.weight is \(3, 4\), not \(4, 3\)"),
        ({"0.weight": torch.zeros(3, 4), "0.bias": None}, r"0.bias is missing \(and 1 more\)"),
    ],
)
def test_what_does_not_fit_is_named(change, told):
    state = {name: tensor for name, tensor in (network().state_dict() | change).items() if tensor is not None}
    with pytest.raises(RaddinoError, match=f"net: these are the weights of another network: {told}"):
        fill("net", network(), state)


@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_numbers_that_are_not_finite_are_refused(name):
    state = {key: tensor.clone() for key, tensor in network().state_dict().items()}
    state[name].view(-1)[-1] = float("nan")
    with pytest.raises(RaddinoError, match=f"net: {name} holds numbers that are not finite"):
        fill("net", network(), state)


def test_states_are_found_in_wrappings_and_come_in_float32(tmp_path):
    state = {"a": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}
    wrapped = [
        state, {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, {"module": state},
        {"model": {"state_dict": state}}, {"state_dict": state, "optimizer": {"x": [1]}},
    ]  # fmt: skip
    for number, content in enumerate(wrapped):
        file = tmp_path / f"{number}.pt"
        torch.save(content, file)
        found = read_state("net", file)
        assert found.keys() == state.keys()
        assert (found["a"].dtype, found["n"].dtype) == (torch.float32, torch.int64)
    save_file(state, tmp_path / "a.safetensors")
    assert read_state("net", tmp_path / "a.safetensors").keys() == state.keys()


@pytest.mark.parametrize("content", [{}, [torch.ones(2)], torch.ones(2), {"model": {"a": 3}}])
def test_files_without_named_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(RaddinoError, match=r"net: x\.pt holds no named tensors"):
        read_state("net", tmp_path / "x.pt")


def test_a_missing_library_is_one_line():
    assert optional("net", "torch.nn").__name__ == "torch.nn"
    with pytest.raises(RaddinoError, match=r"net needs no_such_library: pip install 'raddino\[baselines\]'"):
        optional("net", "no_such_library.part")


def test_prompts_are_a_list():
    assert check_prompts("net", ("a", "b")) == ["a", "b"]
    for wrong in ("a", []):
        with pytest.raises(RaddinoError, match="list of prompts"):
            check_prompts("net", wrong)
