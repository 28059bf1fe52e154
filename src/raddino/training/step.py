"""One optimiser step: what training repeats and what ``verify`` replays."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from raddino.ssl import SelfDistillation, Views
from raddino.training.optimizer import clip_gradients, set_step
from raddino.training.parallel import ALONE, DataParallel, whole
from raddino.training.schedule import StepValues


@dataclass(frozen=True)
class StepOutcome:
    """What one step left behind, all on the device: nothing here waits for it.

    Attributes:
        terms: scalars ``loss``, ``dino_local``, ``dino_global``, ``koleo``, ``ibot`` and those of options, over all
            ranks.
        grad_norms: scalar per sub-module, before clipping.
        targets, predictions: (2B, K) of this rank's share of the last micro-batch.
    """

    terms: dict[str, Tensor]
    grad_norms: dict[str, Tensor]
    targets: Tensor
    predictions: Tensor


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bfloat16 autocast where ``precision`` is ``"bf16"``."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def compute_gradients(
    task: SelfDistillation,
    micro_batches: Iterable[Views],
    count: int,
    values: StepValues,
    precision: str,
    generator: torch.Generator | None = None,
) -> StepOutcome:
    """Fill the student's gradients with the mean over ``count`` micro-batches, of which one at a time is held.

    Norms are not known yet.
    """
    share = 1 / count
    terms: dict[str, Tensor] = {}
    for views in micro_batches:
        with autocast(views.global_crops.device, precision):
            losses = task(views, values.teacher_temperature, generator, values.step)
        (losses.total * share).backward()
        for name, value in losses.terms().items():
            terms[name] = terms[name] + value * share if name in terms else value * share
        del views
    return StepOutcome(terms, {}, losses.targets, losses.predictions)


def apply_gradients(
    task: SelfDistillation, optimizer: torch.optim.Optimizer, values: StepValues, clip_grad: float
) -> dict[str, Tensor]:
    """Clip, step the student, move teacher and centres, clear the gradients; returns the norms before clipping."""
    norms = clip_gradients(task.student, clip_grad)
    set_step(optimizer, values)
    optimizer.step()
    optimizer.zero_grad()
    task.update_teacher(values.momentum)
    task.update_centers()
    return norms


def train_step(
    task: SelfDistillation,
    optimizer: torch.optim.Optimizer,
    micro_batches: Iterable[Views],
    count: int,
    values: StepValues,
    clip_grad: float,
    precision: str = "fp32",
    generator: torch.Generator | None = None,
    parallel: DataParallel = ALONE,
) -> StepOutcome:
    """One optimiser step over this rank's shares of its micro-batches; schedules, clipping and teacher act once."""
    task.begin_step(values.step)
    outcome = compute_gradients(task, micro_batches, count, values, precision, generator)
    terms = parallel.average(task.student, outcome.terms)
    norms = {part: whole(norm) for part, norm in apply_gradients(task, optimizer, values, clip_grad).items()}
    return StepOutcome(terms, norms, outcome.targets, outcome.predictions)
