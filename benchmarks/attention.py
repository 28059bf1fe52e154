"""Attention in slabs against torch's fused attention on this CPU, forward and backward, by length and dtype.

    python benchmarks/attention.py

Where the ratio is above 1 the slabs are faster; ``raddino.vit.attention.attend`` chooses by it.
"""

import statistics
import time

import torch
from torch import Tensor

from raddino.vit.attention import _InSlabs, fused

ROUNDS, HEADS, DIM, TOKENS = 7, 3, 64, 12_000


def seconds(attend, qkv: Tensor, length: int) -> float:
    """Forward and backward of one call."""
    start = time.perf_counter()
    attend(qkv, len(qkv) // length, length, HEADS).sum().backward()
    qkv.grad = None
    return time.perf_counter() - start


def main() -> None:
    """Print a line a case."""
    print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}; {TOKENS} tokens, {HEADS} heads of {DIM}")
    for dtype in (torch.float32, torch.bfloat16):
        for length in (17, 65, 128, 257, 512, 1370):
            tokens = TOKENS // length * length
            qkv = torch.randn(tokens, 3 * HEADS * DIM, dtype=dtype, requires_grad=True)
            pairs = [(seconds(_InSlabs.apply, qkv, length), seconds(fused, qkv, length)) for _ in range(ROUNDS)]
            ratio = statistics.median(theirs / ours for ours, theirs in pairs[1:])
            print(f"{str(dtype).removeprefix('torch.'):9} N={length:<4} fused / slabs = {ratio:.2f}")


if __name__ == "__main__":
    main()
