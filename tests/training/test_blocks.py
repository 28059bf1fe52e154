"""Activation checkpointing changes no bit of a step, compiling no more than rounding."""

import os
import shutil

import pytest
import torch

from raddino.ssl import SelfDistillation, Views
from raddino.training.blocks import compile_blocks, recompute_blocks
from raddino.training.pretrain import PretrainConfig
from raddino.training.schedule import Schedule
from raddino.training.step import compute_gradients


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_the_same_to_the_bit(tiny, precision):
    config = PretrainConfig(**tiny)
    found = []
    for lean in (False, True):
        generator = torch.Generator().manual_seed(1)
        task = SelfDistillation(config.vit, config.ssl).init_weights(generator).train()
        names = list(task.state_dict())
        if lean:
            recompute_blocks(task)
        assert list(task.state_dict()) == names
        masks = torch.rand(8, 16, generator=generator) < 0.3
        crops, local = (torch.randn(n, 1, side, side, generator=generator) for n, side in ((8, 32), (8, 16)))
        views = Views.build(crops, local, masks)
        compute_gradients(task, [views], 1, Schedule(config.schedule, 8)[0], precision, generator)
        found.append([weight.grad for weight in task.student.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("lean", [False, True])
def test_compiled_blocks_compute_the_same_without_a_break(tiny, lean):
    """``fullgraph`` raises at a break; no graph is made after the first step."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    config = PretrainConfig(**tiny)
    found, graphs = [], []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        generator = torch.Generator().manual_seed(1)
        task = SelfDistillation(config.vit, config.ssl).init_weights(generator).train()
        if compiled:
            compile_blocks(task)
            if lean:
                recompute_blocks(task)
        masks = torch.rand(8, 16, generator=generator) < 0.3
        crops, local = (torch.randn(n, 1, side, side, generator=generator) for n, side in ((8, 32), (8, 16)))
        views = Views.build(crops, local, masks)
        for _ in range(2):
            task.zero_grad()
            compute_gradients(task, [views], 1, Schedule(config.schedule, 8)[0], "fp32", generator)
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        found.append([weight.grad for weight in task.student.parameters()])
    assert 0 == graphs[0] < graphs[2] == graphs[3]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
