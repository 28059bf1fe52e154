"""Learning rates: warm-up and cosine over the steps, layer decay and undecayed parameters over the network."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.training.optimizer import OptimConfig, multipliers
from raddino.training.schedule import cosine

TRUNK = "trunk."
"""Prefix of the encoder's parameters in a network that fine-tunes it."""
BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers?|resblocks)\.(\d+)\.(.*)")
FIRST = re.compile(r"embed|token|pos_|conv1|patch|pre_?layernorm|pre_layrnorm|ln_pre")


def rate_at(step: int, options: SegmentationConfig) -> float:
    """Learning rate of a step, from 0: linear warm-up, then half a cosine to 0."""
    if step < options.warmup:
        return options.lr * (step + 1) / (options.warmup + 1)
    return float(cosine(options.lr, 0.0, options.steps, min(options.warmup, options.steps))[step])


def learning_groups(network: nn.Module, options: SegmentationConfig) -> list[dict[str, Any]]:
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
