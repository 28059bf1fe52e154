"""Self-attention over a list of token groups: one matrix product for all, attention per group."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from raddino.vit import varlen
from raddino.vit.linear import linear

Shapes = list[tuple[int, int]]
"""``(B, N)`` of each group of sequences whose tokens lie one after another in a ``(sum of B x N, D)`` tensor."""

KEPT = 512
"""Tokens up to which a CPU keeps the attention probabilities for the backward pass; longer ones are computed again."""

SLAB = 1 << 21
"""Attention scores computed at once on a CPU: 4 MiB in bfloat16 stay in its cache."""


def attend(qkv: Tensor, batch: int, length: int, heads: int) -> Tensor:
    """``softmax(query key^T / sqrt(d)) value`` within each of ``batch`` sequences: (B N, 3 D) to (B N, D).

    By whichever way is faster here (``benchmarks/attention.py``).
    """
    if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and not torch.compiler.is_compiling():
        with torch.autocast("cpu", enabled=False):
            return _InSlabs.apply(qkv, batch, length, heads)
    return fused(qkv, batch, length, heads)


def attend_groups(qkv: Tensor, shapes: Shapes, heads: int) -> Tensor:
    """:func:`attend` of groups that lie one after another, (T, 3 D) to (T, D): in one call where a GPU has it."""
    if varlen.serves(qkv, shapes, heads):
        return varlen.attend_all(qkv, shapes, heads)
    groups = qkv.split([batch * length for batch, length in shapes])
    mixed = [attend(group, *shape, heads) for group, shape in zip(groups, shapes, strict=True)]
    return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def fused(qkv: Tensor, batch: int, length: int, heads: int) -> Tensor:
    """:func:`attend` by torch's own kernel."""
    query, key, value = split_heads(qkv, batch, length, heads)
    mixed = scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).reshape(batch * length, -1)


def split_heads(qkv: Tensor, batch: int, length: int, heads: int) -> tuple[Tensor, ...]:
    """Query, key and value, (B, heads, N, d) each, of (B N, 3 D)."""
    return qkv.view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


class _InSlabs(torch.autograd.Function):
    """Attention a few heads at a time, so that no score leaves the cache; one change of layout each way."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, batch: int, length: int, heads: int) -> Tensor:
        parts = torch.stack(split_heads(qkv, batch, length, heads)).flatten(1, 2)
        out, kept = torch.empty_like(parts[2]), []
        for slab in _slabs(*parts.shape[1:3]):
            query, key, value = parts[:, slab]
            probabilities = _probabilities(query, key)
            torch.bmm(probabilities, value, out=out[slab])
            if ctx.needs_input_grad[0] and length <= KEPT:
                kept.append(probabilities)
        ctx.save_for_backward(parts, *kept)
        ctx.shape = batch, heads
        return out.unflatten(0, (batch, heads)).transpose(1, 2).reshape(batch * length, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (batch, heads), (parts, *kept) = ctx.shape, ctx.saved_tensors
        _, sequences, length, dim = parts.shape
        grad = grads[0].view(batch, length, heads, dim).transpose(1, 2).reshape(sequences, length, dim)
        found = torch.empty_like(parts)
        for number, slab in enumerate(_slabs(sequences, length)):
            query, key, value = parts[:, slab]
            to_query, to_key, to_value = found[:, slab]
            probabilities = kept[number] if kept else _probabilities(query, key)
            torch.bmm(probabilities.transpose(1, 2), grad[slab], out=to_value)
            to_probabilities = grad[slab] @ value.transpose(1, 2)
            to_scores = torch._softmax_backward_data(to_probabilities, probabilities, -1, probabilities.dtype)
            _scaled_product(to_scores, key, dim, to_query)
            _scaled_product(to_scores.transpose(1, 2), query, dim, to_key)
        back = found.unflatten(1, (batch, heads)).permute(1, 3, 0, 2, 4)
        return back.reshape(batch * length, -1), None, None, None


def _slabs(sequences: int, length: int) -> list[slice]:
    size = max(1, SLAB // length**2)
    return [slice(start, start + size) for start in range(0, sequences, size)]


def _probabilities(query: Tensor, key: Tensor) -> Tensor:
    return _scaled_product(query, key.transpose(1, 2), query.shape[-1]).softmax(-1)


def _scaled_product(a: Tensor, b: Tensor, dim: int, out: Tensor | None = None) -> Tensor:
    return torch.baddbmm(a.new_empty(1), a, b, beta=0, alpha=dim**-0.5, out=out)


class Attention(nn.Module):
    """Multi-head self-attention; parameter names are DINOv2's (``qkv``, ``proj``)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, shapes: Shapes, gain: Tensor) -> Tensor:
        """(T, D) to (T, D) times ``gain`` (D,); every sequence of every group attends to itself only."""
        return linear(attend_groups(linear(tokens, self.qkv), shapes, self.num_heads), self.proj, gain)

    def weights(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """Attention probabilities (B, heads, N, N) of one group, for pictures."""
        query, key, _ = split_heads(linear(tokens, self.qkv), *shape, self.num_heads)
        return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)
