"""Checkpoints that are whole or absent, safetensors with digests: nothing in them is ever unpickled or run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from raddino.errors import RaddinoError
from raddino.files import draft_folder, remove_folder, remove_left
from raddino.ssl import SelfDistillation
from raddino.sums import SUMS, sums_hold, write_sums
from raddino.training.parallel import whole
from raddino.vit import VisionTransformer, VitConfig
from raddino.vit.weights import Backbone, check_finite

TASK, OPTIMIZER = "task.safetensors", "optimizer.safetensors"
_STEP = re.compile(r"step_(\d{1,18})")
_ADAM_KEYS = ("step", "exp_avg", "exp_avg_sq")
_BACKBONE, _GRAM = "teacher.backbone.", "gram.teacher."
_OPTIONAL = ("student.guides.", "guides.", "student.gradients.", "gradients.")
"""Of the task, and of its moments."""


def latest_step(folder: Path) -> int | None:
    """Number of the newest checkpoint in ``checkpoints/``, None without one; what has its name is whole."""
    return max(_steps(folder), default=None)


def _steps(folder: Path) -> list[int]:
    """Steps of the checkpoints, ascending."""
    found = [_STEP.fullmatch(path.name) for path in folder.glob("step_*") if path.is_dir()]
    return sorted(int(match[1]) for match in found if match)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a ``step_N`` folder of a run, and not an encoder folder of such a name."""
    return path.is_dir() and _STEP.fullmatch(path.name) is not None and not (path / "config.json").exists()


@dataclass
class Snapshot:
    """A training's state as it stood at one step, in memory of the host.

    Attributes:
        task: student, teacher and centres by name.
        moments: AdamW's state by parameter name.
    """

    task: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)

    def take(self, task: SelfDistillation, optimizer: torch.optim.Optimizer, hold: bool = True) -> Self:
        """Copy the state as it stands over what is held; without ``hold`` only help other ranks to theirs."""
        for held, tensors in ((self.task, task.state_dict()), (self.moments, _moments(task.student, optimizer))):
            for name, part in tensors.items():
                tensor = whole(part.detach())
                if hold and name not in held:
                    held[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                if hold:
                    held[name].copy_(tensor, non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return self

    def backbone(self, vit: VitConfig) -> VisionTransformer:
        """The teacher's backbone, of the shape ``vit``."""
        return Backbone(vit, _backbone(self.task), None).build()


class Saver:
    """Saves beside the training, one at a time: the caller waits for the copy of the state, and for an earlier save.

    A save that has begun is finished, however the block that holds the saver ends.

    Args:
        write: what is done with the step and its snapshot, in a thread; None on ranks that write nothing.
    """

    def __init__(self, write: Callable[[int, Snapshot], None] | None) -> None:
        self._write, self._snapshot = write, Snapshot()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._thread.shutdown()

    def save(self, step: int, task: SelfDistillation, optimizer: torch.optim.Optimizer) -> None:
        """Begin to save the state after ``step`` optimiser steps. Raises what an earlier save raised."""
        self.wait()
        state = self._snapshot.take(task, optimizer, hold=self._write is not None)
        if self._write is not None:
            self._running = self._thread.submit(self._write, step, state)

    def check(self) -> None:
        """Raise what a save raised; wait for none."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Return when what was saved is on the disk. Raises what the save raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


def save_checkpoint(folder: Path, step: int, state: Snapshot, keep: int, keep_every: int | None = None) -> None:
    """Write ``step_N`` and, once it is on the disk, remove those that need not stay.

    Args:
        folder: ``run/checkpoints``.
        step: optimiser steps done.
        state: what is saved.
        keep: how many of the newest checkpoints stay, at least 1.
        keep_every: checkpoints of multiples of so many steps stay too.

    Raises:
        UnwritableError: no space, no rights; earlier checkpoints are as they were.
    """
    with draft_folder(folder / f"step_{step}") as draft:
        save_file(state.task, draft / TASK)
        save_file(state.moments, draft / OPTIMIZER)
        write_sums(draft)
        for path in (*draft.iterdir(), draft):
            _flush(path)
    _flush(folder)
    tidy(folder, keep, keep_every)


def tidy(folder: Path, keep: int, keep_every: int | None = None) -> None:
    """Remove checkpoints that need not stay (:func:`save_checkpoint`), and what killed processes left unfinished."""
    remove_left(folder)
    for old in _steps(folder)[:-keep]:
        if not keep_every or old % keep_every:
            remove_folder(folder / f"step_{old}")


def load_checkpoint(folder: Path, step: int, task: SelfDistillation, optimizer: torch.optim.Optimizer) -> None:
    """Fill task and optimiser from ``step_N``, in place.

    Raises:
        RaddinoError: the checkpoint is damaged, of an earlier version, or holds another network.
    """
    path = folder / f"step_{step}"
    moments = _moments(task.student, optimizer)
    _check(path)
    _fill(task.state_dict(), path / TASK)
    _fill(moments, path / OPTIMIZER)
    _install(moments, task.student, optimizer)


def training_state(task: SelfDistillation, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All tensors that training changes, as they stand in task and optimiser; moments are made where there are none."""
    moments = _moments(task.student, optimizer)
    _install(moments, task.student, optimizer)
    return [*task.state_dict().values(), *moments.values()]


def checkpoint_backbone(path: Path, vit: VitConfig) -> Backbone:
    """The teacher's backbone in a ``step_N`` folder of a run whose network has the shape ``vit``.

    Raises:
        RaddinoError: the checkpoint is damaged, of an earlier version, or holds another network.
    """
    _check(path)
    with _opened(path / TASK) as held:
        names = [name for name in held.keys() if name.startswith(_BACKBONE)]  # noqa: SIM118
        backbone = Backbone(vit, _backbone({name: held.get_tensor(name) for name in names}), None)
        backbone.check()
        check_finite(path.name, backbone.state.items())
    return backbone


def _backbone(task: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The teacher's backbone of a task's tensors, under the backbone's own names."""
    return {name.removeprefix(_BACKBONE): value for name, value in task.items() if name.startswith(_BACKBONE)}


def _check(path: Path) -> None:
    """Refuse a folder that is not, byte for byte, what :func:`save_checkpoint` wrote."""
    if not (path / SUMS).exists() and (path / ".metadata").exists():
        raise RaddinoError(
            f"checkpoint {path} is of an earlier version, a pickle that could run code and is not read: "
            f"start another run with --init {path.parents[1] / 'encoder'}"
        )
    if not sums_hold(path) or not {TASK, OPTIMIZER} <= {file.name for file in path.iterdir()}:
        raise _damaged(path, f"damaged: its files are not those of {SUMS}")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A safetensors file of a checkpoint; whatever does not fit, inside too, as one line."""
    try:
        with safe_open(file, "pt") as held:
            yield held
    except (SafetensorError, OSError, ValueError, RaddinoError) as error:
        raise _damaged(file.parent, " ".join(str(error).split())[:200]) from None


def _damaged(path: Path, words: str) -> RaddinoError:
    return RaddinoError(f"checkpoint {path} cannot be loaded ({words}): delete it to continue from the one before")


def _fill(own: Mapping[str, Tensor], file: Path) -> None:
    """Copy a file of exactly these tensors into them, in place.

    The teacher is the Gram teacher of one without it; the student's further heads stay as they are if it lacks them.
    """
    with _opened(file) as held:
        names = set(held.keys())
        if any(not name.startswith((_GRAM, *_OPTIONAL)) for name in own.keys() ^ names):
            raise ValueError("it holds another network")
        for name, tensor in own.items():
            if name not in names and name.startswith(_OPTIONAL):
                continue
            found = held.get_tensor(name if name in names else name.replace(_GRAM, _BACKBONE, 1))
            if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
                raise ValueError(f"it holds another network: {name} is {tuple(found.shape)}, not {tuple(tensor.shape)}")
            tensor.copy_(found)


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


def _install(moments: dict[str, Tensor], student: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let the optimiser hold ``moments``."""
    for name, parameter in student.named_parameters():
        optimizer.state[parameter] = {key: moments[f"{name}.{key}"] for key in _ADAM_KEYS}


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
