"""Per-step values of learning rate, weight decay, teacher momentum and temperature."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from raddino.config import Config


class ScheduleConfig(Config):
    """DINOv2's schedules, counted in optimiser steps. Defaults are RAD-DINO's at batch 1,024.

    Attributes:
        shape: ``"constant"`` is DINOv3's (arXiv 2508.10104, section 3.2): learning rate after its warm-up, weight decay
            and momentum keep their first values, and the ``_final`` ones are not looked at. What a step uses then does
            not depend on how long the run is.
        length: steps over which the cosines run; None is as many as the run has. Training that stops earlier, at the
            run's ``steps``, has the values of the longer schedule.
        lr: peak learning rate, already scaled for the batch.
        lr_final: learning rate at the end of the schedule.
        warmup_steps: linear rise of the learning rate from 0.
        freeze_last_layer_steps: steps at which the prototypes' learning rate is 0.
        freeze_backbone_steps: steps at which only the heads learn; for a backbone imported without its heads.
        backbone_ramp_steps: steps after those over which the backbone's learning rate rises linearly to the others'.
        weight_decay, weight_decay_final: cosine from one to the other.
        momentum, momentum_final: of the teacher, cosine from one to the other.
        teacher_temperature, teacher_temperature_final: linear from one to the other.
        teacher_temperature_steps: length of that rise.
    """

    shape: Literal["cosine", "constant"] = "cosine"
    length: int | None = Field(None, gt=0, le=10**7)
    lr: float = Field(1e-3, gt=0)
    lr_final: float = Field(1e-6, ge=0)
    warmup_steps: int = Field(0, ge=0, le=10**7)
    freeze_last_layer_steps: int = Field(0, ge=0)
    freeze_backbone_steps: int = Field(0, ge=0, le=10**7)
    backbone_ramp_steps: int = Field(0, ge=0, le=10**7)
    weight_decay: float = Field(0.04, ge=0)
    weight_decay_final: float = Field(0.4, ge=0)
    momentum: float = Field(0.992, ge=0, le=1)
    momentum_final: float = Field(1.0, ge=0, le=1)
    teacher_temperature: float = Field(0.04, gt=0)
    teacher_temperature_final: float = Field(0.07, gt=0)
    teacher_temperature_steps: int = Field(0, ge=0, le=10**7)


@dataclass(frozen=True)
class StepValues:
    """What one optimiser step uses."""

    lr: float
    last_layer_lr: float
    backbone_lr: float
    weight_decay: float
    momentum: float
    teacher_temperature: float
    step: int = 0


class Schedule:
    """All values of a run that stops after ``steps`` steps; index it by step, from 0."""

    def __init__(self, config: ScheduleConfig, steps: int) -> None:
        c, steps = config, config.length or steps

        def curve(start: float, end: float, warmup: int = 0) -> np.ndarray:
            return cosine(start, end if c.shape == "cosine" else start, steps, warmup)

        self.lr = curve(c.lr, c.lr_final, c.warmup_steps)
        self.last_layer_lr = self.lr.copy()
        self.last_layer_lr[: c.freeze_last_layer_steps] = 0
        since = np.arange(1, steps + 1) - c.freeze_backbone_steps
        self.backbone_lr = self.lr * (since / max(c.backbone_ramp_steps, 1)).clip(0, 1)
        self.weight_decay = curve(c.weight_decay, c.weight_decay_final)
        self.momentum = curve(c.momentum, c.momentum_final)
        rise = np.linspace(c.teacher_temperature, c.teacher_temperature_final, c.teacher_temperature_steps)[:steps]
        self.teacher_temperature = np.full(steps, c.teacher_temperature_final)
        self.teacher_temperature[: len(rise)] = rise

    def __getitem__(self, step: int) -> StepValues:
        return StepValues(
            lr=float(self.lr[step]),
            last_layer_lr=float(self.last_layer_lr[step]),
            backbone_lr=float(self.backbone_lr[step]),
            weight_decay=float(self.weight_decay[step]),
            momentum=float(self.momentum[step]),
            teacher_temperature=float(self.teacher_temperature[step]),
            step=step,
        )


def cosine(start: float, end: float, steps: int, warmup: int = 0) -> np.ndarray:
    """(steps,) values: linear from 0 to ``start`` over ``warmup`` steps, then half a cosine towards ``end``.

    Where the two are equal, it keeps to them exactly.
    """
    rest = np.arange(max(steps - warmup, 0)) / max(steps - warmup, 1)
    rise = np.linspace(0, start, warmup)[:steps]
    return np.concatenate([rise, end + 0.5 * (start - end) * (1 + np.cos(np.pi * rest))])
