"""Training of an encoder with a linear head; rate and step are chosen on validation images, as of a probe."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from raddino.errors import RaddinoError
from raddino.features.forward import resolve_precision
from raddino.progress import bar
from raddino.tasks.fine_tuning.network import TunedNetwork, opened
from raddino.tasks.fine_tuning.settings import FineTuneConfig
from raddino.tasks.learning import batch_at, learning_groups, rate_at
from raddino.tasks.probes.base import ProbeConfig, Request, badness_of, loss_of
from raddino.views.randomness import generator, integer

if TYPE_CHECKING:
    from raddino.encoders.base import Encoder

KEPT = 2**30
"""Bytes of prepared images that stay in memory."""
TURN, SHIFT, SCALE, LIGHT = 10.0, 0.05, 0.1, 0.2
"""Most that training images are changed by: degrees, share of the side, share of the size, share of the contrast."""
Labelled = tuple[np.ndarray, np.ndarray]
"""Rows (N,) of images and targets (N, T): 0 and 1, one-hot rows, or numbers."""


@dataclass(frozen=True)
class Tuned:
    """Outputs of a trained encoder, and what was chosen.

    Attributes:
        val: (1, N, T) of the validation images.
        others: the same of each further group of images.
        learning_rate: chosen.
        step: after which the weights were best.
    """

    val: np.ndarray
    others: list[np.ndarray]
    learning_rate: float
    step: int


@dataclass(frozen=True)
class _Plan:
    """One learning rate's :class:`raddino.tasks.learning.Learning`."""

    lr: float
    steps: int
    warmup: int
    weight_decay: float
    layer_decay: float


def fine_tune(
    encoder: Encoder,
    config: FineTuneConfig,
    read: Callable[[int], np.ndarray],
    train: Labelled,
    val: Labelled,
    others: Sequence[np.ndarray],
    probe: ProbeConfig,
    request: Request,
    precision: str = "fp32",
) -> Tuned:
    """Train an encoder with a head, and leave it as it was.

    Args:
        encoder: one of which :func:`~raddino.tasks.fine_tuning.network.why_not` says nothing.
        config: what is trained, and how.
        read: a grey image (H, W) by its row.
        train, val: labelled images.
        others: rows (N,) of groups of images to predict.
        probe: says by what features and criterion.
        request: loss, seed and the names of the outputs.
        precision: ``"fp32"``, ``"bf16"`` or ``"auto"``.

    Raises:
        RaddinoError: the encoder cannot be trained in this way, or every learning rate diverged.
    """
    inputs = _Inputs(encoder, read)
    y, val_y = torch.as_tensor(train[1], dtype=torch.float32), torch.as_tensor(val[1], dtype=torch.float32)
    mean, unit = _units(y, request)
    rule = probe.rule(request.loss)
    best: tuple[float, float, int, dict[str, Tensor]] = (math.inf, 0.0, 0, {})
    level = config.method == "lora" or encoder.provenance.supervision == "none"
    with opened(encoder, config, request.seed) as trunk:
        network = TunedNetwork(encoder, trunk, probe.features, y.shape[1], resolve_precision(precision, encoder))
        start = _copied(network)
        total = len(config.learning_rates) * config.steps
        with bar(f"train {encoder.name}, {config.words}", total=total) as shown:
            for rate in config.learning_rates:
                network.load_state_dict(start, strict=False)
                network.set_bias(_first_bias(y, request))
                decay = 1.0 if level else config.layer_decay
                plan = _Plan(rate, config.steps, config.warmup, config.weight_decay, decay)
                optimizer = torch.optim.AdamW(learning_groups(network, plan), lr=rate)
                least, stale, done = math.inf, 0, 0
                with _batches(inputs, train[0], config, request.seed) as batches:
                    for step, (at, batch) in enumerate(batches):
                        target = ((y[at] - mean) / unit).to(network.device)
                        _step(network, optimizer, plan, step, batch, target, config, request)
                        done = step + 1
                        shown.advance()
                        if done % config.evaluate_every and done < config.steps:
                            continue
                        output = network.outputs(inputs, val[0], config.batch_size) * unit + mean
                        found = float(badness_of(output[:, None], val_y, request.loss, rule).nanmean())
                        found = found if math.isfinite(found) else math.inf
                        stale = 0 if found < least else stale + 1
                        least = min(least, found)
                        if found < best[0]:
                            best = (found, rate, done, _copied(network))
                        if stale >= config.patience or math.isinf(found):
                            break
                shown.advance(config.steps - done)
        if not best[3]:
            raise RaddinoError(f"{encoder.name}: every learning rate diverged; give lower learning_rates")
        network.load_state_dict(best[3], strict=False)
        found_of = [
            (network.outputs(inputs, rows, config.batch_size) * unit + mean).double().numpy()[None]
            for rows in (val[0], *others)
        ]
    return Tuned(found_of[0], found_of[1:], best[1], best[2])


def _step(
    network: TunedNetwork,
    optimizer: torch.optim.Optimizer,
    plan: _Plan,
    step: int,
    batch: Tensor,
    target: Tensor,
    config: FineTuneConfig,
    request: Request,
) -> None:
    network.train()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(integer(request.seed, "drop_path", step))
        if config.augment:
            batch = moved(batch, generator(request.seed, "views", step))
        loss = loss_of(network(batch.to(network.device)), target, request.loss).mean()
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * rate_at(step, plan)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def moved(batch: Tensor, random: np.random.Generator) -> Tensor:
    """Images (B, C, H, W) each turned, moved, scaled and lit anew, within :data:`TURN` and the like; edges repeated."""
    turn, right, down, scale, light, shift = random.uniform(-1, 1, (6, len(batch)))
    angle, size = np.radians(TURN * turn), 1 + SCALE * scale
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    rows = [[cosine, -sine, 2 * SHIFT * right], [sine, cosine, 2 * SHIFT * down]]
    theta = torch.as_tensor(np.array(rows).transpose(2, 0, 1), dtype=batch.dtype)
    grid = nn.functional.affine_grid(theta, list(batch.shape), align_corners=False)
    turned = nn.functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    gain, offset = (torch.as_tensor(one, dtype=batch.dtype)[:, None, None, None] for one in (1 + LIGHT * light, shift))
    return turned * gain + LIGHT * offset


class _Inputs:
    """Prepared images by row, on the CPU; as many as fit into :data:`KEPT` stay in memory."""

    def __init__(self, encoder: Encoder, read: Callable[[int], np.ndarray]) -> None:
        self.encoder, self.read = encoder, read
        self.kept: dict[int, Tensor] = {}
        self.bytes = 0

    def __call__(self, rows: np.ndarray) -> Tensor:
        """(B, C, S, S) of rows (B,)."""
        missing = [row for row in dict.fromkeys(rows.tolist()) if row not in self.kept]
        made: dict[int, Tensor] = {}
        if missing:
            made = dict(zip(missing, self.encoder.preprocess([self.read(row) for row in missing]), strict=True))
            for row, image in made.items():
                if self.bytes + image.nbytes <= KEPT:
                    self.kept[row] = image.clone()
                    self.bytes += image.nbytes
        return torch.stack([made[row] if row in made else self.kept[row] for row in rows.tolist()])


@contextmanager
def _batches(
    inputs: _Inputs, rows: np.ndarray, config: FineTuneConfig, seed: int
) -> Iterator[Iterator[tuple[np.ndarray, Tensor]]]:
    """Positions and prepared images of each step, the next read while one is used."""

    def read(step: int) -> tuple[np.ndarray, Tensor]:
        at = batch_at(len(rows), step, config.batch_size, seed)
        return at, inputs(rows[at])

    def every() -> Iterator[tuple[np.ndarray, Tensor]]:
        ahead = pool.submit(read, 0)
        for step in range(config.steps):
            batch = ahead.result()
            if step + 1 < config.steps:
                ahead = pool.submit(read, step + 1)
            yield batch

    with ThreadPoolExecutor(1) as pool:
        yield every()


def _units(y: Tensor, request: Request) -> tuple[Tensor, Tensor]:
    """Mean and SD (T,) that numbers are trained in; 0 and 1 for classes."""
    if request.loss != "squared":
        return torch.zeros(y.shape[1]), torch.ones(y.shape[1])
    spread = y.std(0, correction=0)
    return y.mean(0), torch.where(spread > 0, spread, 1.0)


def _first_bias(y: Tensor, request: Request) -> Tensor:
    """(T,) with which the head says what is as frequent as in training."""
    if request.loss == "squared":
        return torch.zeros(y.shape[1])
    share = (y.sum(0) + 0.5) / (len(y) + 1)
    return share.log() if request.loss == "softmax" else share.logit()


def _copied(network: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that take gradients, and buffers."""
    trained = {name: one for name, one in network.named_parameters() if one.requires_grad}
    return copy.deepcopy({name: one.detach() for name, one in (*trained.items(), *network.named_buffers())})


def record(config: FineTuneConfig, probe: ProbeConfig, request: Request, tuned: Tuned) -> dict[str, Any]:
    """What a row of results says of the training."""
    told = {"method": config.words, "learning_rate": tuned.learning_rate, "step": tuned.step}
    return {"probe": "fine_tune", "features": probe.features, "criterion": probe.rule(request.loss)} | told
