"""L2 logistic, multinomial and ridge regression to convergence, all penalties and labels at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

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
    loss_of,
    standardise,
)

NEWTON_STEPS, INNER_STEPS, HALVINGS = 100, 60, 40
TOLERANCE = 1e-18
RANK_TOLERANCE = 1e-7


class LogisticConfig(ProbeConfig):
    """Penalised maximum likelihood on standardised features, as scikit-learn's ``LogisticRegression`` and ``Ridge``.

    Attributes:
        c: grid of inverse penalties C in ``C * sum of losses + |w|² / 2``; of numbers, a ridge with alpha = 1 / C.
    """

    kind: Literal["logistic"] = "logistic"
    features: Literal["cls", "mean_patch", "both", "grid"] = "cls"
    c: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def fit_logistic(train: Split, val: Split, config: LogisticConfig, request: Request) -> LinearMap:
    """Solve every (C, label) and choose C on validation.

    Raises:
        RaddinoError: features or targets that are not finite, or a label that all or no training images have.
    """
    loss = request.loss
    for part, split in (("training", train), ("validation", val)):
        check(part, split, request)
    y = torch.as_tensor(train[1], dtype=torch.float64)
    for output, mean in enumerate(y.mean(0).tolist()):
        if loss != "squared" and mean in (0, 1):
            raise RaddinoError(f"{request.name(output)}: all training images are {mean:g}; nothing to regress")
    device = resolve_device(request.device)
    x, y, val_x, val_y = (torch.as_tensor(one, dtype=torch.float64, device=device) for one in (*train, *val))
    z, mean, scale = standardise(x)
    rotation = _principal(z)
    c = torch.tensor(config.c, dtype=torch.float64, device=device)
    offset = y.mean(0) if loss == "squared" else torch.zeros_like(y[0])
    weight = _solve(z @ rotation, y - offset, loss, c)  # (R + 1, C, T)
    output = torch.tensordot((val_x - mean) / scale @ rotation, weight[:-1], 1) + weight[-1] + offset
    best = choose([output], val_y, loss, config.rule(loss))
    chosen = weight[:, best, torch.arange(y.shape[1])]
    raw = rotation @ chosen[:-1] / scale[:, None]
    bias = chosen[-1:] + offset - mean @ raw
    return LinearMap(
        weight=raw[None].cpu().numpy(),
        bias=bias[None].cpu().numpy(),
        chosen=[config.record(loss, c=config.c[index]) for index in best],
    )


def _principal(z: Tensor) -> Tensor:
    """(D, R) principal directions of centred features (N, D); at least one."""
    small = z if z.shape[0] >= z.shape[1] else z.T
    values, vectors = torch.linalg.eigh(small.T @ small)
    kept = values > RANK_TOLERANCE**2 * values[-1]
    kept[-1] = True
    vectors = vectors[:, kept]
    return vectors if small is z else torch.nn.functional.normalize(z.T @ vectors, dim=0)


def _solve(z: Tensor, y: Tensor, loss: Loss, c: Tensor) -> Tensor:
    """Minimisers (R + 1, C, T), bias last, of sum of losses + |w|² / 2C; columns of ``z`` (N, R) are orthogonal.

    Newton's method whose steps come from conjugate gradients, preconditioned by the Hessian's diagonal, which is
    nearly all of it in these coordinates; each problem halves its steps until its objective falls.

    Raises:
        RaddinoError: no convergence.
    """
    n, t = y.shape
    z = torch.cat([z, z.new_ones(n, 1)], 1)
    coarse = z.float()  # enough for the direction of a step, not for the gradient
    square = z.square().sum(0)[:, None, None]
    penalty = (1 / c)[None, :, None].repeat(len(square), 1, 1)
    penalty[-1] = 0
    target = y[:, None]
    if loss == "squared":
        return (z.T @ y)[:, None] / (square + penalty)
    whole = (0, 2) if loss == "softmax" else (0,)  # axes of one problem

    def product(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(whole, keepdim=True)

    def objective(output: Tensor, weight: Tensor) -> Tensor:
        return loss_of(output, target, loss).sum(0, keepdim=True) + product(penalty * weight, weight) / 2

    prevalence = y.mean(0)
    weight = z.new_zeros(len(square), len(c), t)
    weight[-1] = torch.logit(prevalence) if loss == "logistic" else prevalence.log() - prevalence.log().mean()
    for _ in range(NEWTON_STEPS):
        output = torch.tensordot(z, weight, 1)
        probability = output.sigmoid() if loss == "logistic" else output.softmax(-1)
        gradient = torch.tensordot(z.T, probability - target, 1) + penalty * weight
        curvature = (probability * (1 - probability)).mean(0)
        diagonal = square * curvature + penalty + 1e-300
        unsolved = product(gradient, gradient / diagonal) > TOLERANCE * n
        if not unsolved.any():
            return weight

        def hessian(v: Tensor, p: Tensor = probability.float()) -> Tensor:
            a = torch.tensordot(coarse, v, 1)
            a = p * (1 - p) * a if loss == "logistic" else p * (a - (p * a).sum(-1, keepdim=True))
            return torch.tensordot(coarse.T, a, 1) + penalty.float() * v

        step = _conjugate_gradients(hessian, torch.where(unsolved, -gradient, 0.0), diagonal, product)
        slope, before, along = product(gradient, step), objective(output, weight), torch.tensordot(z, step, 1)
        length = torch.ones_like(slope)
        for _ in range(HALVINGS):
            after = objective(output + length * along, weight + length * step)
            rising = ~(after <= before + 1e-4 * length * slope + 1e-13 * before.abs())
            if not rising.any():
                break
            length = torch.where(rising, length / 2, length)
        weight = weight + length * step
    raise RaddinoError(f"logistic regression did not converge in {NEWTON_STEPS} steps; leave out the largest C")


def _conjugate_gradients(
    hessian: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    product: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Approximate solutions of ``hessian(x) = right``, in single precision, each problem to its own accuracy."""
    unit = product(right, right / diagonal).sqrt().clamp(min=1e-300)
    scale = 1 / diagonal.sqrt()  # in these coordinates the Hessian is near the identity

    def bend(v: Tensor) -> Tensor:
        return scale.float() * hessian(scale.float() * v)

    residual = (right * scale / unit).float()
    x, direction, size = torch.zeros_like(residual), residual, product(residual, residual)
    goal = unit.clamp(1e-4, 0.1).square().float()
    for _ in range(INNER_STEPS):
        active = size > goal
        if not active.any():
            break
        image = bend(direction)
        along, curved = product(direction, direction), product(direction, image)
        active &= curved > 1e-6 * along  # a bias common to all classes bends nothing
        length = torch.where(active, size / curved, 0.0)
        x, residual = x + length * direction, residual - length * image
        now = torch.where(active, product(residual, residual), 0.0)
        direction = residual + torch.where(active, now / size, 0.0) * direction
        size = now
    return x.double() * scale * unit


PROBES.register("logistic")(Method(LogisticConfig, fit_logistic))
