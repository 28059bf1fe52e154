"""An encoder made ready for a whole corpus: precision, compilation, and results that the device never waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from raddino.compiler import plain_errors
from raddino.encoders.base import Encoder, Features
from raddino.errors import ConfigError, RaddinoError
from raddino.progress import subject

Precision = Literal["fp32", "bf16", "auto"]
HALF_MAX = 65504.0


@dataclass(frozen=True)
class Encoded:
    """Features of one batch in host memory.

    Attributes:
        rows: (B,) row numbers.
        cls: (B, D) float32.
        mean_patch: (B, D) float32, or None without a grid.
        patches: (B, H, W, D) float16, or None where they are not kept.
    """

    rows: np.ndarray
    cls: np.ndarray
    mean_patch: np.ndarray | None
    patches: np.ndarray | None


def device_of(encoder: Encoder) -> torch.device:
    """Where the encoder's network runs; the CPU where it has none."""
    return torch.device(getattr(encoder, "device", "cpu"))


def resolve_precision(precision: str, encoder: Encoder) -> Literal["fp32", "bf16"]:
    """``"auto"`` is bf16 on a GPU that computes in it, else fp32.

    Raises:
        ConfigError: another word.
    """
    if precision == "auto":
        return "bf16" if device_of(encoder).type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision takes fp32, bf16 or auto, got {precision!r}")
    return "bf16" if precision == "bf16" else "fp32"


def feature_key(encoder: Encoder, precision: str) -> str:
    """The encoder's fingerprint, with a suffix where its features are computed in bf16."""
    return encoder.fingerprint + ("-bf16" if precision == "bf16" else "")


def make_encode(encoder: Encoder, precision: str, compile: bool) -> Callable[[Tensor], Features]:
    """``encode`` of an encoder for many batches.

    An encoder with a ``fast_encode(dtype, compile)`` has its own way (see :class:`raddino.encoders.ours.VitEncoder`);
    any other runs its ``encode``, in bf16 under autocast.

    Args:
        precision: ``"fp32"`` or ``"bf16"``.
        compile: pass it through ``torch.compile``.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if hasattr(encoder, "fast_encode"):
        encode = encoder.fast_encode(dtype, compile)
    else:
        encode = _under_autocast(encoder) if precision == "bf16" else encoder.encode
        encode = torch.compile(encode) if compile else encode
    return plain_errors(encode) if compile else encode


def encode_all(
    encoder: Encoder,
    encode: Callable[[Tensor], Features],
    batches: Iterable[tuple[np.ndarray, Tensor]],
    keep_patches: bool,
) -> Iterator[Encoded]:
    """Features of every batch (rows, images), each given out when the next one is on its way.

    Raises:
        RaddinoError: features of the wrong shape, not finite in float32, or patches too large for half precision.
    """
    device, late = device_of(encoder), None
    for rows, images in batches:
        now = _Running(encoder, rows, encode(images), device, keep_patches)
        if late is not None:
            yield late.finish()
        late = now
    if late is not None:
        yield late.finish()


class _Running:
    """One batch whose features are being computed and copied to the host."""

    @torch.inference_mode()
    def __init__(
        self, encoder: Encoder, rows: np.ndarray, features: Features, device: torch.device, keep_patches: bool
    ) -> None:
        _check_shapes(encoder, features, len(rows))
        self.name, self.rows = encoder.name, rows
        cls = features.cls.float()
        found = {"cls": cls, "cls_finite": cls.isfinite().all()}
        if features.patches is not None:
            patches = features.patches
            found["mean_patch"] = patches.mean((1, 2), dtype=torch.float32)
            found["patches_finite"] = found["mean_patch"].isfinite().all()  # one bad value spoils its mean
            if keep_patches:
                found["patches_fit"] = patches.abs().amax() <= HALF_MAX
                found["patches"] = patches.half()
        self.found, self.copied = {name: _to_host(tensor) for name, tensor in found.items()}, None
        if device.type == "cuda":
            self.copied = torch.cuda.Event()
            self.copied.record()

    def finish(self) -> Encoded:
        if self.copied is not None:
            self.copied.synchronize()
        for part in ("cls", "patches"):
            if not self.found.get(f"{part}_finite", True):
                raise RaddinoError(f"encoder {self.name!r} returned {part} that hold NaN or infinity")
        if not self.found.get("patches_fit", True):
            raise RaddinoError(
                f"encoder {self.name!r} returned patches beyond half precision (65504): leave patches out"
            )
        kept = {name: self.found[name].numpy() for name in ("cls", "mean_patch", "patches") if name in self.found}
        return Encoded(self.rows, kept["cls"], kept.get("mean_patch"), kept.get("patches"))


def _to_host(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _under_autocast(encoder: Encoder) -> Callable[[Tensor], Features]:
    kind = device_of(encoder).type

    def encode(batch: Tensor) -> Features:
        with torch.autocast(kind, torch.bfloat16):
            return encoder.encode(batch)

    return encode


def _check_shapes(encoder: Encoder, features: Features, n: int) -> None:
    """Refuse what would spoil every number behind it."""
    expected: dict[str, tuple[int, ...]] = {"cls": (n, encoder.dim)}
    if encoder.grid is not None:
        expected["patches"] = (n, *encoder.grid, encoder.dim)
    for name, shape in expected.items():
        tensor = getattr(features, name)
        found = None if tensor is None else tuple(tensor.shape)
        if found != shape:
            raise RaddinoError(
                f"encoder {subject(encoder.name)!r} returned {name} of shape {found}; it promised {shape}"
            )
