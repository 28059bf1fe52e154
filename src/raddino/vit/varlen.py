"""Attention of sequences of several lengths in one call: torch's ``varlen_attn``, which GPUs have in half precision."""

from typing import cast

import torch
from torch import Tensor

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # a torch without it
    varlen_attn = None  # type: ignore[assignment]

WIDEST = 256
"""Numbers a head that the kernel takes, a multiple of 8."""


def serves(qkv: Tensor, shapes: list[tuple[int, int]], heads: int) -> bool:
    """Whether :func:`attend_all` can be called, and is for more than one group of sequences.

    Args:
        qkv: (T, 3 D).
        shapes: ``(B, N)`` of each group.
        heads: that D is shared by.
    """
    dim = qkv.shape[1] // 3 // heads
    return (
        len(shapes) > 1
        and qkv.device.type == "cuda"
        and qkv.dtype in (torch.bfloat16, torch.float16)
        and dim % 8 == 0
        and dim <= WIDEST
        and has_kernel(qkv.device.index)
    )


@torch.compiler.assume_constant_result
def has_kernel(device: int) -> bool:
    """Whether this torch has the kernel, and the GPU of that number can run it (Ampere or newer)."""
    return (
        varlen_attn is not None
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def attend_all(qkv: Tensor, shapes: list[tuple[int, int]], heads: int) -> Tensor:
    """``softmax(query key^T / sqrt(d)) value`` within each sequence of all groups: (T, 3 D) to (T, D).

    Query, key and value are laid out densely first: cuDNN's kernel, which torch takes on some GPUs, has misread others.
    """
    query, key, value = qkv.view(len(qkv), 3, heads, -1).transpose(0, 1).contiguous().unbind(0)
    starts, longest = _starts(shapes, qkv.device), max(length for _, length in shapes)
    return cast(Tensor, varlen_attn(query, key, value, starts, starts, longest, longest)).flatten(1)


def _starts(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Where each sequence begins, and where the last one ends, (sum of B + 1,) int32; made on the device."""
    found, start = [], 0
    for batch, length in shapes:
        found.append(torch.arange(start, start + batch * length, length, dtype=torch.int32, device=device))
        start += batch * length
    return torch.cat([*found, torch.full((1,), start, dtype=torch.int32, device=device)])
