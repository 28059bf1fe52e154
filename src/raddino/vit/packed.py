"""A frozen network for a CPU: weights laid out once for oneDNN, gains folded in, GELU inside the product."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from raddino.vit.block import Mlp
from raddino.vit.linear import Activation, onednn_product
from raddino.vit.model import VisionTransformer

PASS_BYTES = 32 << 20
"""Largest hidden layer of one pass: the C library hands larger blocks back and faults every page in anew."""


class PackedLinear(nn.Module):
    """``activation(gain * layer(x))`` as one product with weights in oneDNN's own layout; no gradients.

    Args:
        layer: with a bias; copied.
        dtype: float32 or bfloat16; the gain is multiplied in before the rounding.
        gain: (out,), or None.
        activation: ``"none"`` or ``"gelu"`` (exact).
    """

    def __init__(
        self, layer: nn.Linear, dtype: torch.dtype, gain: Tensor | None = None, activation: Activation = "none"
    ) -> None:
        super().__init__()
        weight, bias = (layer.weight, layer.bias) if gain is None else (layer.weight * gain[:, None], layer.bias * gain)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), None)
        self.bias, self.activation = bias.detach().to(dtype), activation

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) to (T, out)."""
        return onednn_product(x, self.weight, self.bias, self.activation)


class PackedMlp(nn.Module):
    """:class:`~raddino.vit.block.Mlp` in two products."""

    def __init__(self, mlp: Mlp, dtype: torch.dtype, gain: Tensor) -> None:
        super().__init__()
        self.fc1 = PackedLinear(mlp.fc1, dtype, activation="gelu")
        self.fc2 = PackedLinear(mlp.fc2, dtype, gain)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """(T, D) to (T, D); ``gain`` is folded in already."""
        return self.fc2(self.fc1(x))


def packed(model: VisionTransformer, dtype: torch.dtype) -> VisionTransformer:
    """A copy of ``model`` for inference on a CPU in ``dtype``; equal to it but for rounding."""
    copy = deepcopy(model).eval().requires_grad_(False)
    for block in cast(list[Any], copy.blocks):
        attention, mlp, gain = block.attn, block.mlp, block.ls2.gamma
        attention.qkv = PackedLinear(attention.qkv, dtype)
        attention.proj = PackedLinear(attention.proj, dtype, block.ls1.gamma)
        if isinstance(mlp, Mlp):
            block.mlp = PackedMlp(mlp, dtype, gain)
        else:
            mlp.w12, mlp.w3 = PackedLinear(mlp.w12, dtype), PackedLinear(mlp.w3, dtype, gain)
    return copy.to(dtype)


def images_a_pass(model: VisionTransformer, tokens: int, dtype: torch.dtype) -> int:
    """Images of ``tokens`` tokens each that are worth one pass on a CPU, at least 1."""
    hidden = int(model.config.embed_dim * max(model.config.mlp_ratio, 3))
    return max(1, PASS_BYTES // (tokens * hidden * dtype.itemsize))
