"""Self-attention over a list of token groups: one matrix product for all, attention per group."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Shapes = list[tuple[int, int]]
"""``(B, N)`` of each group of sequences whose tokens lie one after another in a ``(sum of B x N, D)`` tensor."""


class Attention(nn.Module):
    """Multi-head self-attention; parameter names are DINOv2's (``qkv``, ``proj``)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, shapes: Shapes) -> Tensor:
        """(T, D) to (T, D); every sequence of every group attends to itself only."""
        groups = self.qkv(tokens).split([b * n for b, n in shapes])
        mixed = [self._attend(group, *shape) for group, shape in zip(groups, shapes, strict=True)]
        return self.proj(torch.cat(mixed) if len(mixed) > 1 else mixed[0])

    def weights(self, tokens: Tensor, shape: tuple[int, int]) -> Tensor:
        """Attention probabilities (B, heads, N, N) of one group, for pictures."""
        query, key, _ = self._heads(self.qkv(tokens), *shape)
        return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1)

    def _heads(self, qkv: Tensor, batch: int, length: int) -> tuple[Tensor, ...]:
        return qkv.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(self, qkv: Tensor, batch: int, length: int) -> Tensor:
        out = scaled_dot_product_attention(*self._heads(qkv, batch, length))
        return out.transpose(1, 2).reshape(batch * length, -1)
