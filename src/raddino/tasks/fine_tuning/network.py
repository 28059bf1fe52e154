"""An encoder opened to gradients, wholly or in parts, under a linear head; closed again as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from raddino.encoders.network import NetworkEncoder
from raddino.errors import RaddinoError
from raddino.features.forward import device_of
from raddino.tasks.fine_tuning.settings import FineTuneConfig
from raddino.tasks.learning import BLOCK, FIRST, module_of
from raddino.views.randomness import integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from raddino.encoders.base import Encoder


def network_of(encoder: Encoder) -> nn.Module | None:
    """The network of an encoder that can be trained in its place; None where there is none."""
    return encoder.network if isinstance(encoder, NetworkEncoder) else module_of(encoder)


def why_not(encoder: Encoder, config: FineTuneConfig, features: str) -> str | None:
    """Why an encoder cannot be trained in this way; None where it can."""
    trunk = network_of(encoder)
    if trunk is None:
        return "it has no network to train"
    if features not in ("cls", "mean_patch", "both"):
        return f"the head reads cls, mean_patch or both, the suite's probe reads {features}"
    if features != "cls" and encoder.grid is None:
        return f"the head reads {features}, but this encoder has no patch tokens"
    if config.method == "full":
        return None
    blocks = _blocks(trunk)
    if not blocks:
        return f"{config.words}: its network is no row of blocks; train it in full"
    if config.method == "last" and config.blocks > len(blocks):
        return f"{config.words}: it has {len(blocks)}"
    return None


class TunedNetwork(nn.Module):
    """An opened encoder and a linear head on its class token, the mean of its patches, or both.

    Attributes:
        trunk: of the encoder.
        device: where both lie.
    """

    def __init__(self, encoder: Encoder, trunk: nn.Module, features: str, outputs: int, precision: str) -> None:
        super().__init__()
        self._read = encoder.forward if isinstance(encoder, NetworkEncoder) else encoder.read  # type: ignore[attr-defined]
        self.trunk, self.features = trunk, features
        self.device, self.low = device_of(encoder), precision == "bf16"
        self.head = nn.Linear(encoder.dim * (2 if features == "both" else 1), outputs).to(self.device)
        nn.init.zeros_(self.head.weight)

    def forward(self, batch: Tensor) -> Tensor:
        """(B, T) outputs, float32, of prepared images on :attr:`device`."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            cls, patches = self._read(batch)
            parts = [cls] if self.features != "mean_patch" else []
            parts += [patches.mean((1, 2))] if self.features != "cls" and patches is not None else []
        return self.head(torch.cat([part.float() for part in parts], 1))

    def set_bias(self, bias: Tensor) -> None:
        """Of the head, (T,)."""
        with torch.no_grad():
            self.head.bias.copy_(bias)

    @torch.no_grad()
    def outputs(self, inputs: Callable[[np.ndarray], Tensor], rows: np.ndarray, size: int) -> Tensor:
        """(N, T) of the images of rows (N,), ``size`` at a time, on the CPU."""
        self.eval()
        parts = [self(inputs(rows[at : at + size]).to(self.device)).cpu() for at in range(0, len(rows), size)]
        return torch.cat(parts) if parts else torch.empty(0, self.head.out_features)

    def train(self, mode: bool = True) -> TunedNetwork:
        """Train; of the encoder batch norms alone change their ways, where they are trained."""
        super().train(mode)
        self.trunk.eval()
        for layer in self.trunk.modules():
            if isinstance(layer, _BatchNorm) and layer.weight is not None and layer.weight.requires_grad:
                layer.train(mode)
        return self


@contextmanager
def opened(encoder: Encoder, config: FineTuneConfig, seed: int) -> Iterator[nn.Module]:
    """The encoder's network with gradients where ``config`` trains it; weights and settings come back at the end.

    Raises:
        RaddinoError: see :func:`why_not`.
    """
    if reason := why_not(encoder, config, "cls"):
        raise RaddinoError(f"{encoder.name}: {reason}")
    trunk = network_of(encoder)
    assert trunk is not None
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    adapted: list[nn.Module] = []
    trunk.requires_grad_(False)
    try:
        if config.method == "lora":
            adapted = _adapt(trunk, config, seed)
        else:
            first = 0 if config.method == "full" else len(_blocks(trunk)) - config.blocks
            for name, parameter in trunk.named_parameters():
                parameter.requires_grad_(config.method == "full" or _depth(name) >= first)
        yield trunk
    finally:
        for layer in adapted:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        trunk.load_state_dict(before)
        trunk.eval().requires_grad_(False)


class LowRank(nn.Module):
    """A weight (out, in) plus ``alpha / rank`` times the product of two thin matrices, the second 0 at first."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        out, width = weight.shape
        self.down = nn.Parameter(torch.empty(rank, width, device=weight.device))
        self.up = nn.Parameter(torch.zeros(out, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in)."""
        return weight + self.scale * (self.up @ self.down)


def _adapt(trunk: nn.Module, config: FineTuneConfig, seed: int) -> list[nn.Module]:
    """Put :class:`LowRank` on every linear layer in a block; the layers."""
    layers: list[nn.Module] = [
        layer for name, layer in trunk.named_modules() if isinstance(layer, nn.Linear) and BLOCK.search(f"{name}.")
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(integer(seed, "weights"))
        for layer in layers:
            update = LowRank(cast(Tensor, layer.weight), config.rank, config.alpha)
            parametrize.register_parametrization(layer, "weight", update)
            layer.parametrizations["weight"].original.requires_grad_(False)  # type: ignore[index, union-attr]
    return layers


def _blocks(trunk: nn.Module) -> set[int]:
    """Numbers of a network's blocks; none where they do not stand in one row."""
    found = [match for name, _ in trunk.named_parameters() if (match := BLOCK.search(name))]
    rows = {match.string[: match.start(1)] for match in found}
    return {int(match[1]) for match in found} if len(rows) == 1 else set()


def _depth(name: str) -> float:
    """Number of the block that a parameter is in; less than any before the first, more than any after the last."""
    found = BLOCK.search(name)
    return int(found[1]) if found else -1 if FIRST.search(name) else float("inf")
