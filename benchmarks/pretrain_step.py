"""Speed of the training step: images per second, and the share of this machine's matrix-product rate.

    python benchmarks/pretrain_step.py [--preset cpu-smoke] [--precision bf16 fp32] [--device cpu]

The rate is that of plain ``linear`` products of the step's own widths in the same dtype, timed in the same
process between the steps. The step's arithmetic is counted by torch's FLOP counter (forward and backward).
"""

import argparse
import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from raddino.config import load_config
from raddino.ssl import SelfDistillation, Views
from raddino.training.optimizer import build_optimizer
from raddino.training.pretrain import PretrainConfig
from raddino.training.schedule import Schedule
from raddino.training.step import train_step
from raddino.views.masks import batch_masks

ROUNDS, STEPS = 5, 2


def main() -> None:
    """Parse options and print one line a precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu-smoke")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, for example batch_size=8")
    options = parser.parse_args()
    config = load_config(PretrainConfig, options.preset, options.set)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, preset {options.preset}, batch {config.batch_size // config.accumulate}")
    for precision in options.precision:
        measure(config, device, precision)


def measure(config: PretrainConfig, device: torch.device, precision: str) -> None:
    """Alternate steps and matrix products, and print medians and their ratio."""
    batch = config.batch_size // config.accumulate
    task = SelfDistillation(config.vit, config.ssl).init_weights().to(device).train()
    optimizer, values = build_optimizer(task.student, config.optim), Schedule(config.schedule, config.steps)[1]
    v, patch = config.views, config.vit.patch_size
    grid = (v.global_size // patch,) * 2
    masks = torch.from_numpy(batch_masks(0, 0, 2 * batch, grid, v.masks))
    local = torch.randn(v.local_views * batch, 1, v.local_size, v.local_size, device=device)
    views = Views.build(torch.randn(2 * batch, 1, v.global_size, v.global_size, device=device), local, masks)

    def step() -> None:
        train_step(task, optimizer, [views], values, config.optim.clip_grad, precision)

    step()
    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    tokens = 2 * batch * (grid[0] ** 2 + 1)
    x = torch.randn(tokens, config.vit.embed_dim, device=device, dtype=dtype)
    hidden = int(config.vit.embed_dim * config.vit.mlp_ratio)
    weight = torch.randn(hidden, config.vit.embed_dim, device=device, dtype=dtype)

    def products() -> None:
        for _ in range(20):
            torch.nn.functional.linear(x, weight)

    step_s, product_s = [], []
    for _ in range(ROUNDS):
        step_s.append(timed(step, STEPS, device))
        product_s.append(timed(products, STEPS, device))
    rate = 20 * 2 * x.numel() * hidden / statistics.median(product_s)
    achieved = flops / statistics.median(step_s)
    print(
        f"{precision}: {batch / statistics.median(step_s):7.1f} images/s "
        f"({batch / max(step_s):.1f} to {batch / min(step_s):.1f})   {achieved / 1e9:8.1f} GFLOP/s of "
        f"{rate / 1e9:8.1f} in matrix products: {achieved / rate:.0%}"
    )


def timed(call, repeats: int, device: torch.device) -> float:
    """Seconds of one call, over several."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


if __name__ == "__main__":
    main()
