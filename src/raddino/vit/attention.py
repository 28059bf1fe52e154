"""Self-attention over a list of token groups: one matrix product for all, attention per group."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

Shapes = list[tuple[int, int]]
"""``(B, N)`` of each group of sequences whose tokens lie one after another in a ``(sum of B x N, D)`` tensor."""

SHORT = 512
"""Tokens up to which explicit bfloat16 products beat the fused kernel on a CPU (``benchmarks/attention.py``)."""

SLAB = 1 << 21
"""Attention scores computed at once without gradients: 4 MiB in bfloat16 stay in a CPU's cache."""


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(query key^T / sqrt(d)) value`` for (B, heads, N, d), by whichever way is faster here."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or torch.compiler.is_compiling():
        return scaled_dot_product_attention(query, key, value)
    if torch.is_grad_enabled() and query.shape[-2] > SHORT:
        return scaled_dot_product_attention(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return _explicit(query, key, value) if torch.is_grad_enabled() else _in_slabs(query, key, value)


def _explicit(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1) @ value


def _in_slabs(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """:func:`_explicit` for a few heads at a time, so that no score leaves the cache."""
    heads = [part.flatten(0, 1) for part in (query, key, value)]
    mixed = torch.empty_like(heads[2], memory_format=torch.contiguous_format)
    size = max(1, SLAB // query.shape[-2] ** 2)
    for *parts, out in zip(*(part.split(size) for part in (*heads, mixed)), strict=True):
        out.copy_(_explicit(*parts))
    return mixed.unflatten(0, query.shape[:2])


def scaled_linear(x: Tensor, layer: nn.Module, gain: Tensor) -> Tensor:
    """``gain * layer(x)`` with the gain (D,) put into the weights, which are smaller than the tokens.

    A layer other than ``nn.Linear`` holds its gain already (:mod:`raddino.vit.packed`).
    """
    if not isinstance(layer, nn.Linear):
        return layer(x)
    return linear(x, layer.weight * gain[:, None], layer.bias * gain)


class Attention(nn.Module):
    """Multi-head self-attention; parameter names are DINOv2's (``qkv``, ``proj``)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, shapes: Shapes, gain: Tensor) -> Tensor:
        """(T, D) to (T, D) times ``gain`` (D,); every sequence of every group attends to itself only."""
        groups = self.qkv(tokens).split([b * n for b, n in shapes])
        mixed = [self._attend(group, *shape) for group, shape in zip(groups, shapes, strict=True)]
        return scaled_linear(torch.cat(mixed) if len(mixed) > 1 else mixed[0], self.proj, gain)

    def weights(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """Attention probabilities (B, heads, N, N) of one group, for pictures."""
        query, key, _ = self._heads(self.qkv(tokens), *shape)
        return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)

    def _heads(self, qkv: Tensor, batch: int, length: int) -> tuple[Tensor, ...]:
        return qkv.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, qkv: Tensor, batch: int, length: int) -> Tensor:
        out = attend(*self._heads(qkv, batch, length))
        return out.transpose(1, 2).reshape(batch * length, -1)
