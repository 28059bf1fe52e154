"""Whether a step fits the memory of its device, told before the first one, and what to change where it does not."""

from __future__ import annotations

import math
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from raddino.config import validate
from raddino.dist import all_max, rank
from raddino.errors import ConfigError
from raddino.training.cost import StepCost, count_weights, step_cost
from raddino.training.parallel import DataParallel
from raddino.training.settings import PretrainConfig

SLACK, PROCESS = 1.1, 200e6
"""What a process takes beside its tensors: a share of them and bytes (``benchmarks/memory.py`` measures both)."""
LEAN_SLACK = 2.1
"""On a CPU with activation checkpointing, under which the C library's heap keeps much of what was freed."""
SAVED = 1.5
"""On a CPU, of the state: the copy that is being saved, and the encoder made from it."""
CHANGED = ("activation_checkpointing", "accumulate")
"""Settings that :func:`fit` changes and a run keeps; what it chooses as ``sharding`` may be another next time."""


@dataclass(frozen=True)
class Room:
    """Memory that one rank has for its step.

    Attributes:
        device: its name.
        gpu: whether it is one.
        free: bytes.
        ranks: that share a micro-batch, each with as much room.
    """

    device: str
    gpu: bool
    free: int
    ranks: int = 1

    @classmethod
    def here(cls, place: torch.device, parallel: DataParallel) -> Room:
        """What this rank may still take on its device, which the ranks of one machine share."""
        if place.type != "cuda":
            return cls(str(place), False, free_of_machine() // parallel.here, parallel.size)
        kept = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        free = (torch.cuda.mem_get_info(place)[0] + kept) // math.ceil(parallel.here / torch.cuda.device_count())
        return cls(str(place), True, free, parallel.size)

    def cost(self, config: PretrainConfig) -> StepCost:
        """Of a rank's share of a micro-batch."""
        return step_cost(config, config.batch_size // config.accumulate // self.ranks, self.gpu)

    def needed(self, config: PretrainConfig) -> float:
        """Bytes that training takes beyond what the process holds before its network is made."""
        slack = LEAN_SLACK if config.activation_checkpointing and not self.gpu else SLACK
        saved = 0 if self.gpu else SAVED * self.cost(config).state_bytes
        return self.tensors(config) * slack + PROCESS + saved

    def tensors(self, config: PretrainConfig) -> float:
        """Bytes of a rank's tensors at the peak. What is shared out is whole at the start alone."""
        cost = self.cost(config)
        if config.sharding == "none" or self.ranks == 1:
            return cost.peak_bytes
        shared = (cost.state_bytes + cost.parameters * torch.float32.itemsize) * (1 - 1 / self.ranks)
        return max(cost.state_bytes, cost.peak_bytes - shared)


def fit(config: PretrainConfig, room: Room, change: bool) -> PretrainConfig:
    """The config, or one that fits the room of every rank.

    Args:
        config: with ``vit`` and ``precision`` decided.
        room: this rank's.
        change: turn on activation checkpointing and, where that is not enough, share weights out among several ranks,
            then make micro-batches smaller, which changes what is computed; else the config is never changed.

    Raises:
        ConfigError: the step's tensors alone need more than is free, or nothing that may be changed makes it fit.
    """
    if not change:
        if room.tensors(config) > room.free:
            raise ConfigError(advice(config, room))
        if words := shortage(config, room):
            print(f"note: {words}, which may not be enough: --fit makes it fit", file=sys.stderr, flush=True)
        return config
    ways = _ways(config, room.ranks)
    at = int(all_max(torch.tensor(float(_first_that_fits(ways, room)))))
    if at == len(ways):
        raise ConfigError(advice(config, room))
    if at and rank() == 0:
        less = room.needed(ways[at]) / 1e9
        print(f"fit: {shortage(config, room)}: {_said(config, ways[at])}: {less:.2f} GB", file=sys.stderr, flush=True)
    return ways[at]


def shortage(config: PretrainConfig, room: Room) -> str:
    """What a step needs and the room has, in words; empty where it fits."""
    needed, state = room.needed(config), room.cost(config).state_bytes
    if needed <= room.free:
        return ""
    return (
        f"a step needs about {needed / 1e9:.2f} GB ({state / 1e9:.2f} of them weights and "
        f"moments), {room.device} has {room.free / 1e9:.2f} free"
    )


def advice(config: PretrainConfig, room: Room) -> str:
    """What is short and what to change, in words; empty where the step fits."""
    words = shortage(config, room)
    if not words:
        return ""
    ways = _ways(config, room.ranks)
    at = _first_that_fits(ways, room)
    most = replace(room, ranks=config.batch_size)
    fits_shared = not shortage(ways[-1].model_copy(update={"accumulate": 1, "sharding": "fsdp"}), most)
    if at == len(ways):
        more = "start it on more GPUs or machines with sharding=fsdp, or " if fits_shared else ""
        return f"{words}: the smallest micro-batch does not fit either: {more}make vit, ssl.head or views smaller"
    others = "; or share the micro-batch with more GPUs or machines"
    shared = config.model_copy(update={"sharding": "fsdp"})
    if room.tensors(shared) < room.tensors(config):
        others += f"; or share the weights alone, sharding=fsdp: {room.needed(shared) / 1e9:.2f} GB"
    elif room.ranks == 1:
        others += ", and by sharding=fsdp, which needs several, the weights too"
    return f"{words}: --fit sets {_said(config, ways[at])}{others}"


def as_recorded(config: PretrainConfig, recorded: dict[str, Any], parallel: DataParallel) -> PretrainConfig:
    """The config with what an earlier :func:`fit` of the run chose, by its ``config.yaml`` that the first rank read.

    Raises:
        ConfigError: what it chose is not possible with this config.
    """
    chosen = {}
    for key in CHANGED:
        own, told = getattr(config, key), recorded.get(key)
        chosen[key] = type(own)(parallel.number(told if type(told) is type(own) else own))  # type: ignore[arg-type]
    validate(PretrainConfig, config.model_dump() | chosen)
    return config.model_copy(update=chosen)


def refuse_giant(config: PretrainConfig, place: torch.device) -> None:
    """Refuse a network whose weights, before any image, are more than the device holds; in no memory themselves.

    Raises:
        ConfigError: the device, or any machine, is too small.
    """
    try:
        weights, held = count_weights(config.vit, config.ssl)
    except (OverflowError, RuntimeError, TypeError):  # a size beyond 64 bits
        raise ConfigError("no machine holds a network of these sizes: make vit or ssl.head smaller") from None
    needed = held * torch.float32.itemsize
    if place.type == "cuda":
        there = torch.cuda.get_device_properties(place).total_memory
    else:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ConfigError(
            f"a network of {weights / 1e6:,.0f} million weights needs {needed / 1e9:,.0f} GB to train, {place} has "
            f"{there / 1e9:,.0f}: make vit or ssl.head smaller"
        )


def free_of_machine(root: Path = Path("/")) -> int:
    """Bytes that are free on this machine and in this process's control groups; all it has where it does not say."""
    meminfo, membership = root / "proc/meminfo", root / "proc/self/cgroup"
    if not meminfo.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free: float = int(re.findall(r"^MemAvailable:\s*(\d+) kB", meminfo.read_text(encoding="utf-8"), re.M)[0]) * 1024
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                free = min(free, _free_of_group(folder, *names))
    return max(int(free), 0)


def _free_of_group(folder: Path, limit: str, used: str, cache: str) -> float:
    """Bytes, infinity where there is no limit; file pages that the kernel gives back count as free."""
    try:
        most, taken = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return math.inf
    return math.inf if most == "max" else int(most) - int(taken) + int(stat.get(cache, 0))


def _ways(config: PretrainConfig, ranks: int) -> list[PretrainConfig]:
    """The config, then those that need ever less, what changes least first.

    With activation checkpointing, with the weights shared out among several ranks, with ever smaller micro-batches.
    """
    lean = config.model_copy(update={"activation_checkpointing": True})
    shared = lean.model_copy(update={"sharding": "fsdp"} if ranks > 1 else {})
    smaller = [
        shared.model_copy(update={"accumulate": count})
        for count in range(config.accumulate + 1, config.batch_size // 2 + 1)
        if config.batch_size % count == 0 and config.batch_size // count % ranks == 0
    ]
    ways = [config, lean, shared]
    return [way for at, way in enumerate(ways) if way not in ways[:at]] + smaller


def _first_that_fits(ways: list[PretrainConfig], room: Room) -> int:
    """Its number; that of all ways where none does."""
    return next((at for at, way in enumerate(ways) if not shortage(way, room)), len(ways))


def _said(config: PretrainConfig, other: PretrainConfig) -> str:
    """What differs, as one would set it."""
    words = [] if config.activation_checkpointing else ["activation_checkpointing=true (the same results, more time)"]
    if other.sharding != config.sharding:
        words.append("sharding=fsdp (the same but for rounding, more traffic between processes)")
    if other.accumulate != config.accumulate:
        before, after = (one.batch_size // one.accumulate for one in (config, other))
        words.append(
            f"accumulate={other.accumulate} (micro-batches of {after} images instead of {before}, which KoLeo, "
            "Sinkhorn-Knopp and masks see: docs/pretrain.md)"
        )
    return " and ".join(words)
