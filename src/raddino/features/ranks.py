"""The processes of one ``torchrun``: who is who, and waiting for one another."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

PATIENCE = timedelta(days=7)
"""How long a rank waits for the slowest; torchrun ends all when one fails."""


@dataclass(frozen=True)
class Ranks:
    """This process's ``rank`` among ``size``."""

    rank: int
    size: int

    def share(self, rows: np.ndarray) -> np.ndarray:
        """This rank's consecutive share of ``rows``."""
        return np.array_split(rows, self.size)[self.rank]

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self.size > 1:
            dist.barrier()


def join_ranks() -> Ranks:
    """Join the group that ``torchrun`` started, and use this process's own GPU; one rank alone without it.

    Call it before an encoder is loaded onto a GPU. A second call changes nothing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return Ranks(0, 1)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Ranks(dist.get_rank(), dist.get_world_size())
