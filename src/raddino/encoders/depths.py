"""Any vision transformer, with the features of several blocks instead of the last one's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from raddino.encoders.base import Encoder, Features
from raddino.errors import RaddinoError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle


class AtDepths:
    """Features after several blocks, concatenated on D: ``cls`` (B, K * D) and ``patches`` (B, H, W, K * D).

    What leaves a block goes on as what leaves the last one does: in DINOv2 through the final norm, as its
    ``get_intermediate_layers(norm=True)`` has it; in CLIP, whose patches pass no norm, unchanged. The part of the
    last block equals the encoder's own features. One pass computes all depths. ``read`` and ``fast_encode``, where the
    encoder has them, do so too; whatever else it offers is passed through.

    Args:
        encoder: ours, or any whose network is a plain vision transformer.
        depths: how many, evenly spaced and with the last (4 of 12 blocks: 3, 6, 9, 12), or numbers of blocks that are
            passed, ascending.

    Attributes:
        depths: (K,) numbers of blocks.
        width: D.
        dim: K * D.

    Raises:
        RaddinoError: an encoder without such blocks, or depths that it does not have.
    """

    def __init__(self, encoder: Encoder, depths: int | tuple[int, ...] = 4) -> None:
        self.encoder, self.width = encoder, encoder.dim
        self.own = hasattr(encoder, "blocks")
        self.modules = () if self.own else tuple(token_blocks(encoder))
        self.depths = chosen(encoder.name, self.blocks, depths)
        self.dim = self.width * len(self.depths)

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "depths"):  # while unpickled
            raise AttributeError(name)
        found = getattr(self.encoder, name)
        if name == "read":
            return partial(found, depths=self.depths) if self.own else self._read
        return partial(found, depths=self.depths) if name == "fast_encode" else found

    @property
    def blocks(self) -> int:
        """Blocks of the network."""
        return int(self.encoder.blocks) if self.own else len(self.modules)  # type: ignore[attr-defined]

    @property
    def fingerprint(self) -> str:
        """Of weights, preprocessing and depths."""
        return f"{self.encoder.fingerprint}+depths{'-'.join(map(str, self.depths))}"

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """As the encoder's own."""
        return self.encoder.preprocess(images)

    def encode(self, batch: Tensor) -> Features:
        """Features (B, K * D) and (B, H, W, K * D) of a preprocessed batch, float32."""
        if self.own:
            return self.encoder.encode(batch, depths=self.depths)  # type: ignore[call-arg]
        with self._stacked():
            found = self.encoder.encode(batch)
        return Features(self._side_by_side(found.cls), self._side_by_side(_present(found.patches)))

    def _read(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's ``read`` at all depths."""
        with self._stacked():
            cls, patches = self.encoder.read(batch)  # type: ignore[attr-defined]
        return self._side_by_side(cls), self._side_by_side(_present(patches))

    @contextmanager
    def _stacked(self) -> Iterator[None]:
        """Let the last block put out the tokens of all depths, (K * B, N, D): what follows treats samples alike."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            kept.append(_tokens(output))

        def stack(module: nn.Module, inputs: Any, output: Any) -> Any:
            parts = [*kept, _tokens(output)] if self.depths[-1] == self.blocks else kept
            return _like(output, torch.cat(parts))

        before = [depth for depth in self.depths if depth < self.blocks]
        handles = [self.modules[depth - 1].register_forward_hook(keep) for depth in before]
        handles.append(self.modules[-1].register_forward_hook(stack))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _side_by_side(self, features: Tensor) -> Tensor:
        """(K * B, ..., D) to (B, ..., K * D)."""
        return torch.cat(features.chunk(len(self.depths)), dim=-1)


def chosen(name: str, blocks: int, depths: int | tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of passed blocks, ascending.

    Raises:
        RaddinoError: more depths than blocks, none, or numbers outside 1..blocks, repeated or out of order.
    """
    if isinstance(depths, int):
        if not 1 <= depths <= blocks:
            raise RaddinoError(f"{name} has {blocks} blocks: {depths} depths cannot be taken, at most {blocks} can")
        return tuple(-(-blocks * (i + 1) // depths) for i in range(depths))
    if not depths or list(depths) != sorted(set(depths)) or not 1 <= min(depths) <= max(depths) <= blocks:
        raise RaddinoError(f"{name} has {blocks} blocks: depths must ascend within 1..{blocks}, got {depths}")
    return tuple(depths)


@torch.inference_mode()
def token_blocks(encoder: Encoder) -> list[nn.Module]:
    """The blocks of an encoder's vision transformer, found by what passes them when two black images are encoded.

    Raises:
        RaddinoError: no list of like modules that all put out (2, N, D) tokens of the patches' width.
    """
    network = getattr(encoder, "model", getattr(encoder, "network", None))
    seen: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(tokens := _tokens(output), Tensor):
            seen[module] = tuple(tokens.shape)

    lists = _lists(network) if isinstance(network, nn.Module) and encoder.grid is not None else []
    handles: list[RemovableHandle] = [one.register_forward_hook(note) for blocks in lists for one in blocks]
    try:
        if lists:
            encoder.encode(encoder.preprocess([np.zeros((64, 64), np.uint8)] * 2))
    finally:
        for handle in handles:
            handle.remove()
    run = [blocks for blocks in lists if all(one in seen for one in blocks)]
    rows, columns = encoder.grid or (0, 0)
    for blocks in sorted(run, key=len, reverse=True)[:1]:
        batch, tokens, width = (*seen[blocks[-1]], 0, 0, 0)[:3]
        alike = len({seen[one] for one in blocks}) == 1 and len(seen[blocks[0]]) == 3
        if alike and (batch, width) == (2, encoder.dim) and tokens >= rows * columns:
            return blocks
    raise RaddinoError(f"{encoder.name} is no plain vision transformer: depths=4 needs one, take depths=1")


def _lists(network: nn.Module) -> list[list[nn.Module]]:
    """Lists of at least two modules of one class."""
    found = []
    for module in network.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential):
            blocks = list(module)
            if len(blocks) > 1 and len({type(one) for one in blocks}) == 1:
                found.append(blocks)
    return found


def _tokens(output: Any) -> Any:
    """What a block puts out, without what some put beside it."""
    return output[0] if isinstance(output, tuple) else output


def _like(output: Any, tokens: Tensor) -> Any:
    return (tokens, *output[1:]) if isinstance(output, tuple) else tokens


def _present(patches: Tensor | None) -> Tensor:
    assert patches is not None
    return patches
