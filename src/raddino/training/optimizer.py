"""AdamW over the student with DINOv2's multipliers per parameter, set anew at every step."""

import math
import re
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from raddino.config import Config
from raddino.ssl import Network
from raddino.training.schedule import StepValues

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Config):
    """AdamW as DINOv2 uses it.

    Attributes:
        betas: of AdamW.
        layer_decay: factor of the learning rate per layer, counted down from the output.
        patch_embed_lr: further factor for the patch embedding.
        guide_lr: factor for the heads of guides: one that the backbone outruns is misled, not left without a clue.
        clip_grad: largest gradient norm, of the backbone and of each head apart; 0 is no limit.
    """

    betas: tuple[Share, Share] = (0.9, 0.999)
    layer_decay: float = Field(0.9, gt=0, le=1)
    patch_embed_lr: float = Field(0.2, ge=0)
    guide_lr: float = Field(10.0, ge=0)
    clip_grad: float = Field(3.0, ge=0)


@dataclass(frozen=True)
class Multipliers:
    """What a parameter's learning rate and weight decay are multiplied with, and which schedule it follows."""

    lr: float
    weight_decay: float
    last_layer: bool
    backbone: bool


def multipliers(name: str, depth: int, config: OptimConfig) -> Multipliers:
    """Multipliers of a student parameter by its name, for example ``backbone.blocks.0.attn.qkv.weight``.

    Class, position, mask and register tokens and the patch embedding are layer 0, block i is layer i + 1, the
    final norm and the heads are not decayed. Biases, norms and LayerScale have no weight decay.
    """
    layer = depth + 1
    if block := re.match(r"backbone\.blocks\.(\d+)\.", name):
        layer = int(block[1]) + 1
    elif re.match(r"backbone\.(cls_token|pos_embed|mask_token|register_tokens|patch_embed)", name):
        layer = 0
    lr = config.layer_decay ** (depth + 1 - layer)
    if "patch_embed" in name:
        lr *= config.patch_embed_lr
    undecayed = name.endswith(".bias") or "norm" in name or "gamma" in name
    if name.startswith("guides."):  # the rest is a column's name
        lr, undecayed = lr * config.guide_lr, name.endswith(".bias")
    return Multipliers(lr, 0.0 if undecayed else 1.0, "last_layer" in name, name.startswith("backbone."))


def build_optimizer(student: Network, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with one group per distinct :class:`Multipliers`, kept in the group under ``"multipliers"``."""
    depth = len(student.backbone.blocks)
    groups: dict[Multipliers, list[Tensor]] = {}
    for name, parameter in student.named_parameters():
        groups.setdefault(multipliers(name, depth, config), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "multipliers": key} for key, params in groups.items()],
        lr=0.0,
        betas=config.betas,
        fused=True,
    )


def set_step(optimizer: torch.optim.Optimizer, values: StepValues) -> None:
    """Write one step's learning rate and weight decay into every group."""
    for group in optimizer.param_groups:
        m: Multipliers = group["multipliers"]
        lr = values.last_layer_lr if m.last_layer else values.backbone_lr if m.backbone else values.lr
        group["lr"] = lr * m.lr
        group["weight_decay"] = values.weight_decay * m.weight_decay


def clip_gradients(student: Network, largest: float) -> dict[str, Tensor]:
    """Clip each part of the student apart; returns the norms before, by part, as scalars on the device."""
    limit = largest or math.inf
    return {part: nn.utils.clip_grad_norm_(module.parameters(), limit) for part, module in student.named_children()}
