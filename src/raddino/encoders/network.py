"""What the families that run a published network share: the frozen network and its strict filling."""

from __future__ import annotations

import argparse
import hashlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from raddino.device import resolve_device
from raddino.encoders.base import Features, Provenance
from raddino.encoders.preparation import Preparation
from raddino.errors import RaddinoError
from raddino.vit.weights import check_finite, read_weights

WRAPPERS = ("model", "module", "state_dict")
"""Keys under which training scripts (MAE, DeepSpeed, Lightning) put the state they save."""


class NetworkEncoder:
    """A published network behind the common face: frozen, float32, on images as it was trained on.

    Args:
        name: of the family.
        network: holds every parameter that ``forward`` uses.
        forward: prepared images (B, C, h, w) to an embedding (B, D) and a map (B, H, W, D) or None.
        preparation: what the network's own code does to an image before.
        dim: D.
        grid: (H, W), or None.
        provenance: with the digest of the weights file.
        device: see :func:`raddino.device.resolve_device`.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        forward: Callable[[Tensor], tuple[Tensor, Tensor | None]],
        preparation: Preparation,
        *,
        dim: int,
        grid: tuple[int, int] | None,
        provenance: Provenance,
        device: str,
    ) -> None:
        self.device = resolve_device(device)
        self.network = network.float().to(self.device).eval().requires_grad_(False)
        self.forward, self.preparation = forward, preparation
        self.name, self.dim, self.grid, self.provenance = name, dim, grid, provenance

    @property
    def fingerprint(self) -> str:
        """16 hex digits over family, weights file and preparation."""
        told = repr((self.name, self.provenance.sha256, self.preparation))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, to (B, C, h, w) as the network's own code prepares them."""
        return self.preparation(self.name, images)

    @property
    def covered(self) -> tuple[int, int]:
        """(rows, columns) of pixels from the top left of a prepared image that the patch grid lies on."""
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", None)
        height, width = self.preparation.size
        if not isinstance(patch, tuple) or (height // patch[0], width // patch[1]) != self.grid:
            return height, width
        return self.grid[0] * patch[0], self.grid[1] * patch[1]

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Features:
        """Embedding (B, D) and, where there is a grid, its features (B, H, W, D), float32 on the CPU.

        Raises:
            RaddinoError: a batch that is not from :meth:`preprocess`: channels, value range or size.
        """
        self.preparation.check(self.name, batch)
        if tuple(batch.shape[2:]) != self.preparation.size:
            raise RaddinoError(f"{self.name} takes images of {self.preparation.size}, got {tuple(batch.shape[2:])}")
        cls, patches = self.forward(batch.to(self.device, torch.float32))
        return Features(cls.float().cpu(), None if patches is None else patches.float().cpu())


def grid_of(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens (B, H * W, D) in row-major order as (B, H, W, D)."""
    return tokens.unflatten(1, grid)


def read_state(family: str, file: Path) -> dict[str, Tensor]:
    """The tensors of a weights file in float32, taken out of what training scripts wrap them in.

    Nothing in the file is executed. An ``argparse.Namespace``, which MAE-like scripts save along, is let through:
    it can hold plain values only.

    Raises:
        RaddinoError: unreadable, refused by the safe loader, or without named tensors.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = read_weights(file)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not state:
        raise RaddinoError(f"{family}: {file.name} holds no named tensors; its published weights are expected")
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def fill(family: str, network: nn.Module, state: dict[str, Tensor]) -> None:
    """Put every tensor of ``state`` into ``network``, and leave none of the network's own.

    Raises:
        RaddinoError: names or shapes differ, so these are the weights of another network; numbers that are not finite.
    """
    own = network.state_dict()
    wrong = [f"{name} is missing" for name in own if name not in state and not name.endswith("num_batches_tracked")]
    wrong += [f"{name} is not known" for name in state if name not in own]
    wrong += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise RaddinoError(f"{family}: these are the weights of another network: {wrong[0]}{more}")
    check_finite(family, state.items())
    network.load_state_dict(state, strict=False)


def check_prompts(name: str, prompts: Sequence[str]) -> list[str]:
    """The prompts as a list.

    Raises:
        RaddinoError: none, or one string where a list is meant.
    """
    if isinstance(prompts, str) or not len(prompts):
        raise RaddinoError(f"{name} takes a list of prompts, at least one")
    return list(prompts)


def optional(family: str, module: str) -> ModuleType:
    """An optional library.

    Raises:
        RaddinoError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise RaddinoError(f"{family} needs {package}: pip install 'raddino[baselines]'") from None
