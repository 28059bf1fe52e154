"""Training on square targets: best validation Dice kept, and resumed to the bit from what each validation wrote.

Everything random is a function of (seed, step): the batch, the augmentation of its images, dropout. On one machine and
device a run that was interrupted ends with the weights of one that was not; on a GPU as far as its kernels allow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from raddino.errors import RaddinoError
from raddino.files import SEAL, UNSEALED, check_seal, draft_of, seal
from raddino.metrics import overlap
from raddino.metrics.ranking import ratio
from raddino.progress import bar
from raddino.tasks.learning import batch_at, learning_groups, rate_at
from raddino.tasks.segmentation.losses import one_hot, segmentation_loss
from raddino.tasks.segmentation.network import Network
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.targets import IGNORE
from raddino.views.randomness import integer

STATE = "state.safetensors"
AGAIN = "delete it, and training starts over"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Feed(Protocol):
    """Inputs and square targets of N images, by position."""

    def __len__(self) -> int: ...

    def read(self, at: np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Input of the network and bits (B, side, side) int32; changed as ``seeds`` (B,) say, None as they are."""
        ...

    def logits(self, network: Network, batch: Tensor) -> Tensor:
        """(B, C, h, w) of an input on the network's device."""
        ...


@dataclass
class Progress:
    """How far training is.

    Attributes:
        step: optimiser steps done.
        best, best_step: highest validation Dice and when.
        stale: validations since then.
        history: ``step``, ``loss`` (mean since the validation before) and ``dice`` of each validation.
    """

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def finished(self, options: SegmentationConfig) -> bool:
        """Whether all steps are done or patience is at its end."""
        return self.step >= options.steps or self.stale >= options.patience


def train(
    network: Network,
    feed: Feed,
    check: Feed,
    options: SegmentationConfig,
    *,
    folder: Path,
    key: str,
    seed: int = 0,
    device: torch.device,
    notify: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train what of ``network`` takes gradients, and leave it with the best weights.

    Args:
        network: its state dict is what is kept.
        feed, check: training and validation images.
        options: of the task.
        folder: keeps :data:`STATE`, from which the next call goes on.
        key: names data, settings and network; a state of another key is started over.
        seed: of batches, augmentation and dropout.
        device: of the network.
        notify: called after every validation, when the state is on disk.

    Raises:
        RaddinoError: the loss is not finite.
    """
    optimizer = torch.optim.AdamW(learning_groups(network, options), lr=options.lr)
    best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    progress = _resume(folder, key, network, optimizer, best) or Progress()
    losses: list[Tensor] = []
    with bar("train", total=options.steps, done=progress.step) as shown, _batches(feed, options, seed) as batches:
        while not progress.finished(options):
            batch, bits = next(batches(progress.step))
            losses.append(_step(network, optimizer, feed, (batch.to(device), bits.to(device)), options, seed, progress))
            progress.step += 1
            if progress.step % options.evaluate_every == 0 or progress.step == options.steps:
                loss = float(torch.stack(losses).mean())
                if not math.isfinite(loss):
                    raise RaddinoError(f"the loss is {loss} before step {progress.step}: lower lr (now {options.lr:g})")
                losses.clear()
                _keep_best(progress, loss, validate(network, check, options, device), network, best)
                _save(folder, key, progress, network, optimizer, best)
                notify(progress)
            shown.advance(text=f"validation Dice {progress.best:.3f}" if progress.history else "")
    network.load_state_dict(best)
    network.eval()
    return progress


@torch.inference_mode()
def validate(network: Network, feed: Feed, options: SegmentationConfig, device: torch.device) -> float:
    """Mean Dice of the square targets by the rule of ``dice`` in :mod:`raddino.tasks.segmentation.score`."""
    network.eval()
    found = []
    for start in range(0, len(feed), options.batch_size):
        at = np.arange(start, min(start + options.batch_size, len(feed)))
        batch, bits = feed.read(at)
        bits = bits.to(device)
        logits = feed.logits(network, batch.to(device)).float()
        logits = F.interpolate(logits, size=bits.shape[-2:], mode="bilinear", align_corners=False)
        predicted = decide(logits, options.exclusive)
        true, counted = one_hot(bits, predicted.shape[1]), (bits & IGNORE == 0)[:, None]
        pairs = (predicted & true & counted, predicted & counted, true & counted)
        found.append(torch.stack([one.sum((2, 3)) for one in pairs]).cpu().numpy())
    dice = overlap.dice(*np.concatenate(found, axis=1))
    of_images = ratio(np.nansum(dice, axis=1), np.isfinite(dice).sum(1))
    return float(np.nanmean(of_images)) if np.isfinite(of_images).any() else 0.0


def decide(logits: Tensor, exclusive: bool) -> Tensor:
    """(B, C, H, W) bool of logits: the likeliest of exclusive classes and background, else all above one half."""
    if not exclusive:
        return logits > 0
    classes = torch.arange(1, logits.shape[1], device=logits.device)[:, None, None]
    return logits.argmax(1, keepdim=True) == classes


@contextmanager
def _batches(
    feed: Feed, options: SegmentationConfig, seed: int
) -> Iterator[Callable[[int], Iterator[tuple[Tensor, Tensor]]]]:
    """Batches by step, the next one read while the last one is used."""

    def read(step: int) -> tuple[Tensor, Tensor]:
        first = step * options.batch_size
        seeds = np.array([integer(seed, "source", first + i) for i in range(options.batch_size)])
        return feed.read(batch_at(len(feed), step, options.batch_size, seed), seeds)

    with ThreadPoolExecutor(1) as pool:
        ahead: dict[int, Any] = {}

        def at(step: int) -> Iterator[tuple[Tensor, Tensor]]:
            now = ahead.pop(step, None) or pool.submit(read, step)
            if step + 1 < options.steps:
                ahead[step + 1] = pool.submit(read, step + 1)
            yield now.result()

        try:
            yield at
        finally:
            pool.shutdown(cancel_futures=True)


def _step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    batch: tuple[Tensor, Tensor],
    options: SegmentationConfig,
    seed: int,
    progress: Progress,
) -> Tensor:
    network.train()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(integer(seed, "drop_path", progress.step))
        logits = feed.logits(network, batch[0])
        loss = segmentation_loss(logits, batch[1], options.exclusive, options.loss)
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * rate_at(progress.step, options)
        optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
    return loss.detach()


def _keep_best(progress: Progress, loss: float, dice: float, network: Network, best: dict[str, Tensor]) -> None:
    progress.history.append({"step": progress.step, "loss": loss, "dice": dice})
    progress.stale += 1
    if dice > progress.best:
        progress.best, progress.best_step, progress.stale = dice, progress.step, 0
        for name, tensor in network.state_dict().items():
            best[name].copy_(tensor)


def _save(
    folder: Path, key: str, progress: Progress, network: Network, optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
) -> None:  # fmt: skip
    tensors = {f"now.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for name, parameter in network.named_parameters():
        for moment in MOMENTS if parameter in optimizer.state else ():
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with draft_of(folder / STATE) as draft:
        save_file(whole, draft, metadata={"key": key, "progress": json.dumps(asdict(progress)), SEAL: UNSEALED})
        seal(draft)


def _resume(
    folder: Path, key: str, network: Network, optimizer: torch.optim.Optimizer, best: dict[str, Tensor]
) -> Progress | None:
    """Fill network, optimiser and best weights from the folder; None where it holds no state of this key and digest."""
    file = folder / STATE
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as held:
            about = held.metadata() or {}
            if about.get("key") != key or not check_seal(file, AGAIN):
                return None
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        network.load_state_dict(_part(tensors, "now."))
        for name, tensor in _part(tensors, "best.").items():
            best[name].copy_(tensor)
        for name, parameter in network.named_parameters():
            if f"exp_avg.{name}" in tensors:
                held_moments = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
                optimizer.state[parameter] = {
                    moment: tensor if moment == "step" else tensor.to(parameter.device)
                    for moment, tensor in held_moments.items()
                }
        return Progress(**json.loads(about["progress"]))
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError, OSError):
        raise RaddinoError(f"{file} is damaged: {AGAIN}") from None


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
