"""What one process of a ``torchrun`` does for ``test_parallel.py``; alone, the same on whole micro-batches."""

import os
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import torch

from raddino.corpus.dataset import Corpus
from raddino.errors import RaddinoError, UnwritableError
from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.ssl.guides import Guide
from raddino.training import loop, memory
from raddino.training.checkpoint import latest_step
from raddino.training.monitor import assignments
from raddino.training.optimizer import OptimConfig, build_optimizer
from raddino.training.parallel import DataParallel, ShardedParallel, together, whole
from raddino.training.schedule import StepValues
from raddino.training.step import train_step
from raddino.vit import VitConfig

STEPS, LOCAL = 5, 2
VALUES = StepValues(**{field.name: 0.0 for field in fields(StepValues)})
HEAD = {"prototypes": 24, "hidden": 16, "bottleneck": 8}
KINDS = {"none": DataParallel, "fsdp": ShardedParallel}
GUIDES = (Guide("age", True, 1), Guide("maker", False, 3))
COLD = 0.012
"""A temperature at which Sinkhorn-Knopp is in float64."""
CASES = {  # each pair of settings meets once
    f"{centering}, {micro} x {images}, {dtype}": (centering, temperature, micro, images, dtype)
    for centering, temperature, micro, images, dtype in (
        ("softmax", 0.02, 1, 12, "float64"),
        ("softmax", 0.02, 2, 6, "float32"),
        ("sinkhorn_knopp", COLD, 2, 6, "float64"),
        ("sinkhorn_knopp", COLD, 1, 12, "float32"),
    )
}


def train(centering, temperature, micro, images, dtype, parallel):
    """Terms and gradient norms of five steps, the task and AdamW's means after them, and masked patches met."""
    vit = VitConfig(embed_dim=16, depth=2, num_heads=2, patch_size=4, image_size=16, layerscale_init=0.5)
    options = {"kde_weight": 0.1, "gram": {"weight": 1.0}, "guide_ramp_steps": 3, "guide_hidden": 8}
    config = SslConfig(head=HEAD, ibot_head=HEAD, centering=centering, **options)
    task = SelfDistillation(vit, config, GUIDES).init_weights(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in task.student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    task = task.reset_teacher().to(getattr(torch, dtype)).train()
    optimizer = build_optimizer(task.student, OptimConfig())
    parallel.shard(task, optimizer)
    values = replace(
        VALUES, lr=1e-3, backbone_lr=1e-3, last_layer_lr=1e-3, weight_decay=0.1, momentum=0.9,
        teacher_temperature=temperature,
    )  # fmt: skip
    figures, masked = [], []
    for step in range(STEPS):
        shares = [share(images, generator, getattr(torch, dtype), parallel) for _ in range(micro)]
        outcome = train_step(task, optimizer, shares, len(shares), replace(values, step=step), 3.0, parallel=parallel)
        figures.append({name: value.item() for name, value in (outcome.terms | outcome.grad_norms).items()})
        if dtype == "float32":  # as they are computed
            figures[-1] |= assignments(outcome, config.student_temperature)
        masked += [len(views.masked_rows) for views in shares]
    means = {f"{name}.mean": optimizer.state[p]["exp_avg"] for name, p in task.student.named_parameters()}
    kept = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in task.parameters())
    return figures, {name: whole(tensor) for name, tensor in (task.state_dict() | means).items()}, masked, kept


def share(images, generator, dtype, parallel):
    """This rank's views of a micro-batch drawn whole; the last third of the images has no mask."""
    crops = torch.randn(2, images, 1, 16, 16, generator=generator)
    small = torch.randn(LOCAL, images, 1, 8, 8, generator=generator)
    masks = torch.rand(2, images, 16, generator=generator) < 0.3
    masks[:, -(images // 3) :] = False
    known = torch.rand(images, 2, generator=generator) < 0.6
    values = torch.stack([torch.randn(images, generator=generator), torch.arange(images) % 3], 1)
    targets = torch.stack([values * known, known * torch.rand(images, 2, generator=generator)], 2)
    own = slice(parallel.rank * images // parallel.size, (parallel.rank + 1) * images // parallel.size)
    parts = [part[:, own].flatten(0, 1) for part in (crops, small, masks)]
    return Views.build(parts[0].to(dtype), parts[1].to(dtype), parts[2], targets=targets[own])


def steps(out):
    """Every case, its results in files."""
    with together(on_gpu=False) as parallel:
        for sharding, kind in KINDS.items():
            for name, case in CASES.items():
                found = train(*case, kind(parallel.rank, parallel.size, parallel.here))
                torch.save(found, Path(out) / f"{sharding}, {name}, rank {parallel.rank}.pt")


def damaged():
    """The second rank cannot read an image."""

    def read(self, row):
        raise RaddinoError("shard x is damaged")

    if os.environ["RANK"] == "1":
        Corpus.read = read


def poisoned():
    """The second rank's loss is not a number."""
    real = SelfDistillation.forward

    def forward(self, *arguments):
        losses = real(self, *arguments)
        losses.total = losses.total * float("nan")
        return losses

    if os.environ["RANK"] == "1":
        SelfDistillation.forward = forward


def full():
    """The disk is full when the first rank saves, in its thread."""

    def save(folder, step, *arguments):
        raise UnwritableError(f"{folder}/step_{step} cannot be written (No space left on device)")

    loop.save_checkpoint = save


def slow():
    """The first rank takes a second longer to save; another one that does not wait for it says so."""
    really_save, really_run = loop.save_checkpoint, loop.Loop.run

    def save(*arguments):
        time.sleep(1)
        really_save(*arguments)

    def run(self, *arguments):
        try:
            really_run(self, *arguments)
        except KeyboardInterrupt:
            if latest_step(self.checkpoints) is None:
                print("left before the checkpoint", file=sys.stderr)
            raise

    loop.save_checkpoint, loop.Loop.run = save, run


def cramped():
    """As much memory is free as the environment says; who shares weights out says so."""
    really_shard = ShardedParallel.shard

    def shard(self, *arguments):
        print("shares weights out", file=sys.stderr)
        really_shard(self, *arguments)

    ShardedParallel.shard = shard
    memory.PROCESS, memory.LEAN_SLACK = 0, memory.SLACK
    memory.free_of_machine = lambda: int(os.environ["FREE"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    job, *arguments = sys.argv[1:]
    if job == "steps":
        steps(*arguments)
    else:
        jobs = {"damaged": damaged, "poisoned": poisoned, "full": full, "slow": slow, "cramped": cramped}
        jobs.get(job, lambda: None)()
        from raddino import cli

        sys.argv = ["raddino", *arguments]
        cli.main()
