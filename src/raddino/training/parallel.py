"""The processes of one training: each a share of every micro-batch, and all of the weights or a share of them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raddino.dist import all_max, all_mean, all_means, all_sum, from_first, rank, world_size
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another: for the first one's checkpoint, or its look of the monitor."""
FAILED = "raddino failed"


@dataclass(frozen=True)
class DataParallel:
    """This process's ``rank`` among ``size``; alone, nothing is exchanged.

    Attributes:
        here: how many of them share this machine.
    """

    rank: int = 0
    size: int = 1
    here: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.rank == 0

    def check(self, batch_size: int, accumulate: int) -> None:
        """Refuse a batch that cannot be shared evenly.

        Raises:
            ConfigError: a micro-batch is no multiple of the number of processes.
        """
        if (micro := batch_size // accumulate) % self.size:
            raise ConfigError(
                f"a micro-batch of {micro} images (batch_size {batch_size} / accumulate {accumulate}) cannot be shared "
                f"evenly by {self.size} processes: start another number, or change batch_size or accumulate"
            )

    def sharing(self, sharding: str) -> DataParallel:
        """The same process, which with ``"fsdp"`` keeps a part of the weights; one without a group keeps all."""
        kind = ShardedParallel if sharding == "fsdp" and dist.is_initialized() else DataParallel
        return kind(self.rank, self.size, self.here)

    def average(self, module: nn.Module, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Make the gradients of ``module`` the means over all ranks, in place; the means of scalar ``terms``."""
        all_means([p.grad for p in module.parameters() if p.grad is not None])
        return dict(zip(terms, all_mean(torch.stack(list(terms.values()))), strict=True))

    def shard(self, task: SelfDistillation, optimizer: torch.optim.Optimizer) -> None:
        """Let this rank keep its part of equal weights and moments: here, all of them."""

    def generator(self, seed: int) -> torch.Generator:
        """A CPU generator of what each rank draws for itself; the first rank's is that of one process."""
        return torch.Generator().manual_seed(seed ^ self.rank)

    def largest(self, number: int) -> int:
        """The largest ``number`` of any rank; a rank that has died is noticed here, whatever the device."""
        return int(all_max(torch.tensor(float(number))))

    def number(self, own: int) -> int:
        """The first rank's ``own``."""
        value = torch.tensor(own)
        from_first([value])
        return int(value)

    def text(self, own: str) -> str:
        """The first rank's ``own``, not empty."""
        data = own.encode()
        sent = torch.zeros(self.number(len(data)), dtype=torch.uint8)
        if self.first:
            sent.copy_(torch.tensor(list(data), dtype=torch.uint8))
        from_first([sent])
        return bytes(sent.tolist()).decode()

    def alike(self, tensors: Iterable[Tensor]) -> None:
        """Fill ``tensors`` with the first rank's, in place."""
        from_first([tensor.detach() for tensor in tensors])

    def wait(self) -> None:
        """Return when every rank has come here."""
        all_sum(torch.zeros(()))


@dataclass(frozen=True)
class ShardedParallel(DataParallel):
    """Each rank keeps a part of every weight, gradient, moment and teacher weight (FSDP2).

    A block's weights are whole on a rank while it computes them, and are gathered once more for its backward pass.
    """

    def shard(self, task: SelfDistillation, optimizer: torch.optim.Optimizer) -> None:
        """Take this rank's part of weights and moments that are equal on all ranks, in place."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        names = {parameter: name for name, parameter in task.student.named_parameters()}
        mesh = init_device_mesh(next(iter(names)).device.type, (self.size,))
        for network in (task.student, task.teacher):
            for unit in (*network.backbone.blocks, network.dino_head, network.ibot_head):
                if unit is not None:
                    fully_shard(unit, mesh=mesh)
        fully_shard(task, mesh=mesh)
        parts = dict(task.student.named_parameters())
        for group in optimizer.param_groups:
            group["params"] = [parts[names[parameter]] for parameter in group["params"]]
        for parameter, name in names.items():
            if state := optimizer.state.pop(parameter, None):
                optimizer.state[parts[name]] = {key: _part(value, parts[name]) for key, value in state.items()}

    def average(self, module: nn.Module, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The means of scalar ``terms``; the gradients are means since the backward pass."""
        return super().average(nn.Module(), terms)


def whole(tensor: Tensor) -> Tensor:
    """All of ``tensor``, of which each rank may keep a part; every rank has to ask for it."""
    full = getattr(tensor, "full_tensor", None)
    return full() if full else tensor


def _part(value: Tensor, like: Any) -> Tensor:
    """This rank's part of a moment, cut as its parameter; AdamW's count of steps as it is."""
    from torch.distributed.tensor import distribute_tensor

    if value.shape != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


ALONE = DataParallel()
_store: dist.Store | None = None


@contextmanager
def together(on_gpu: bool, sharding: str = "none") -> Iterator[DataParallel]:
    """Join the processes that ``torchrun`` started, each with its own GPU; alone without it.

    One process alone makes a group of one where ``sharding`` is ``"fsdp"``.

    When the block ends in order, all end it; when it fails, one line for all: the first process to fail raises its
    error, the others, which miss it where they would meet, raise ``SystemExit(2)``.
    """
    parallel = _join(on_gpu, sharding)
    try:
        yield parallel
        parallel.wait()
    except BaseException as error:
        if parallel.size > 1 and isinstance(error, Exception) and not _first_to_fail():
            raise SystemExit(2) from None
        raise


def _join(on_gpu: bool, sharding: str) -> DataParallel:
    global _store
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if "TORCHELASTIC_RUN_ID" not in os.environ or (size == 1 and sharding == "none"):
        return ALONE
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    if not dist.is_initialized():
        own_gpus = on_gpu and here <= torch.cuda.device_count()
        _store, number, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if own_gpus else "gloo", store=_store, rank=number, world_size=size, timeout=PATIENCE
        )
        atexit.register(dist.destroy_process_group)
    return DataParallel(rank(), world_size(), here)


def _first_to_fail() -> bool:
    """Whether no other process of the run has failed before."""
    try:
        return _store is None or _store.add(FAILED, 1) == 1
    except RuntimeError:  # the process that keeps the store has ended
        return True
