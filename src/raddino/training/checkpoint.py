"""Checkpoints that are whole or absent: written aside, flushed, then renamed into place."""

from __future__ import annotations

import logging
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from raddino.errors import RaddinoError
from raddino.ssl import SelfDistillation
from raddino.vit import VisionTransformer, VitConfig
from raddino.vit.weights import Backbone

logging.getLogger("c10d-NullHandler-dcp_logger").disabled = True
_STEP = re.compile(r"step_(\d+)$")


def latest_step(folder: Path) -> int | None:
    """Number of the newest whole checkpoint in ``checkpoints/``, None without one."""
    return max(_steps(folder), default=None)


def _steps(folder: Path) -> list[int]:
    """Steps of the whole checkpoints, ascending; ``.metadata`` is what is written last."""
    found = [(_STEP.search(path.name), path) for path in folder.glob("step_*")]
    return sorted(int(match[1]) for match, path in found if match and (path / ".metadata").is_file())


def save_checkpoint(
    folder: Path, step: int, task: SelfDistillation, optimizer: torch.optim.Optimizer, keep: int
) -> None:
    """Write ``step_N`` (torch.distributed.checkpoint format) and remove all but the newest ``keep``.

    Args:
        folder: ``run/checkpoints``.
        step: optimiser steps done.
        task, optimizer: what is saved.
        keep: how many checkpoints stay, at least 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob("*.partial"):
        shutil.rmtree(leftover)
    partial = folder / f"step_{step}.partial"
    _quietly(dcp.save, _state(task, optimizer), partial)
    shutil.rmtree(folder / f"step_{step}", ignore_errors=True)
    os.replace(partial, folder / f"step_{step}")
    _flush(folder)
    for old in _steps(folder)[:-keep]:
        shutil.rmtree(folder / f"step_{old}")


def load_checkpoint(folder: Path, step: int, task: SelfDistillation, optimizer: torch.optim.Optimizer) -> None:
    """Fill task and optimiser from ``step_N``, in place.

    Raises:
        RaddinoError: the checkpoint cannot be read or holds another network.
    """
    state = _state(task, optimizer)
    _load(state, folder / f"step_{step}")
    task.load_state_dict(state["task"])
    for name, parameter in task.student.named_parameters():
        optimizer.state[parameter] = {key: state["optimizer"][f"{name}.{key}"] for key in _ADAM_KEYS}


def checkpoint_backbone(path: Path, vit: VitConfig) -> Backbone:
    """The teacher's backbone in a ``step_N`` folder of a run whose network has the shape ``vit``.

    Raises:
        RaddinoError: the checkpoint cannot be read or holds another network.
    """
    model = VisionTransformer(vit)
    state = {"task": {f"teacher.backbone.{name}": tensor for name, tensor in model.state_dict().items()}}
    _load(state, path)
    prefix = "teacher.backbone."
    return Backbone(vit, {name.removeprefix(prefix): tensor for name, tensor in state["task"].items()}, None)


def _load(state: dict[str, Any], path: Path) -> None:
    try:
        _quietly(dcp.load, state, path)
    except (Exception, CheckpointException) as error:  # the latter is no Exception
        raise RaddinoError(
            f"checkpoint {path} cannot be loaded ({type(error).__name__}); "
            "delete that folder to continue from the one before"
        ) from None


_ADAM_KEYS = ("step", "exp_avg", "exp_avg_sq")


def _state(task: SelfDistillation, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"task": task.state_dict(), "optimizer": _moments(task.student, optimizer)}


def _moments(student: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state by parameter name; zeros before its first step."""
    moments: dict[str, Tensor] = {}
    for name, parameter in student.named_parameters():
        fresh = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter.data),
            "exp_avg_sq": torch.zeros_like(parameter.data),
        }
        held = optimizer.state.get(parameter) or fresh
        moments |= {f"{name}.{key}": held[key] for key in _ADAM_KEYS}
    return moments


def _quietly(call: Any, state: dict[str, Any], path: Path) -> None:
    """Run a checkpoint call without its notices about running on a single process."""
    logger = logging.getLogger("torch.distributed.checkpoint")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(state, checkpoint_id=path)
    finally:
        logger.setLevel(level)


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
