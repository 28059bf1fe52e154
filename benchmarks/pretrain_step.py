"""Speed of the training step: images per second, and the share of this machine's matrix-product rate.

    python benchmarks/pretrain_step.py [--preset cpu-smoke] [--precision bf16 fp32] [--device cpu]
    python benchmarks/pretrain_step.py --profile    # where the time of a step goes, views included
    python benchmarks/pretrain_step.py --floor      # beside the time that products and memory take at least

The rate is that of plain ``linear`` products of the step's own widths in the same dtype, timed in the same
process between the steps. The step's arithmetic is that of ``raddino.training.cost`` (forward and backward, what
activation checkpointing repeats left out).

The floor is that arithmetic at that rate plus the bytes of ``memory_floor.least_bytes`` at the bandwidth of a triad of
768 MiB, timed between the steps likewise.
"""

import argparse
import statistics
import time
from unittest import mock

import torch
from memory_floor import Triad, least_bytes
from torch import nn
from where_time_goes import Clock, products_share

from raddino.config import load_config
from raddino.heap import kept_pages
from raddino.ssl import SelfDistillation, Views
from raddino.ssl import task as ssl_task
from raddino.ssl.centering import SinkhornKnopp, SoftmaxCentering
from raddino.ssl.head import ProjectionHead, Prototypes
from raddino.training import step as training_step
from raddino.training.blocks import decided, fixed_rows, prepare_blocks
from raddino.training.cost import step_cost
from raddino.training.loader import make_views
from raddino.training.optimizer import build_optimizer
from raddino.training.plan import random_batch
from raddino.training.pretrain import PretrainConfig
from raddino.training.schedule import Schedule, StepValues
from raddino.training.step import train_step
from raddino.views import Multicrop
from raddino.views.masks import batch_masks
from raddino.vit import attention as vit_attention
from raddino.vit.attention import Attention
from raddino.vit.block import Mlp, SwiGlu
from raddino.vit.model import VisionTransformer

ROUNDS, STEPS = 5, 2
PARTS = (
    (SelfDistillation, "forward", "student:"),
    (SelfDistillation, "_teach", "teacher:"),
    (VisionTransformer, "_embed", "patches and positions"),
    (nn.LayerNorm, "forward", "layer norms"),
    (Attention, "forward", "attention: products"),
    (vit_attention, "attend_groups", "attention: scores and values"),
    (Mlp, "forward", "feed-forward"),
    (SwiGlu, "forward", "feed-forward"),
    (ProjectionHead, "forward", "head"),
    (Prototypes, "forward", "prototypes"),
    (SinkhornKnopp, "forward", "targets"),
    (SoftmaxCentering, "forward", "targets"),
    (ssl_task, "cross_entropy", "cross-entropies"),
    (ssl_task, "koleo", "KoLeo"),
    (torch.Tensor, "backward", "backward"),
    (training_step, "clip_gradients", "clipping"),
    (SelfDistillation, "update_teacher", "moving average"),
)
"""What a profile tells apart: functions, and the part of the step that each is."""


def main() -> None:
    """Parse options and print one line a precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu-smoke")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--profile", action="store_true", help="a table of the step's parts instead")
    kind.add_argument("--floor", action="store_true", help="also a table of what products and memory take at least")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, for example batch_size=8")
    options = parser.parse_args()
    device = torch.device(options.device)
    config = decided(load_config(PretrainConfig, options.preset, options.set), device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, preset {options.preset}, batch {config.batch_size // config.accumulate}")
    with kept_pages():
        for precision in options.precision:
            if options.profile:
                profile(config, device, precision)
            else:
                measure(config, device, precision, options.floor)


def profile(config: PretrainConfig, device: torch.device, precision: str) -> None:
    """Print exclusive milliseconds of a step's parts, whose sum is the step, and the operators' share of products.

    Nothing is compiled: the parts could not be told apart.
    """
    config = config.model_copy(update={"compile": False, "cuda_graphs": False})
    batch = config.batch_size // config.accumulate
    task, optimizer, values, _ = prepared(config, device)
    given, multicrop = random_batch(config, batch), Multicrop(config.views)
    clock = Clock(torch.cuda.synchronize if device.type == "cuda" else lambda: None)
    render, update = clock.timed(make_views, "views"), clock.timed(optimizer.step, "optimiser")

    def step() -> None:
        train_step(task, optimizer, [render(given, multicrop, device)], 1, values, config.optim.clip_grad, precision)

    for _ in range(2):
        step()
    clock.seconds.clear()
    with mock.patch.object(optimizer, "step", update), clock.counting(PARTS):
        for _ in range(ROUNDS):
            step()
    with torch.profiler.profile() as seen:
        step()
    total = sum(clock.seconds.values())
    print(f"\n| {precision}: part of the step | ms | share |\n|---|---|---|")
    for part, seconds in clock.seconds.items():
        print(f"| {part} | {1000 * seconds / ROUNDS:.1f} | {seconds / total:.1%} |")
    print(f"| **step** | {1000 * total / ROUNDS:.1f} | {batch * ROUNDS / total:.1f} images/s |")
    print(f"| operators' own time in matrix products and attention | | {products_share(seen):.1%} |")


def measure(config: PretrainConfig, device: torch.device, precision: str, floor: bool) -> None:
    """Alternate steps, matrix products and, for the floor, triads; print medians and their ratios."""
    batch, v = config.batch_size // config.accumulate, config.views
    task, optimizer, values, masks = prepared(config, device)
    local = torch.randn(v.local_views * batch, 1, v.local_size, v.local_size, device=device)
    crops, rows = torch.randn(2 * batch, 1, v.global_size, v.global_size, device=device), fixed_rows(config, batch)
    views = Views.build(crops, local, masks, None, rows)

    def step() -> None:
        train_step(task, optimizer, [views], 1, values, config.optim.clip_grad, precision)

    for _ in range(2):
        step()
    counted = config.model_copy(update={"precision": precision, "activation_checkpointing": False})
    flops = step_cost(counted, batch, device.type == "cuda").flops
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    tokens = 2 * batch * (masks.shape[1] + 1)
    x = torch.randn(tokens, config.vit.embed_dim, device=device, dtype=dtype)
    hidden = int(config.vit.embed_dim * config.vit.mlp_ratio)
    weight = torch.randn(hidden, config.vit.embed_dim, device=device, dtype=dtype)

    def products() -> None:
        for _ in range(20):
            torch.nn.functional.linear(x, weight)

    step_s, product_s, triad_s = [], [], []
    triad = Triad(device) if floor else None
    for _ in range(ROUNDS):
        step_s.append(timed(step, STEPS, device))
        product_s.append(timed(products, STEPS, device))
        if triad:
            triad_s.append(timed(triad, STEPS, device))
    rate = 20 * 2 * x.numel() * hidden / statistics.median(product_s)
    achieved = flops / statistics.median(step_s)
    print(
        f"{precision}: {batch / statistics.median(step_s):7.1f} images/s "
        f"({batch / max(step_s):.1f} to {batch / min(step_s):.1f})   {achieved / 1e9:8.1f} GFLOP/s of "
        f"{rate / 1e9:8.1f} in matrix products: {achieved / rate:.0%}"
    )
    if triad:
        parameters = sum(weight.numel() for weight in task.student.parameters())
        moved = least_bytes(counted, batch, len(views.masked_rows), parameters)
        print_floor(moved, triad.moved / statistics.median(triad_s), flops / rate, statistics.median(step_s))


def print_floor(moved: dict[str, int], bandwidth: float, products: float, step: float) -> None:
    """The table of ``--floor``: bytes by what they are for, bytes a second, and the seconds of products and step."""
    print("\n| at least | MB | ms |\n|---|---|---|")
    for name, count in moved.items():
        print(f"| {name} | {count / 1e6:.1f} | {1000 * count / bandwidth:.2f} |")
    total = sum(moved.values())
    floor = products + total / bandwidth
    print(f"| memory, at {bandwidth / 1e9:.1f} GB/s | {total / 1e6:.1f} | {1000 * total / bandwidth:.1f} |")
    print(f"| products | | {1000 * products:.1f} |")
    print(f"| **floor** | | {1000 * floor:.1f} |")
    print(f"| step | | {1000 * step:.1f}: {floor / step:.0%} of its speed is reached |")


def prepared(
    config: PretrainConfig, device: torch.device
) -> tuple[SelfDistillation, torch.optim.Optimizer, StepValues, torch.Tensor]:
    """Task, optimiser, the values of a step, and masks (2B, N) of a micro-batch."""
    task = SelfDistillation(config.vit, config.ssl).init_weights().to(device).train()
    prepare_blocks(task, config)
    grid = (config.views.global_size // config.vit.patch_size,) * 2
    masks = torch.from_numpy(batch_masks(0, 0, 2 * config.batch_size // config.accumulate, grid, config.views.masks))
    schedule = Schedule(config.schedule, config.steps)
    return task, build_optimizer(task.student, config.optim), schedule[1], masks


def timed(call, repeats: int, device: torch.device) -> float:
    """Seconds of one call, over several; the processor's where one thread computes, which other work hardly changes."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) / repeats


if __name__ == "__main__":
    main()
