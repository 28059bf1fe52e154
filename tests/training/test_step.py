"""One step: that it never waits for the device."""

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

from raddino.ssl import SelfDistillation
from raddino.ssl.guides import Guide
from raddino.training.loader import Batch, make_views
from raddino.training.optimizer import build_optimizer
from raddino.training.pretrain import PretrainConfig
from raddino.training.schedule import StepValues
from raddino.training.step import StepOutcome, train_step
from raddino.views import Multicrop, ViewPlan

VALUES = StepValues(**{field.name: 0.1 for field in fields(StepValues)})


def stepper(
    device: torch.device, tiny: dict, centering: str, precision: str, fused: bool | None
) -> Callable[[], StepOutcome]:
    """A function that makes the views of one batch and takes one step on them, with every option on."""
    options = {"kde_weight": 0.1, "gram": {"weight": 1.0, "size": 64}, "guide_ramp_steps": 0}
    xray = {"solarize": 0.5, "rotate": 10.0, "translate": 0.1, "window": 0.3}
    changed = {"ssl": {**tiny["ssl"], "centering": centering, **options}, "views": {**tiny["views"], **xray}}
    config = PretrainConfig(**{**tiny, **changed})
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 40, 48), dtype=torch.uint8, generator=generator)
    plan = ViewPlan.stack([ViewPlan.draw(config.views, 40, 48, 0, position) for position in range(4)])
    masks = torch.rand(8, 16, generator=generator) < 0.3
    batch = Batch(images, plan, masks, torch.ones(4, 2, 2))
    if device.type == "cuda":
        batch = batch.pin_memory()
    guides = (Guide("age", True, 1), Guide("maker", False, 3))
    task = SelfDistillation(config.vit, config.ssl, guides).to(device).train()
    optimizer = build_optimizer(task.student, config.optim)
    for group in optimizer.param_groups:
        group["fused"] = fused

    def step() -> StepOutcome:
        views = make_views(batch, Multicrop(config.views), device, config.ssl.gram.size)
        return train_step(task, optimizer, [views], 1, VALUES, 3.0, precision, generator)

    return step


@pytest.mark.parametrize("centering", ["softmax", "sinkhorn_knopp"])
def test_no_value_of_the_device_is_needed_on_the_host(monkeypatch, tiny, centering):
    """Tensors on ``meta`` have no values: whatever would wait for one on a GPU raises there."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *device: False)  # it does not know meta
    step = stepper(torch.device("meta"), tiny, centering, "fp32", fused=None)
    step()
    outcome = step()
    assert all(term.is_meta for term in outcome.terms.values())
    with pytest.raises(RuntimeError):
        outcome.terms["loss"].item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("centering", ["softmax", "sinkhorn_knopp"])
def test_a_gpu_is_never_waited_for(tiny, centering):
    step = stepper(torch.device("cuda"), tiny, centering, "bf16", fused=True)
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        outcome = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(outcome.terms["loss"])
