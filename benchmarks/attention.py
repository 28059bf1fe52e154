"""Explicit products against torch's fused attention on this CPU, forward and backward, by length and dtype.

    python benchmarks/attention.py

Where the ratio is above 1 the explicit way is faster; ``raddino.vit.attention.SHORT`` is set by it.
"""

import statistics
import time

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

ROUNDS = 7


def explicit(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What ``raddino.vit.attention.attend`` does for short sequences."""
    return ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(-1) @ value


def seconds(attend, tokens: Tensor) -> float:
    """Forward and backward of one call on packed (3, B, heads, N, d)."""
    start = time.perf_counter()
    attend(*tokens).sum().backward()
    tokens.grad = None
    return time.perf_counter() - start


def main() -> None:
    """Print a line a case."""
    print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}; 12,000 tokens, 3 heads of 64")
    for dtype in (torch.float32, torch.bfloat16):
        for length in (17, 65, 128, 257, 512):
            tokens = torch.randn(3, 12000 // length, 3, length, 64, dtype=dtype, requires_grad=True)
            pairs = [(seconds(explicit, tokens), seconds(scaled_dot_product_attention, tokens)) for _ in range(ROUNDS)]
            ratio = statistics.median(fused / ours for ours, fused in pairs[1:])
            print(f"{str(dtype).removeprefix('torch.'):9} N={length:<4} fused / explicit = {ratio:.2f}")


if __name__ == "__main__":
    main()
