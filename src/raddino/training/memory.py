"""Whether a step fits the memory of its device, told before the first one, and what to change where it does not."""

from __future__ import annotations

import math
import os
import re
import sys
from bisect import bisect_left
from pathlib import Path
from typing import Any

import torch

from raddino.dist import all_max
from raddino.errors import ConfigError
from raddino.training.cost import StepCost, count_parameters, step_cost
from raddino.training.parallel import DataParallel
from raddino.training.settings import PretrainConfig

COPIES = 5
"""Of each weight in training: student, gradient, two moments, teacher."""
SLACK, PROCESS = 1.1, 200e6
"""What a process takes beside its tensors, a share of them and bytes (``benchmarks/memory.py`` measures both)."""
CHANGED = ("activation_checkpointing", "accumulate")
"""Settings that :func:`fit` changes."""


def needed_bytes(cost: StepCost) -> float:
    """Memory that training takes beyond what the process holds before its network is made."""
    return cost.peak_bytes * SLACK + PROCESS


def fit(config: PretrainConfig, place: torch.device, parallel: DataParallel, change: bool) -> PretrainConfig:
    """The config, or one that fits the memory of every rank's device.

    Args:
        config: with ``vit`` and ``precision`` decided.
        place: this rank's device.
        parallel: among which ranks a micro-batch is shared.
        change: turn on activation checkpointing and, where that is not enough, make micro-batches smaller, which
            changes what is computed; else the config is never changed.

    Raises:
        ConfigError: the step's tensors alone need more than is free, or nothing that may be changed makes it fit.
    """
    _refuse_giant(config, place)
    free, ways = free_memory(place, parallel.here), _ways(config, parallel.size)
    cost = _cost(config, place, parallel)
    if not change:
        if cost.peak_bytes > free:
            raise ConfigError(f"{_shortage(cost, place, free)}: {_remedy(ways, place, parallel, free)}")
        if needed_bytes(cost) > free:
            print(f"note: {_shortage(cost, place, free)}, which may not be enough: --fit", file=sys.stderr, flush=True)
        return config
    at = int(all_max(torch.tensor(float(_first_that_fits(ways, place, parallel, free)))))
    if at == len(ways):
        raise ConfigError(f"{_shortage(cost, place, free)}: {_remedy(ways, place, parallel, free)}")
    if at and parallel.first:
        less = needed_bytes(_cost(ways[at], place, parallel))
        print(f"fit: {_shortage(cost, place, free)}: {_said(config, ways[at])}: {less / 1e9:.2f} GB", file=sys.stderr)
    return ways[at]


def as_recorded(config: PretrainConfig, recorded: dict[str, Any], parallel: DataParallel) -> PretrainConfig:
    """The config with what an earlier :func:`fit` of the first rank's run chose (its ``config.yaml``)."""
    own = {key: recorded.get(key, getattr(config, key)) for key in CHANGED}
    chosen = {key: type(getattr(config, key))(parallel.number(int(value))) for key, value in own.items()}
    return config.model_copy(update=chosen)


def free_memory(place: torch.device, here: int = 1) -> int:
    """Bytes that this process may still take on its device, which ``here`` processes of the run share."""
    if place.type != "cuda":
        return free_of_machine() // here
    kept = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    return (torch.cuda.mem_get_info(place)[0] + kept) // math.ceil(here / torch.cuda.device_count())


def free_of_machine(root: Path = Path("/")) -> int:
    """Bytes that are free on this machine and in this process's control groups; all it has where it does not say."""
    meminfo = root / "proc/meminfo"
    if not meminfo.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free: float = int(re.findall(r"^MemAvailable:\s*(\d+) kB", meminfo.read_text(encoding="utf-8"), re.M)[0]) * 1024
    membership = root / "proc/self/cgroup"
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, used, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, cache = root / "sys/fs/cgroup/memory", "total_inactive_file"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                free = min(free, _free_of_group(folder, limit, used, cache))
    return int(free)


def _free_of_group(folder: Path, limit: str, used: str, cache: str) -> float:
    """Bytes, infinity where there is no limit; file pages that the kernel gives back count as free."""
    try:
        most, taken = ((folder / name).read_text(encoding="ascii").strip() for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except OSError:
        return math.inf
    return math.inf if most == "max" else int(most) - int(taken) + int(stat.get(cache, 0))


def _refuse_giant(config: PretrainConfig, place: torch.device) -> None:
    """Refuse a network whose weights, before any image, are more than the device holds; in no memory themselves."""
    try:
        weights = count_parameters(config.vit, config.ssl)
    except (OverflowError, RuntimeError, TypeError):  # a size beyond 64 bits
        raise ConfigError("no machine holds a network of these sizes: make vit or ssl.head smaller") from None
    needed = weights * COPIES * torch.float32.itemsize
    if place.type == "cuda":
        there = torch.cuda.get_device_properties(place).total_memory
    else:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ConfigError(
            f"a network of {weights / 1e6:,.0f} million weights needs {needed / 1e9:,.0f} GB to train, {place} has "
            f"{there / 1e9:,.0f}: make vit or ssl.head smaller"
        )


def _cost(config: PretrainConfig, place: torch.device, parallel: DataParallel) -> StepCost:
    return step_cost(config, config.batch_size // config.accumulate // parallel.size, gpu=place.type == "cuda")


def _ways(config: PretrainConfig, ranks: int) -> list[PretrainConfig]:
    """The config, then those that need ever less: with activation checkpointing, then ever smaller micro-batches."""
    lean = config.model_copy(update={"activation_checkpointing": True})
    smaller = [
        lean.model_copy(update={"accumulate": count})
        for count in range(config.accumulate + 1, config.batch_size // 2 + 1)
        if config.batch_size % count == 0 and config.batch_size // count % ranks == 0
    ]
    return [config, *([] if config.activation_checkpointing else [lean]), *smaller]


def _first_that_fits(ways: list[PretrainConfig], place: torch.device, parallel: DataParallel, free: int) -> int:
    return bisect_left(ways, True, key=lambda way: needed_bytes(_cost(way, place, parallel)) <= free)


def _shortage(cost: StepCost, place: torch.device, free: int) -> str:
    return (
        f"a step needs about {needed_bytes(cost) / 1e9:.2f} GB ({cost.state_bytes / 1e9:.2f} of them weights and "
        f"moments), {place} has {free / 1e9:.2f} free"
    )


def _remedy(ways: list[PretrainConfig], place: torch.device, parallel: DataParallel, free: int) -> str:
    at = _first_that_fits(ways, place, parallel, free)
    if at == len(ways):
        return "not even the smallest micro-batch fits: take more processes, or make vit, ssl.head or views smaller"
    return f"--fit chooses {_said(ways[0], ways[at])}; or take more processes, which share a micro-batch"


def _said(config: PretrainConfig, other: PretrainConfig) -> str:
    """What differs, as one would set it."""
    words = [] if config.activation_checkpointing else ["activation_checkpointing=true (the same results, more time)"]
    if other.accumulate != config.accumulate:
        before, after = (one.batch_size // one.accumulate for one in (config, other))
        words.append(
            f"accumulate={other.accumulate} (micro-batches of {after} images instead of {before}, which KoLeo, "
            "Sinkhorn-Knopp and masks see: docs/pretrain.md)"
        )
    return " and ".join(words)
