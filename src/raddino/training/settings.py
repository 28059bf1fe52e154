"""Everything that decides what a pre-training run computes, in one strict model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from raddino.config import Config
from raddino.ssl import SslConfig
from raddino.ssl.gradients import CELLS
from raddino.training.monitor import MonitorConfig
from raddino.training.optimizer import OptimConfig
from raddino.training.schedule import ScheduleConfig
from raddino.views import ViewsConfig
from raddino.vit import VitConfig

DEEPEST = 1000
ASK, NONE = "ask", "none"


class PretrainConfig(Config):
    """Everything that decides what a run computes.

    Attributes:
        steps: optimiser steps after which training stops; ``schedule.length`` may be longer.
        batch_size: images per optimiser step.
        accumulate: micro-batches per optimiser step; must divide ``batch_size``. KoLeo, Sinkhorn-Knopp and the masks
            see one micro-batch at a time, so that it is part of what is computed (``docs/pretrain.md``).
        seed: of weights, order, views and masks.
        sharding: ``"fsdp"`` lets each of several processes keep a part of the weights, gradients, moments and teacher;
            with ``"none"`` each has all of them. May change when a run goes on.
        activation_checkpointing: keep the inputs of the student's blocks alone and compute the blocks again in the
            backward pass: less memory, more time, the same results.
        compile: blocks and heads by ``torch.compile``, which takes a minute or more at the start and a C compiler, on
            a CPU a C++ compiler; rounding differs. ``"auto"`` is on a GPU alone, where it is not measured yet: on a CPU
            it does not pay (``docs/performance.md``).
        cuda_graphs: let a GPU replay what is compiled as CUDA graphs: less waiting for the host, more memory.
        precision: ``"auto"`` is bf16 where the processor has it, else fp32.
        init: encoder folder, ``step_N`` folder of a run, Hugging Face Dinov2 folder, official DINOv2 file, or
            ``NAME`` or ``NAME:PLACE`` of an encoder in DINOv2's shape to start from; None or ``"none"`` is random.
            ``"ask"``, of presets that continue from trained weights, trains nothing until another is given.
        splits: of the corpus; images of other splits are never seen.
        where: further condition on the manifest, for example ``"view == 'PA'"``.
        fraction: share of the patients of those images, drawn by hash with ``seed``; 10 % lies inside 25 %.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many of the newest stay.
        keep_every: checkpoints of multiples of so many steps stay for good; None keeps none of them.
    """

    steps: int = Field(35_000, gt=0, le=10**7)
    batch_size: int = Field(64, gt=1, le=2**20)
    accumulate: int = Field(1, gt=0)
    seed: int = Field(0, ge=0, lt=2**63)
    sharding: Literal["none", "fsdp"] = "none"
    activation_checkpointing: bool = False
    compile: Literal["auto", True, False] = "auto"
    cuda_graphs: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    init: str | None = None
    splits: tuple[str, ...] = ("train",)
    where: str | None = None
    fraction: float = Field(1.0, gt=0, le=1)
    checkpoint_every: int = Field(500, gt=0)
    keep_checkpoints: int = Field(2, gt=0)
    keep_every: int | None = Field(None, gt=0)
    vit: VitConfig = VitConfig()
    ssl: SslConfig = SslConfig()
    views: ViewsConfig = ViewsConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    optim: OptimConfig = OptimConfig()
    monitor: MonitorConfig = MonitorConfig()

    @field_validator("init")
    @classmethod
    def _random(cls, init: str | None) -> str | None:
        return None if init == NONE else init

    @model_validator(mode="after")
    def _fits(self) -> PretrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}")
        if self.batch_size // self.accumulate < 2:
            raise ValueError("a micro-batch needs at least 2 images: KoLeo compares them")
        if self.cuda_graphs and (self.compile is False or self.sharding != "none"):
            raise ValueError("cuda_graphs needs compile, and weights that stay in place: sharding must be none")
        if self.keep_every and self.keep_every % self.checkpoint_every:
            raise ValueError(f"keep_every {self.keep_every} is no multiple of checkpoint_every {self.checkpoint_every}")
        sizes = (self.views.global_size, self.views.local_size)
        for size in sizes if self.views.local_views else sizes[:1]:
            if size % self.vit.patch_size:
                raise ValueError(f"view size {size} is no multiple of patch_size {self.vit.patch_size}")
        if self.ssl.gradients.weight and self.vit.patch_size % CELLS:
            raise ValueError(
                f"ssl.gradients asks {CELLS} x {CELLS} cells of a patch: patch_size {self.vit.patch_size} is odd"
            )
        if self.ssl.gram.size and self.ssl.gram.size % self.vit.patch_size:
            raise ValueError(f"ssl.gram.size {self.ssl.gram.size} is no multiple of patch_size {self.vit.patch_size}")
        if self.schedule.length is not None and self.schedule.length < self.steps:
            raise ValueError(
                f"schedule.length {self.schedule.length} is shorter than steps {self.steps}: give null to end there"
            )
        if self.vit.depth > DEEPEST:
            raise ValueError(f"vit.depth {self.vit.depth} is more than {DEEPEST} blocks")
        if self.vit.in_channels != 1:
            raise ValueError("pre-training is on grey images: vit.in_channels must be 1")
        if not self.splits or len(set(self.splits)) < len(self.splits):
            raise ValueError("splits must name at least one split, each once")
        registers = self.vit.num_register_tokens > 0
        if self.vit.interpolate_offset or self.vit.interpolate_antialias != registers:
            raise ValueError(
                "Transformers interpolates positions by size, antialiased only with registers, and the encoder is to "
                f"load there: set vit.interpolate_offset=0 and vit.interpolate_antialias={str(registers).lower()}"
            )
        return self
