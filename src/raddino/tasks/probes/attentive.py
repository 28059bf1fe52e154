"""Attentive pooling: a learned query decides which patches of an image a linear probe reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from raddino.device import resolve_device
from raddino.errors import RaddinoError
from raddino.tasks.probes.base import PROBES, Loss, Method, ProbeConfig, Request, Split, check, choose

STATISTICS_IMAGES = 1024
QUERIES = 32
BETAS, EPSILON = (0.9, 0.999), 1e-8


class AttentiveConfig(ProbeConfig):
    """How attentive probes are trained: AdamW with a cosine to zero on standardised patch features.

    Each output has a query q and a weight w of its own: sum over patches of softmax(p q / sqrt(D)) (p w), plus a
    bias; a query of 0 is mean pooling.

    Attributes:
        learning_rates: grid of rates at the start.
        weight_decays: grid of decoupled decays of q and w.
        seeds: how many initialisations and batch orders are trained.
        steps: minibatch steps.
        batch_size: images a step.
    """

    kind: Literal["attentive"] = "attentive"
    features: Literal["patches"] = "patches"
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.003, 0.01)
    weight_decays: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.01, 0.3)
    seeds: PositiveInt = 3
    steps: PositiveInt = 300
    batch_size: PositiveInt = 64

    @property
    def grid(self) -> list[tuple[float, float]]:
        """All (learning rate, weight decay) pairs in the order of the trained heads."""
        return [(rate, decay) for rate in self.learning_rates for decay in self.weight_decays]


@dataclass(frozen=True)
class _Patches:
    """Patch features (N, H, W, D) read a batch at a time, standardised with the training images."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, source: Any, device: torch.device) -> _Patches:
        """Statistics (D,) over at most 1,024 images, evenly spaced."""
        rows = np.unique(np.linspace(0, len(source) - 1, STATISTICS_IMAGES).astype(int))
        count, total, square = 0, 0.0, 0.0
        shift = np.asarray(source[rows[:1]], dtype=np.float64).reshape(-1, source.shape[-1]).mean(0)
        for start in range(0, len(rows), QUERIES):
            tokens = np.asarray(source[rows[start : start + QUERIES]], dtype=np.float64)
            tokens = tokens.reshape(-1, tokens.shape[-1]) - shift
            count, total, square = count + len(tokens), total + tokens.sum(0), square + (tokens**2).sum(0)
        mean = total / count
        deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
        mean = mean + shift
        scale = np.where(deviation > 1e-5 * np.abs(mean), deviation, np.inf)
        return cls(*(torch.as_tensor(one, dtype=torch.float32, device=device) for one in (mean, scale)))

    def read(self, source: Any, rows: np.ndarray) -> Tensor:
        """(B, H W, D) of some images."""
        tokens = torch.as_tensor(np.asarray(source[rows]), device=self.mean.device).flatten(1, 2).float()
        return (tokens - self.mean) / self.scale


@dataclass(frozen=True)
class Attentive:
    """Fitted queries.

    Attributes:
        patches: standardisation.
        heads: (S, 2, D, T), queries and weights.
        bias: (S, T).
        offset, unit: (T,), prediction = offset + unit * output.
        chosen: see :class:`~raddino.tasks.probes.base.Probe`.
    """

    patches: _Patches
    heads: Tensor
    bias: Tensor
    offset: Tensor
    unit: Tensor
    chosen: list[dict[str, Any]]

    def predict(self, features: Any) -> np.ndarray:
        """Patches (N, H, W, D) to (S, N, T). Raises RaddinoError for another D or values that are not finite."""
        if len(features.shape) != 4 or features.shape[-1] != self.heads.shape[2]:
            raise RaddinoError(
                f"the probe was fitted on patches (N, H, W, {self.heads.shape[2]}), got {tuple(features.shape)}"
            )
        outputs = _outputs(self.patches, features, self.heads, self.bias)
        if not outputs.isfinite().all():
            raise RaddinoError("predicted features hold NaN or infinity: embed again, or leave the encoder out")
        return (self.offset + self.unit * outputs).double().cpu().numpy()


def fit_attentive(train: Split, val: Split, config: AttentiveConfig, request: Request) -> Attentive:
    """Train the grid and choose on validation by the criterion averaged over seeds.

    Args:
        train: patches (N, H, W, D), an array, a memory map or anything with ``shape``, ``len`` and row indexing,
            and targets (N, T).
        val: the same for validation images.
        config: grid, seeds and steps.
        request: loss, seed and device.

    Raises:
        RaddinoError: patches or targets that are not finite, or every grid point diverged.
    """
    for part, split in (("training", train), ("validation", val)):
        if len(split[0].shape) != 4:
            raise RaddinoError(f"the attentive probe reads patches (N, H, W, D), got {tuple(split[0].shape)}")
        check(part, split, request)
    device, loss = resolve_device(request.device), request.loss
    y, val_y = (torch.as_tensor(one, dtype=torch.float32, device=device) for one in (train[1], val[1]))
    offset, unit = torch.zeros_like(y[0]), torch.ones_like(y[0])
    if loss == "squared":
        offset, unit = y.mean(0), y.std(0, correction=0).clamp(min=1e-12)
    patches = _Patches.of(train[0], device)
    fitted = [
        _descend(patches, train[0], (y - offset) / unit, loss, config, request.seed * 1000 + index)
        for index in range(config.seeds)
    ]
    heads, bias = (torch.stack(one) for one in zip(*fitted, strict=True))  # (S, 2, D, C T), (S, C T)
    outputs = _outputs(patches, val[0], heads, bias).unflatten(2, (-1, y.shape[1])) * unit + offset
    best = choose(outputs, val_y, loss, config.rule(loss))
    kept = torch.tensor(best, device=device) * y.shape[1] + torch.arange(y.shape[1], device=device)
    settings = [config.grid[index] for index in best]
    chosen = [config.record(loss, learning_rate=rate, weight_decay=decay) for rate, decay in settings]
    return Attentive(patches, heads[..., kept], bias[..., kept], offset, unit, chosen)


def _pool(tokens: Tensor, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Attention (B, L, H), values (B, L, H) and pooled values (B, H) of tokens (B, L, D) and heads (2, D, H)."""
    attention = (tokens @ (heads[0] / tokens.shape[2] ** 0.5)).softmax(1)
    values = tokens @ heads[1]
    return attention, values, (attention * values).sum(1)


def _outputs(patches: _Patches, source: Any, heads: Tensor, bias: Tensor) -> Tensor:
    """(S, N, H)."""
    parts = []
    for start in range(0, len(source), QUERIES):
        tokens = patches.read(source, np.arange(start, min(start + QUERIES, len(source))))
        parts.append(torch.stack([_pool(tokens, one)[2] for one in heads]))
    return torch.cat(parts, 1) + bias[:, None] if parts else heads.new_empty(len(heads), 0, heads.shape[-1])


def _descend(
    patches: _Patches, source: Any, y: Tensor, loss: Loss, config: AttentiveConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """AdamW (Loshchilov and Hutter 2019) on all grid points and outputs: heads (2, D, C T), biases (C T,)."""
    device, d, (n, t), c = y.device, len(patches.mean), y.shape, len(config.grid)
    generator = torch.Generator().manual_seed(seed)
    rate, decay = (torch.tensor(one, device=device).repeat_interleave(t) for one in zip(*config.grid, strict=True))
    heads = (0.1 / d**0.5 * torch.randn(2, d, 1, generator=generator)).to(device).repeat(1, 1, c * t)
    prevalence = y.mean(0).clamp(1e-3, 1 - 1e-3)
    start = {"logistic": torch.logit(prevalence), "softmax": prevalence.log(), "squared": torch.zeros_like(prevalence)}
    state = torch.cat([heads.flatten(0, 1), start[loss].repeat(c)[None]])  # (2 D + 1, C T)
    first, second = torch.zeros_like(state), torch.zeros_like(state)
    order = torch.empty(0, dtype=torch.long)
    for step in range(config.steps):
        if len(order) < min(n, config.batch_size):
            order = torch.cat([order, torch.randperm(n, generator=generator)])
        at, order = order[: config.batch_size], order[config.batch_size :]
        tokens, heads = patches.read(source, at.numpy()), state[:-1].unflatten(0, (2, d))
        attention, values, pooled = _pool(tokens, heads)
        residual = (pooled + state[-1]).unflatten(1, (c, t))
        residual = {"logistic": residual.sigmoid(), "squared": residual}.get(loss, residual.softmax(-1))
        residual = ((residual - y[at.to(device)].unsqueeze(1)) / len(at)).flatten(1)
        weighted = attention * residual[:, None]
        flat = tokens.flatten(0, 1).T
        query = flat @ (weighted * (values - pooled[:, None])).flatten(0, 1) / d**0.5
        gradient = torch.cat([query, flat @ weighted.flatten(0, 1), residual.sum(0, keepdim=True)])
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient.square(), 1 - BETAS[1])
        now = rate * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))
        state[:-1] *= 1 - now * decay
        mean, square = (one / (1 - beta ** (step + 1)) for one, beta in zip((first, second), BETAS, strict=True))
        state -= now * mean / (square.sqrt() + EPSILON)
    return state[:-1].unflatten(0, (2, d)), state[-1]


PROBES.register("attentive")(Method(AttentiveConfig, fit_attentive))
