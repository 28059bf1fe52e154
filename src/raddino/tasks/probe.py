"""The linear probe: all learning rates, weight decays, seeds and labels train as one batched problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from raddino.config import Config
from raddino.errors import RaddinoError

Loss = Literal["logistic", "squared"]
CURVATURE: dict[Loss, float] = {"logistic": 0.25, "squared": 1.0}


class ProbeConfig(Config):
    """How linear probes are trained (protocol: evaluation.md, "Linear probe").

    Learning rates and weight decays are relative to the curvature L of the loss that a minibatch meets
    (rates times 1/L, decays times L), so that one grid fits 64 or 8,000 features and either loss.

    Attributes:
        features: what of the encoder is read: the CLS embedding, the mean of the patch tokens, or both.
        learning_rates: grid of rates at the start of a cosine decay to zero.
        weight_decays: grid of L2 penalties on weights (not on the bias).
        seeds: how many initialisations and batch orders are trained.
        steps: minibatch steps of every probe.
        batch_size: images a step.
        momentum: heavy-ball momentum.
    """

    features: Literal["cls", "mean_patch", "both"] = "cls"
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.001, 0.01, 0.1)
    weight_decays: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (0.0, 1e-3, 1e-2, 1e-1, 1.0)
    seeds: PositiveInt = 5
    steps: PositiveInt = 1000
    batch_size: PositiveInt = 128
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9

    @property
    def grid(self) -> list[tuple[float, float]]:
        """All (learning rate, weight decay) pairs in the order of the trained heads."""
        return [(rate, decay) for rate in self.learning_rates for decay in self.weight_decays]


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe of T labels with S seeds.

    Attributes:
        loss: ``"logistic"`` (T binary labels) or ``"squared"`` (T numbers).
        weight: (S, D, T), acting on standardised features.
        bias: (S, 1, T).
        mean, scale: (D,), the standardisation of the features; scale is infinite for constant ones.
        offset, unit: (T,), prediction = offset + unit * output.
        chosen: per label the (learning rate, weight decay) with the least validation loss.
    """

    loss: Loss
    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    offset: Tensor
    unit: Tensor
    chosen: list[tuple[float, float]]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, D) features to (S, N, T) logits or numbers, float64."""
        standard = (torch.as_tensor(features, dtype=torch.float32) - self.mean) / self.scale
        return (self.offset + self.unit * (standard @ self.weight + self.bias)).double().numpy()


def fit_linear_probe(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    loss: Loss,
    config: ProbeConfig,
    seed: int = 0,
) -> LinearProbe:
    """Train the grid on ``train``, choose on ``val`` by the loss averaged over seeds.

    Every label is a problem of its own that shares only the features: fitted alone or beside others it
    gives the same probe. Gradient steps with momentum commute with rotations, so where there are fewer
    images than features the probe is trained in coordinates of their span, which loses nothing.

    Args:
        train: features (N, D) and targets (N, T), finite; binary targets are 0 and 1.
        val: the same for validation images.
        loss: ``"logistic"`` or ``"squared"`` (on targets standardised with the training images).
        config: grid, seeds and steps.
        seed: of initial weights and batch order.

    Raises:
        RaddinoError: every grid point diverged.
    """
    x, y = (torch.as_tensor(part, dtype=torch.float32) for part in train)
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 1e-5 * mean.abs(), scale, torch.inf)
    x = (x - mean) / scale
    offset, unit = torch.zeros(y.shape[1]), torch.ones(y.shape[1])
    if loss == "squared":
        offset, unit = y.mean(0), y.std(0, correction=0).clamp(min=1e-12)
    basis = _span(x) if x.shape[0] < x.shape[1] else torch.eye(x.shape[1])
    weight, bias = _descend(x @ basis, (y - offset) / unit, loss, config, seed)

    val_x, val_y = (torch.as_tensor(part, dtype=torch.float32) for part in val)
    output = ((val_x - mean) / scale @ basis) @ weight.flatten(2) + bias.flatten(2)
    output = output.unflatten(2, bias.shape[2:])  # (S, N, C, T)
    losses = _loss(output, ((val_y - offset) / unit).unsqueeze(1), loss).mean((0, 1))  # (C, T)
    losses = losses.nan_to_num(nan=torch.inf)
    if losses.amin(0).isinf().any():
        raise RaddinoError(f"the linear probe diverged at all learning rates {config.learning_rates}; lower them")
    best = losses.argmin(0)
    label = torch.arange(y.shape[1])
    return LinearProbe(
        loss=loss,
        weight=basis @ weight[:, :, best, label],
        bias=bias[:, :, best, label],
        mean=mean,
        scale=scale,
        offset=offset,
        unit=unit,
        chosen=[config.grid[index] for index in best.tolist()],
    )


def _span(x: Tensor) -> Tensor:
    """(D, R) orthonormal basis of the row space of ``x`` (N, D), N < D; at least one direction."""
    _, singular, rows = torch.linalg.svd(x, full_matrices=False)
    return rows[singular >= 1e-5 * singular[0]].T


def _loss(output: Tensor, target: Tensor, loss: Loss) -> Tensor:
    if loss == "squared":
        return (output - target).square()
    return torch.nn.functional.softplus(output) - target * output


def _descend(x: Tensor, y: Tensor, loss: Loss, config: ProbeConfig, seed: int) -> tuple[Tensor, Tensor]:
    """Minibatch descent with momentum; weights (S, D, C, T), biases (S, 1, C, T) of C grid points."""
    (n, d), t, s = x.shape, y.shape[1], config.seeds
    batch_size = min(n, config.batch_size)
    spread = torch.linalg.matrix_norm(x, 2).square() + x.square().sum() / batch_size
    curvature = CURVATURE[loss] * (spread / n + 1)  # 1 is the bias
    rate, decay = (torch.tensor(column).repeat_interleave(t) for column in zip(*config.grid, strict=True))
    rate, decay = rate / curvature, decay * curvature
    generators = [torch.Generator().manual_seed(seed * 1000 + index) for index in range(s)]
    start = torch.stack([torch.randn(d, generator=generator) for generator in generators])
    weight = 0.01 / d**0.5 * start[:, :, None].repeat(1, 1, len(rate))
    bias = torch.zeros(s, 1, len(rate))
    if loss == "logistic":
        bias = bias + torch.logit(y.mean(0), eps=1e-3).repeat(len(config.grid))
    weight_velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    batches = [_batches(n, batch_size, config.steps, generator) for generator in generators]
    for step in range(config.steps):
        index = torch.stack([order[step] for order in batches])  # (S, B)
        batch, target = x[index], y[index]
        residual = torch.baddbmm(bias, batch, weight).unflatten(2, (-1, t))
        if loss == "logistic":
            residual = residual.sigmoid_()
        residual = ((residual - target.unsqueeze(2)) / batch_size).flatten(2)
        now = rate * (0.5 + 0.5 * np.cos(np.pi * step / config.steps))
        weight_velocity.mul_(config.momentum).add_(batch.mT @ residual).addcmul_(weight, decay)
        bias_velocity.mul_(config.momentum).add_(residual.sum(1, keepdim=True))
        weight.addcmul_(weight_velocity, now, value=-1)
        bias.addcmul_(bias_velocity, now, value=-1)
    return weight.unflatten(2, (-1, t)), bias.unflatten(2, (-1, t))


def _batches(n: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """(steps, size) row numbers from one shuffled pass after another."""
    passes = -(-steps * size // n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])
    return order[: steps * size].view(steps, size)
