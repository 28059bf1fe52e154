"""``raddino plan``: what a pre-training run takes, before it is begun."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raddino.corpus.dataset import Corpus
from raddino.device import resolve_device
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation
from raddino.training.blocks import decided, fixed_rows, prepare_blocks
from raddino.training.cost import StepCost
from raddino.training.hardware import ACCELERATORS, parse_hardware
from raddino.training.loader import Batch, make_views
from raddino.training.memory import Room, advice, shortage
from raddino.training.optimizer import build_optimizer
from raddino.training.parallel import ALONE, DataParallel
from raddino.training.pretrain import computing_precision, training_rows
from raddino.training.schedule import Schedule
from raddino.training.settings import PretrainConfig
from raddino.training.step import train_step
from raddino.views import Multicrop, ViewPlan
from raddino.views.masks import batch_masks
from raddino.vit import VisionTransformer

SHARE = 0.3
"""Of the peak rate, where nothing was measured: an assumption."""
ASPECT = 1.2
"""Longer to shorter side of an image, where there is no corpus: an assumption."""
TIMED_STEPS = 3
STEP_FLOPS = {"cpu": 1e12, "cuda": 5e13}
"""About the most that a timed step computes: seconds on a small machine."""


@dataclass(frozen=True)
class Plan:
    """What a run takes; bytes, seconds and floating-point operations unless the name says otherwise.

    Attributes:
        images: that it trains on; None where no corpus and no number was given.
        cost: of one device's share of a micro-batch.
        flops: of the whole run.
        needed: memory of one device.
        devices, device, memory: how many, of which name, with how much memory each.
        advice: what does not fit and what to change, in words; empty where all fits.
        checkpoints, encoders, corpus: on disk; ``corpus`` is None where ``images`` is.
        read, pixels: a second, that the loader must read (compressed) and hand on (decoded).
        rate: images a second of all devices together.
        rate_from, images_from: where these come from, in words.
        watts: of all devices together; None where nobody said.
    """

    steps: int
    samples: int
    images: int | None
    cost: StepCost
    flops: float
    needed: float
    devices: int
    device: str
    memory: float
    advice: str
    checkpoints: float
    encoders: float
    corpus: float | None
    read: float
    pixels: float
    rate: float
    rate_from: str
    images_from: str
    watts: float | None

    @property
    def epochs(self) -> float | None:
        """Times that each image is seen."""
        return self.samples / self.images if self.images else None

    @property
    def hours(self) -> float:
        """Of training itself: no look of the monitor, no checkpoint, no waiting."""
        return self.samples / self.rate / 3600

    @property
    def energy_kwh(self) -> float | None:
        """At ``watts`` throughout."""
        return None if self.watts is None else self.hours * self.watts / 1000


def plan(
    config: PretrainConfig,
    corpus: Corpus | Path | str | None = None,
    *,
    hardware: str | None = None,
    images: int | None = None,
    share: float | None = None,
    watts: float | None = None,
    device: str = "auto",
) -> Plan:
    """Count what a run computes and holds, and tell how long it takes.

    Args:
        config: of the run.
        corpus: what it trains on; None for a plan before there is one.
        hardware: ``NAMExNUMBER`` of :data:`~raddino.training.hardware.ACCELERATORS`; None measures this machine.
        images: to train on, instead of a corpus.
        share: of the hardware's peak rate that is reached; None assumes 0.3.
        watts: of one device, instead of the table's; nothing is known of this machine's.
        device: where to measure.

    Raises:
        ConfigError: unknown hardware, a micro-batch that its number does not share evenly, options that exclude each
            other, or a network that this machine cannot hold.
        RaddinoError: a corpus that cannot be read, or is smaller than a batch.
    """
    if corpus is not None and images is not None:
        raise ConfigError("give a corpus or --images, not both")
    if images is not None and images < config.batch_size:
        raise ConfigError(f"--images {images} are fewer than batch_size {config.batch_size}")
    if share is not None and (hardware is None or not 0 < share <= 1):
        raise ConfigError("--share goes with --hardware and is more than 0 and at most 1")
    if watts is not None and not watts > 0:
        raise ConfigError(f"--watts is more than 0, got {watts:g}")
    stored, pixels, images_from = 0.0, 0.0, ""
    if corpus is None:
        stored = pixels = config.views.global_size**2 * ASPECT
        images_from = (
            f"assumed: shorter side {config.views.global_size}, longer {ASPECT:g} times as long, 1 byte a pixel"
        )
    else:
        corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
        rows = training_rows(corpus, config)
        table, images = corpus.manifest.iloc[rows], len(rows)
        stored = float(table["length"].mean())
        pixels = float((table["height"] * table["width"]).mean()) * corpus.info["preparation"].get("bits", 8) / 8
        images_from = "mean of the corpus's training images"
    number = 1
    if hardware is not None:
        name, number = parse_hardware(hardware)
        DataParallel(0, number).check(config.batch_size, config.accumulate)
        chosen, reached = ACCELERATORS[name], SHARE if share is None else share
        room = Room(name, True, int(chosen.memory), number)
        compile = True if config.compile == "auto" else config.compile
        precision = "bf16" if config.precision == "auto" else config.precision
        config = config.model_copy(update={"precision": precision, "compile": compile})
        if config.precision != "bf16":
            raise ConfigError("the table of hardware holds rates of bf16: leave out --set precision")
        cost = room.cost(config)
        rate = number * chosen.flops * reached / (cost.flops / _share(config, number))
        said = "--share" if share is not None else "assumed, not measured"
        rate_from = f"{reached:.0%} ({said}) of {chosen.flops / 1e12:.0f} TFLOP/s in bf16 a device; {chosen.source}"
        watts = chosen.watts if watts is None else watts
    else:
        place = resolve_device(device)
        config = decided(config, place).model_copy(update={"precision": computing_precision(config.precision, place)})
        room = Room.here(place, ALONE)
        cost = room.cost(config)
        rate, rate_from = _measure(config, place, cost)
    with torch.device("meta"):
        written = VisionTransformer(config.vit.model_copy(update={"in_channels": 3}))  # as Transformers loads it
        encoder = sum(weight.numel() for weight in written.parameters()) * torch.float32.itemsize
    samples = config.steps * config.batch_size
    return Plan(
        steps=config.steps, samples=samples, images=images, cost=cost,
        flops=cost.flops / _share(config, number) * samples,
        needed=room.needed(config), devices=number, device=room.device, memory=room.free, advice=advice(config, room),
        checkpoints=cost.state_bytes * (_kept(config) + 1), encoders=2 * encoder,
        corpus=None if images is None else images * stored, read=rate * stored, pixels=rate * pixels,
        rate=rate, rate_from=rate_from, images_from=images_from, watts=None if watts is None else watts * number,
    )  # fmt: skip


def plan_text(made: Plan) -> str:
    """A plan as lines of what, how much, and where it comes from."""
    cost, one = made.cost, f"{made.devices} x {made.device}"
    epochs = "not told without a corpus or --images" if made.epochs is None else f"{made.epochs:,.1f}"
    known = f", each of {made.images:,} images {epochs} times" if made.images else f"; epochs: {epochs}"
    corpus = "" if made.corpus is None else f", corpus {_bytes(made.corpus)} ({made.images_from})"
    energy = "not told without --watts"
    if made.energy_kwh is not None:
        energy = f"{made.energy_kwh:,.1f} kWh at {made.watts:,.0f} W throughout, host and cooling not counted"
    rows = [
        ("steps", f"{made.steps:,}, {made.samples:,} samples{known}"),
        ("arithmetic", f"{_flops(made.flops)}, {_flops(made.flops / made.samples)} a sample, as counted in the step"),
        ("network", f"{cost.parameters / 1e6:,.1f} million weights in the student, heads included"),
        ("memory", f"{_bytes(made.needed)} a device at the peak, {_bytes(made.memory)} there"),
        ("storage", f"checkpoints {_bytes(made.checkpoints)}, encoders {_bytes(made.encoders)}{corpus}"),
        ("speed", f"{made.rate:,.1f} images/s on {one}: {made.rate_from}"),
        ("loader", f"reads {_bytes(made.read)}/s, hands on {_bytes(made.pixels)}/s; {made.images_from}"),
        ("time", f"{made.hours:,.2f} h, {made.hours * made.devices:,.1f} device hours, without looks and checkpoints"),
        ("energy", energy),
    ]  # fmt: skip
    if made.advice:
        rows.insert(4, ("", f"does not fit: {made.advice}"))
    return "\n".join(f"{what:<11}{said}" for what, said in rows)


def _kept(config: PretrainConfig) -> int:
    """Checkpoints that a finished run leaves."""
    saved = {*range(config.checkpoint_every, config.steps + 1, config.checkpoint_every), config.steps}
    newest = set(sorted(saved)[-config.keep_checkpoints :])
    return len(newest | {step for step in saved if config.keep_every and step % config.keep_every == 0})


def _share(config: PretrainConfig, ranks: int) -> int:
    """Images of one rank's share of a micro-batch."""
    return config.batch_size // config.accumulate // ranks


def _measure(config: PretrainConfig, place: torch.device, cost: StepCost) -> tuple[float, str]:
    """Images a second of a few real steps on random images, and how they were taken."""
    micro = _share(config, 1)
    images = max(2, min(micro, int(STEP_FLOPS.get(place.type, 1e12) // (cost.flops / micro))))
    room = Room.here(place, ALONE)
    small = config.model_copy(update={"batch_size": images, "accumulate": 1})
    if words := shortage(small, room):
        raise ConfigError(f"{words}: a plan for another machine takes --hardware, for example --hardware h100x8")
    task = SelfDistillation(config.vit, config.ssl).init_weights().to(place).train()
    prepare_blocks(task, config)
    optimizer, last = build_optimizer(task.student, config.optim), config.steps - 1
    values = Schedule(config.schedule, config.steps)[last]
    batch, multicrop, rows = random_batch(config, images), Multicrop(config.views), fixed_rows(small, images)
    seconds = []
    for _ in range(1 + TIMED_STEPS):
        begun = time.perf_counter()
        views = make_views(batch, multicrop, place, config.ssl.gram.size_at(last), rows)
        outcome = train_step(
            task, optimizer, [views], 1, values, config.optim.clip_grad, config.precision, torch.Generator()
        )
        outcome.terms["loss"].item()
        seconds.append(time.perf_counter() - begun)
    took = statistics.median(seconds[1:])
    return images / took, f"measured, {TIMED_STEPS} steps of {images} random images each in {config.precision}"


def random_batch(config: PretrainConfig, images: int) -> Batch:
    """A micro-batch of random grey values, with plans and masks as a run draws them."""
    height, width = config.views.global_size, round(config.views.global_size * ASPECT)
    pixels = np.random.default_rng(0).integers(0, 256, (images, height, width), dtype=np.uint8)
    plans = [ViewPlan.draw(config.views, height, width, 0, sample) for sample in range(images)]
    grid = (config.views.global_size // config.vit.patch_size,) * 2
    masks = np.zeros((2 * images, grid[0] * grid[1]), dtype=bool)
    if config.ssl.ibot_weight:
        masks = batch_masks(0, 0, 2 * images, grid, config.views.masks)
    return Batch(torch.from_numpy(pixels), ViewPlan.stack(plans), torch.from_numpy(masks))


def _flops(number: float) -> str:
    return _with_unit(number, "FLOP")


def _bytes(number: float) -> str:
    return _with_unit(number, "B")


def _with_unit(number: float, unit: str) -> str:
    for prefix in ("", "k", "M", "G", "T", "P"):
        if number < 1000:
            return f"{number:.3g} {prefix}{unit}"
        number /= 1000
    return f"{number:,.1f} E{unit}"
