"""Collectives that are the identity without a process group."""

import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of ranks; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def all_sum(value: Tensor) -> Tensor:
    """Sum of ``value`` over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def all_max(value: Tensor) -> Tensor:
    """Largest ``value`` over all ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def all_mean(value: Tensor) -> Tensor:
    """Mean of ``value`` over all ranks, in place."""
    return all_sum(value).div_(world_size())
