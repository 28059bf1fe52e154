"""One transformer block with LayerScale and a stochastic depth that computes only the kept samples."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from raddino.vit.attention import Attention, Shapes
from raddino.vit.linear import linear

NORM_EPS = 1e-6


class Mlp(nn.Module):
    """Two layers with GELU."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """(T, D) to (T, D) times ``gain`` (D,)."""
        return linear(linear(x, self.fc1, activation="gelu"), self.fc2, gain)


class SwiGlu(nn.Module):
    """The gated feed-forward layer of DINOv2 ViT-g: two thirds of the hidden width, a multiple of 8."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = (int(int(dim * ratio) * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """(T, D) to (T, D) times ``gain`` (D,)."""
        gate, value = linear(x, self.w12).chunk(2, dim=-1)
        return linear(silu(gate) * value, self.w3, gain)


class LayerScale(nn.Module):
    """A learned gain per channel of what a branch adds; the branch's last layer applies it."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))


class Kept:
    """The samples that one residual branch computes: by group, their token rows, and the shapes they form.

    Stochastic depth keeps ``max(1, int(B (1 - rate)))`` samples of every group and scales what the branch
    adds by ``B / kept``, as DINOv2 does.
    """

    def __init__(self, shapes: Shapes, rate: float, generator: torch.Generator | None, device: torch.device) -> None:
        self.groups, self.samples, self.shapes, rows, start = shapes, [], [], [], 0
        for batch, length in shapes:
            keep = max(1, int(batch * (1 - rate)))
            samples = torch.rand(batch, generator=generator).argsort()[:keep].sort().values
            rows.append((start + samples[:, None] * length + torch.arange(length)).flatten())
            self.samples.append(samples.to(device, non_blocking=True))
            self.shapes.append((keep, length))
            start += batch * length
        self.rows = torch.cat(rows).to(device, non_blocking=True)

    def add(self, tokens: Tensor, branch: Tensor) -> Tensor:
        """``tokens`` (T, D) plus what the branch makes of the kept samples, times its gain."""
        groups = tokens.split([batch * length for batch, length in self.groups])
        parts = branch.to(tokens.dtype).split([keep * length for keep, length in self.shapes])
        added = [
            group.view(batch, -1).index_add(0, samples, part.view(len(samples), -1), alpha=batch / len(samples))
            for group, (batch, _), samples, part in zip(groups, self.groups, self.samples, parts, strict=True)
        ]
        return torch.cat([group.view(-1, tokens.shape[1]) for group in added])


class Block(nn.Module):
    """Pre-norm attention and feed-forward branches over a token list."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        ffn: Literal["mlp", "swiglu"],
        layerscale_init: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.ls1 = LayerScale(dim, layerscale_init)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, mlp_ratio) if ffn == "mlp" else SwiGlu(dim, mlp_ratio)
        self.ls2 = LayerScale(dim, layerscale_init)

    def forward(self, x: Tensor, shapes: Shapes, kept: tuple[Kept, Kept] | None = None) -> Tensor:
        """(T, D) to (T, D); ``kept`` names the samples of the two branches, None computes all."""
        if kept is None:
            x = x + self.attn(self.norm1(x), shapes, self.ls1.gamma)
            return x + self.mlp(self.norm2(x), self.ls2.gamma)
        first, second = kept
        x = first.add(x, self.attn(self.norm1(x.index_select(0, first.rows)), first.shapes, self.ls1.gamma))
        return second.add(x, self.mlp(self.norm2(x.index_select(0, second.rows)), self.ls2.gamma))
