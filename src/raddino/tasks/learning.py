"""What trainings of heads, and of encoders under them, share: which network, batches, rates over steps and layers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor, nn

from raddino.training.optimizer import OptimConfig, multipliers
from raddino.training.schedule import cosine
from raddino.views.randomness import generator

if TYPE_CHECKING:
    from raddino.encoders.base import Encoder

TRUNK = "trunk."
"""Prefix of the encoder's parameters in a network that fine-tunes it."""
BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers?|resblocks)\.(\d+)\.(.*)")
FIRST = re.compile(r"embed|token|pos_|conv1|patch|pre_?layernorm|pre_layrnorm|ln_pre")


class Learning(Protocol):
    """Settings of a training: steps, of which the first ``warmup`` warm up; AdamW's; the decay from block to block."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def layer_decay(self) -> float: ...


def module_of(encoder: Encoder) -> nn.Module | None:
    """The network of an encoder that can be fine-tuned: one with a ``read`` open to gradients; else None."""
    found = getattr(encoder, "model", getattr(encoder, "network", None))
    return found if isinstance(found, nn.Module) and hasattr(encoder, "read") else None


def batch_at(images: int, step: int, size: int, seed: int) -> np.ndarray:
    """Positions of one batch: shuffled passes over all images, one after the other."""
    places = [divmod(position, images) for position in range(step * size, (step + 1) * size)]
    orders = {epoch: generator(seed, "order", epoch).permutation(images) for epoch, _ in places}
    return np.array([orders[epoch][place] for epoch, place in places])


def rate_at(step: int, options: Learning) -> float:
    """Learning rate of a step, from 0: linear warm-up, then half a cosine to 0."""
    if step < options.warmup:
        return options.lr * (step + 1) / (options.warmup + 1)
    return float(cosine(options.lr, 0.0, options.steps, min(options.warmup, options.steps))[step])


def learning_groups(network: nn.Module, options: Learning) -> list[dict[str, Any]]:
    """Parameter groups of AdamW with ``scale``, the factor on :func:`rate_at`; frozen parameters are left out.

    A fine-tuned encoder's blocks have ``layer_decay`` from each to the one below it, its embeddings count as a block
    below the first and what follows the last as the head, as in :func:`raddino.training.optimizer.multipliers`.
    Biases, norms and LayerScale have no weight decay.
    """
    config = OptimConfig(layer_decay=options.layer_decay, patch_embed_lr=1.0)
    named = [(_plain(name), one) for name, one in network.named_parameters() if one.requires_grad]
    blocks = [int(found[1]) for name, _ in named if (found := re.match(r"backbone\.blocks\.(\d+)\.", name))]
    depth = max(blocks, default=-1) + 1
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in named:
        factors = multipliers(name, depth, config)
        decayed = factors.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factors.lr, decayed * options.weight_decay), []).append(parameter)
    return [{"params": params, "scale": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]


def _plain(name: str) -> str:
    """A parameter's name as DINOv2 would have it, whichever library the encoder is from."""
    if not name.startswith(TRUNK):
        return name
    inner = name.removeprefix(TRUNK)
    if found := BLOCK.search(inner):
        return f"backbone.blocks.{found[1]}.{found[2]}"
    return f"backbone.patch_embed.{inner}" if FIRST.search(inner) else f"backbone.{inner}"
