"""Attention of global and local views together: one ``varlen_attn`` call against one fused call a group, bfloat16.

    python benchmarks/varlen.py [--device cuda]

Milliseconds forward and backward, and the largest difference of the two, outputs and gradients. Where the ratio is
above 1 the one call is faster. ``--device cpu`` rehearses: what takes the kernel's place there tells nothing of speed.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from raddino.vit import attention, varlen

ROUNDS = 20
CASES = {
    "ViT-B, 2 x 518 + 8 x 196": ([(80, 1370), (320, 197)], 12),
    "ViT-B, 2 x 224 + 8 x 98": ([(128, 257), (512, 50)], 12),
}
REHEARSAL = {"rehearsal": ([(2, 17), (4, 5)], 2)}


def by_sequence(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, *_: object) -> Tensor:
    """What a CPU has in the kernel's place."""
    bounds = list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))
    parts = [[part[a:b].transpose(0, 1) for part in (query, key, value)] for a, b in bounds]
    return torch.cat([scaled_dot_product_attention(*one).transpose(0, 1) for one in parts])


def apart(qkv: Tensor, shapes: list[tuple[int, int]], heads: int) -> Tensor:
    """One call a group."""
    groups = qkv.split([batch * length for batch, length in shapes])
    return torch.cat([attention.fused(one, *shape, heads) for one, shape in zip(groups, shapes, strict=True)])


def run(attend, qkv: Tensor, shapes: list[tuple[int, int]], heads: int) -> tuple[float, Tensor, Tensor]:
    """Seconds of a call with its backward pass, the output and the gradient."""
    wait = torch.cuda.synchronize if qkv.is_cuda else lambda: None
    given = qkv.clone().requires_grad_()
    wait()
    begun = time.perf_counter()
    out = attend(given, shapes, heads)
    out.backward(torch.ones_like(out) / len(out))
    wait()
    return time.perf_counter() - begun, out.detach(), given.grad


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    device = torch.device(parser.parse_args().device)
    if device.type == "cpu":
        varlen.varlen_attn = by_sequence
    elif not varlen.has_kernel(torch.cuda.current_device()):
        raise SystemExit("no varlen_attn here: torch lacks it, or the GPU is older than Ampere")
    for name, (shapes, heads) in (CASES if device.type == "cuda" else REHEARSAL).items():
        tokens = sum(batch * length for batch, length in shapes)
        qkv = torch.randn(tokens, 3 * heads * 64, dtype=torch.bfloat16, device=device)
        both = [[run(way, qkv, shapes, heads) for way in (varlen.attend_all, apart)] for _ in range(ROUNDS)][2:]
        ours, theirs = (1000 * statistics.median(pair[at][0] for pair in both) for at in (0, 1))
        apart_by = [(a - b).abs().max().item() for a, b in zip(both[0][0][1:], both[0][1][1:], strict=True)]
        print(
            f"{name}: one call {ours:.2f} ms, one a group {theirs:.2f} ms, ratio {theirs / ours:.2f}; "
            f"largest difference {apart_by[0]:.1e}, of gradients {apart_by[1]:.1e}"
        )


if __name__ == "__main__":
    main()
