"""Collectives that are the identity without a process group."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from raddino.errors import RaddinoError

PARCEL = 2**24
"""Numbers that are sent at once."""


class LostRankError(RaddinoError):
    """Another process of the group has ended, or gave nothing for as long as the group waits."""


_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Every collective is the identity for a while, whatever the process group."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if not _alone and dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


def all_sum(value: Tensor) -> Tensor:
    """Sum of ``value`` over all ranks, in place."""
    if world_size() > 1:
        with _meeting():
            dist.all_reduce(value)
    return value


def all_max(value: Tensor) -> Tensor:
    """Largest ``value`` over all ranks, in place."""
    if world_size() > 1:
        with _meeting():
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def all_mean(value: Tensor) -> Tensor:
    """Mean of ``value`` over all ranks, in place."""
    return all_sum(value).div_(world_size())


def all_means(values: Sequence[Tensor]) -> None:
    """Mean of each of ``values``, of one type, over all ranks, in place; sent in parcels of :data:`PARCEL`."""
    parcel: list[Tensor] = []
    for value in values if world_size() > 1 else ():
        parcel.append(value)
        if sum(one.numel() for one in parcel) >= PARCEL or value is values[-1]:
            means = all_mean(torch.cat([one.flatten() for one in parcel]))
            for one, mean in zip(parcel, means.split([one.numel() for one in parcel]), strict=True):
                one.copy_(mean.view_as(one))
            parcel.clear()


def all_rows(rows: Tensor) -> Tensor:
    """Rows (R B, ...) of all ranks, rank after rank, of ``rows`` (B, ...); every rank has as many.

    Differentiable: a rank's rows get the sum of the gradients that all ranks have for them.
    """
    return _AllRows.apply(rows) if world_size() > 1 else rows


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        with _meeting():
            dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_sum(grads[0].clone(memory_format=torch.contiguous_format)).chunk(world_size())[rank()]


def from_first(values: Sequence[Tensor]) -> None:
    """Copy the first rank's ``values`` into every rank's, in place."""
    if world_size() > 1:
        with _meeting():
            for value in values:
                dist.broadcast(value, 0)


@contextmanager
def _meeting() -> Iterator[None]:
    """What goes wrong where ranks meet is another rank's end; memory that this one lacks is not."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRankError(
            "another process of this run has died or hangs (killed, or out of memory): the same command continues"
        ) from error
