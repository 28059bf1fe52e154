"""The three losses of DINOv2 (arXiv 2304.07193, section 4), and KDE in KoLeo's place."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from raddino.dist import all_rows, rank

KOLEO_EPS = 1e-8
CHUNK, CACHED_CHUNK = 1 << 24, 1 << 18
"""Logits of which a loss makes float32 copies at once; on a CPU as many as its cache holds."""


def full(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is that already: losses are never computed in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def cross_entropy(student_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy per row (..., B) between targets (..., B, K) >= 0 and ``softmax(student_logits / temperature)``.

    Rows of ``targets`` may sum to more than one: a row that is the sum of two targets costs what both cost.
    """
    return _CrossEntropy.apply(student_logits, targets, temperature)


class _CrossEntropy(torch.autograd.Function):
    """Keeps logits and targets alone: what is as wide as the prototypes is made for a few rows at a time, twice."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
        found, logs = [], []
        for some in _chunks(logits):
            scaled, wanted = full(logits[..., some, :]) / temperature, targets[..., some, :]
            logs.append(scaled.logsumexp(-1))
            found.append(wanted.sum(-1) * logs[-1] - (wanted * scaled).sum(-1))
        ctx.save_for_backward(logits, targets, torch.cat(logs, -1))
        ctx.temperature = temperature
        return torch.cat(found, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        logits, targets, logs = ctx.saved_tensors
        back, share = torch.empty_like(logits), grads[0] / ctx.temperature
        for some in _chunks(logits):
            scaled, wanted = full(logits[..., some, :]) / ctx.temperature, targets[..., some, :]
            predicted = (scaled - logs[..., some, None]).exp_() * wanted.sum(-1, keepdim=True)
            back[..., some, :] = (predicted - wanted) * share[..., some, None]
        return back, None, None


def _chunks(logits: Tensor) -> list[slice]:
    """Slices of the rows of (..., B, K), at least one."""
    rows, most = logits.shape[-2], CACHED_CHUNK if logits.device.type == "cpu" else CHUNK
    size = max(1, most * rows // max(logits.numel(), 1))
    return [slice(start, start + size) for start in range(0, max(rows, 1), size)]


def koleo(features: Tensor) -> Tensor:
    """Kozachenko-Leonenko estimate, negated: low when the unit-length features (B, D) keep apart.

    Each row's nearest other row, of all ranks' (as many on each), is found without gradient; the loss is the mean of
    ``-log(distance + 1e-8)`` over this rank's rows.
    """
    everyone, start = all_rows(full(features)), rank() * len(features)
    x = normalize(everyone, dim=-1, eps=KOLEO_EPS)
    own = x[start : start + len(features)]
    distance = (own - x[nearest_other(everyone, start, len(features))] + KOLEO_EPS).norm(dim=-1)
    return -(distance + KOLEO_EPS).log().mean()


def kde(features: Tensor, concentration: float) -> Tensor:
    """Mean log density of the unit-length features (B, D) under a von Mises-Fisher kernel on them: low when spread.

    Virchow2's (arXiv 2408.00738, section 3) in KoLeo's place, whose gradient grows without bound where two features
    are nearly the same. Each row's density is the mean over all ranks' rows y, itself among them, of
    ``exp(concentration (x y - 1))``, which is ``exp(-t |x - y|^2)`` with t half of it: the kernel of Wang and Isola's
    uniformity (arXiv 2005.10242). 0 when all are alike. In float64, which autocast leaves alone.
    """
    everyone, start = all_rows(full(features)), rank() * len(features)
    x = normalize(everyone.double(), dim=-1, eps=KOLEO_EPS)
    own = x[start : start + len(features)]
    density = (concentration * (own @ x.T - 1)).logsumexp(1) - math.log(len(x))
    return density.mean().to(everyone.dtype)


@torch.no_grad()
def nearest_other(features: Tensor, start: int = 0, count: int | None = None) -> Tensor:
    """Index (B,) of the row of ``features`` (N, D) with the largest cosine to each row, itself excluded.

    For the ``count`` rows from ``start``; all without it. In float64: cosines of near neighbours differ by less than
    float32 resolves.
    """
    x = normalize(features.double(), dim=-1)
    own = x[start:] if count is None else x[start : start + count]
    cosines = own @ x.T
    cosines.diagonal(start).fill_(-torch.inf)
    return cosines.argmax(1)
