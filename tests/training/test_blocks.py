"""Activation checkpointing changes no bit of a step."""

import pytest
import torch

from raddino.ssl import SelfDistillation, Views
from raddino.training.pretrain import PretrainConfig
from raddino.training.blocks import recompute_blocks
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
