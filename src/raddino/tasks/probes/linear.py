"""The linear probe: all learning rates, decays, seeds, labels and label fractions as one batched problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from raddino.corpus.splits import patient_fraction
from raddino.device import resolve_device
from raddino.errors import RaddinoError
from raddino.tasks.probes.base import (
    PROBES,
    LinearMap,
    Loss,
    Method,
    ProbeConfig,
    Request,
    Split,
    check,
    choose,
    standardise,
)

CURVATURE: dict[Loss, float] = {"logistic": 0.25, "softmax": 0.5, "squared": 1.0}
"""Bounds of the second derivative of the losses by the output (softmax: Böhning 1992)."""
LANCZOS_STEPS = 40


class LinearConfig(ProbeConfig):
    """How linear probes are trained (protocol: evaluation.md, "Linear probe").

    Learning rates and weight decays are relative to the curvature L of the loss that a minibatch meets
    (rates times 1/L, decays times L), so that one grid fits 64 or 8,000 features and any loss.

    Attributes:
        learning_rates: grid of rates at the start of a cosine decay to zero.
        weight_decays: grid of L2 penalties on weights (not on the bias).
        seeds: how many initialisations and batch orders are trained.
        steps: minibatch steps of every probe.
        batch_size: images a step.
        momentum: heavy-ball momentum.
    """

    kind: Literal["linear"] = "linear"
    features: Literal["cls", "mean_patch", "both", "grid"] = "cls"
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


def patient_shares(
    patients: Sequence[str] | np.ndarray, fractions: Sequence[float], seeds: int, seed: int = 0
) -> np.ndarray:
    """(F, S, N) bool: which images each seed sees at each fraction of the patients; nested within a seed.

    Raises:
        ConfigError: a fraction outside (0, 1].
    """
    draws = [seed * 1000 + index for index in range(seeds)]
    return np.array([[patient_fraction(patients, fraction, draw) for draw in draws] for fraction in fractions])


def fit_linear_probe(
    train: Split, val: Split, loss: Loss, config: LinearConfig, seed: int = 0, device: str = "auto"
) -> LinearMap:
    """:func:`fit_linear_probes` on all training images."""
    return fit_linear_probes(train, val, config, Request(loss, seed=seed, device=device))[0]


def fit_linear_probes(
    train: Split, val: Split, config: LinearConfig, request: Request, shares: np.ndarray | None = None
) -> list[LinearMap]:
    """Train the grid on each share of ``train``, choose on ``val`` by the criterion averaged over seeds.

    Every label is a problem of its own that shares only the features, and every share of the images one that
    shares only the memory: fitted alone or beside others they give the same probes. Gradient steps with
    momentum commute with rotations, so where there are fewer images than features the probe is trained in
    coordinates of their span, which loses nothing.

    Seed s draws from ``torch.Generator().manual_seed(1000 * seed + s)``: D normal numbers times 0.01 / sqrt(D),
    projected on the span of the images, are the initial weights, then shuffled passes the batch order.

    Args:
        train: features (N, D) and targets (N, T), finite; binary targets are 0 and 1, classes one-hot.
        val: the same for validation images.
        config: grid, seeds and steps.
        request: loss, seed and device; numbers are standardised with the training images of the share.
        shares: (F, S, N) bool, the training images of each of ``config.seeds`` seeds; None for all.

    Returns:
        One probe a share.

    Raises:
        RaddinoError: features or targets that are not finite, an empty share, or every grid point diverged.
    """
    for part, split in (("training", train), ("validation", val)):
        check(part, split, request)
    n = len(train[1])
    shares = np.ones((1, config.seeds, n), bool) if shares is None else np.asarray(shares)
    if shares.shape[1:] != (config.seeds, n) or not shares.any(-1).all():
        raise RaddinoError(
            f"shares of shape {shares.shape}: (fractions, {config.seeds} seeds, {n} images) with an image in each"
        )
    device = resolve_device(request.device)
    x, y, val_x, val_y = (torch.as_tensor(one, dtype=torch.float32, device=device) for one in (*train, *val))
    return [_fit_share(x, y, val_x, val_y, share, config, request) for share in shares]


@dataclass(frozen=True)
class _Pool:
    """Images of a share in the coordinates in which a seed trains.

    Attributes:
        x: (n, R) standardised features.
        y: (n, T) targets, numbers standardised.
        basis: (D, R) orthonormal coordinates, None where they are the features themselves.
        mean, scale: (D,) of the features.
        offset, unit: (T,) of the targets.
    """

    x: Tensor
    y: Tensor
    basis: Tensor | None
    mean: Tensor
    scale: Tensor
    offset: Tensor
    unit: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, loss: Loss) -> _Pool:
        """From raw features (n, D) and targets (n, T)."""
        offset, unit = torch.zeros_like(y[0]), torch.ones_like(y[0])
        if loss == "squared":
            offset, unit = y.mean(0), y.std(0, correction=0).clamp(min=1e-12)
        z, mean, scale = standardise(x)
        basis = None
        if z.shape[0] < z.shape[1]:
            basis, triangle = torch.linalg.qr(z.T)
            z = triangle.T
        return cls(z, (y - offset) / unit, basis, mean, scale, offset, unit)

    def curvature(self, loss: Loss, batch_size: int) -> Tensor:
        """Of the loss averaged over a batch: a bound of its largest eigenvalue that a random batch meets."""
        spread = _largest_eigenvalue(self.x) + self.x.square().sum() / batch_size
        return CURVATURE[loss] * (spread / len(self.x) + 1)  # 1 is the bias

    def unfold(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Heads (R + 1, T), bias last, to weights (D, T) and bias (1, T) on raw features and targets, float64."""
        inner = weight[:-1] if self.basis is None else self.basis @ weight[:-1]
        raw = inner.double() / self.scale.double()[:, None] * self.unit.double()
        bias = weight[-1:].double() * self.unit.double() + self.offset.double()
        return raw, bias - self.mean.double() @ raw


def _largest_eigenvalue(x: Tensor) -> Tensor:
    """Of x.T x for x (n, R): Lanczos' method with full orthogonalisation, exact where R is small."""
    direction = torch.randn(x.shape[1], generator=torch.Generator().manual_seed(0)).to(x.device)
    basis = x.new_zeros(x.shape[1], 0)
    for _ in range(min(LANCZOS_STEPS, *x.shape)):
        for _ in range(2):
            direction = direction - basis @ (basis.T @ direction)
        basis = torch.cat([basis, direction[:, None] / direction.norm().clamp(min=1e-30)], 1)
        direction = x.T @ (x @ basis[:, -1])
    return torch.linalg.matrix_norm(x @ basis, 2).square()


def _fit_share(
    x: Tensor, y: Tensor, val_x: Tensor, val_y: Tensor, share: np.ndarray, config: LinearConfig, request: Request
) -> LinearMap:
    """The probe of one share (S, N) of the images."""
    loss, t = request.loss, y.shape[1]
    rows = [torch.from_numpy(np.flatnonzero(one)).to(x.device) for one in share]
    if all(np.array_equal(share[0], one) for one in share):
        rows = rows[:1]
    pools = [_Pool.of(x[one], y[one], loss) for one in rows]
    heads = _descend(pools, loss, config, request.seed)  # S x (R_s + 1, C, T)
    pools *= config.seeds // len(pools)

    def outputs(pool: _Pool, head: Tensor) -> Tensor:
        z = (val_x - pool.mean) / pool.scale
        z = z if pool.basis is None else z @ pool.basis
        flat = torch.addmm(head[-1].flatten(), z, head[:-1].flatten(1))
        return flat.unflatten(1, (-1, t)) * pool.unit + pool.offset

    seeds = list(zip(pools, heads, strict=True))
    best = choose((outputs(*one) for one in seeds), val_y, loss, config.rule(loss))
    label = torch.arange(t)
    raw = [pool.unfold(head[:, best, label]) for pool, head in seeds]
    chosen = [config.grid[index] for index in best]
    return LinearMap(
        weight=torch.stack([weight for weight, _ in raw]).cpu().numpy(),
        bias=torch.stack([bias for _, bias in raw]).cpu().numpy(),
        chosen=[config.record(loss, learning_rate=rate, weight_decay=decay) for rate, decay in chosen],
    )


def _descend(pools: list[_Pool], loss: Loss, config: LinearConfig, seed: int) -> list[Tensor]:
    """Minibatch descent with momentum from one pool for all seeds, or one for each; S heads (R + 1, C, T)."""
    device, s, c, t = pools[0].x.device, config.seeds, len(config.grid), pools[0].y.shape[1]
    n, ranks = [len(pool.x) for pool in pools], [pool.x.shape[1] for pool in pools]
    x = torch.zeros(len(pools), max(n), max(ranks) + 1, device=device)
    y = torch.zeros(len(pools), max(n), t, device=device)
    for pool, images, targets in zip(pools, x, y, strict=True):
        images[: len(pool.x), : pool.x.shape[1]], images[: len(pool.x), -1], targets[: len(pool.x)] = pool.x, 1, pool.y
    x, y = x.flatten(0, 1), y.flatten(0, 1)
    per_seed = [index if len(pools) > 1 else 0 for index in range(s)]
    sizes = [min(config.batch_size, one) for one in n]
    curvature = torch.stack([pool.curvature(loss, size) for pool, size in zip(pools, sizes, strict=True)])
    curvature = curvature[per_seed].view(s, 1, 1)
    rate, decay = (torch.tensor(one, device=device).repeat_interleave(t) for one in zip(*config.grid, strict=True))
    rate, decay = rate / curvature, decay * curvature
    weight = torch.zeros(s, max(ranks) + 1, c * t, device=device)
    order = torch.zeros(config.steps, s, max(sizes), dtype=torch.long)
    share = torch.zeros(s, max(sizes), 1)
    for index, p in enumerate(per_seed):
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        weight[index, : ranks[p]], weight[index, -1] = _start(pools[p], loss, c, generator)
        order[:, index, : sizes[p]] = _batches(n[p], sizes[p], config.steps, generator) + p * max(n)
        share[index, : sizes[p]] = 1 / sizes[p]
    order, share, velocity = order.to(device), share.to(device), torch.zeros_like(weight)
    for step in range(config.steps):
        at = order[step].flatten()
        batch, target = (one.index_select(0, at).unflatten(0, (s, -1)) for one in (x, y))  # (S, B, R + 1), (S, B, T)
        residual = (batch @ weight).unflatten(2, (c, t))
        if loss == "logistic":
            residual.sigmoid_()
        elif loss == "softmax":
            residual = residual.softmax(-1)
        residual = residual.sub_(target.unsqueeze(2)).flatten(2).mul_(share)
        velocity.baddbmm_(batch.mT, residual, beta=config.momentum)
        velocity[:, :-1].addcmul_(weight[:, :-1], decay)
        now = rate * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))
        weight.addcmul_(velocity, now, value=-1)
    heads = weight.unflatten(2, (c, t))
    return [torch.cat([head[: ranks[p]], head[-1:]]) for p, head in zip(per_seed, heads, strict=True)]


def _start(pool: _Pool, loss: Loss, settings: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Initial weights (R, 1), small and random, and biases (C T,): what the targets are without features."""
    d = len(pool.mean)
    weight = (0.01 / d**0.5 * torch.randn(d, 1, generator=generator)).to(pool.x.device)
    prevalence = pool.y.mean(0)
    bias = torch.zeros_like(prevalence)
    if loss == "logistic":
        bias = torch.logit(prevalence, eps=1e-3)
    elif loss == "softmax":
        bias = prevalence.clamp(min=1e-3).log()
    return weight if pool.basis is None else pool.basis.T @ weight, bias.repeat(settings)


def _batches(n: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """(steps, size) row numbers from one shuffled pass after another."""
    passes = -(-steps * size // n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])
    return order[: steps * size].view(steps, size)


def _fit(train: Split, val: Split, config: LinearConfig, request: Request) -> LinearMap:
    return fit_linear_probes(train, val, config, request)[0]


PROBES.register("linear")(Method(LinearConfig, _fit))
