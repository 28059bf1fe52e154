"""Any vision network of Transformers: ``hf:org/name`` or ``hf:FOLDER``; code from the hub is never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.huggingface import (
    NEEDED,
    HubEncoder,
    load_partly,
    patch_grid,
    read_config,
    read_preparation,
    refuse_lost,
    weight_files,
)
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import Weights, find_weights
from raddino.errors import RaddinoError

KNOWN = Provenance(sources=None, supervision="unknown", licence="see its model card", note="no record of its training")


@dataclass(frozen=True)
class Readout:
    """Where a network's output holds the embedding and the patches.

    Attributes:
        kind: ``"token"`` for a class token, ``"pooler"`` for pooled tokens, ``"map"`` for a pooled feature map.
        prefix: tokens before the first patch.
        grid: (rows, columns) of patches.
        dim: width.
    """

    kind: Literal["token", "pooler", "map"]
    prefix: int
    grid: tuple[int, int]
    dim: int


class AutoEncoder(HubEncoder):
    """A network whose output is read as its :class:`Readout` says."""

    def __init__(self, model: Any, preparation: Preparation, readout: Readout, **face: Any) -> None:
        super().__init__(model, preparation, dim=readout.dim, grid=readout.grid, **face)
        self.readout = readout

    def _read(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(pixel_values=batch)
        states = found.last_hidden_state
        if self.readout.kind == "map":
            return found.pooler_output.flatten(1), states.flatten(2).transpose(1, 2)
        cls = states[:, 0] if self.readout.kind == "token" else found.pooler_output
        return cls, states[:, self.readout.prefix :]


def load(weights: Weights, *, name: str, known: Provenance = KNOWN, device: str = "auto") -> AutoEncoder:
    """From a folder with a vision network and its image processor.

    Raises:
        RaddinoError: the folder is not whole, or its network's output is not one that is read here.
    """
    from transformers import AutoModel

    read_config(name, weights)
    preparation = read_preparation(name, weights)
    model, lost = load_partly(name, AutoModel, weights)
    readout = _readout(name, model, preparation)
    refuse_lost(name, [key for key in lost if readout.kind != "token" or not key.startswith("pooler.")])
    provenance = weights.record(known, *weight_files(weights))
    return AutoEncoder(model, preparation, readout, name=name, provenance=provenance, device=device)


def _readout(name: str, model: Any, preparation: Preparation) -> Readout:
    """How to read a network, from its config and its output for two equal images."""
    kind = model.config.model_type
    image = torch.rand(1, len(preparation.mean), *preparation.size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            found = model(pixel_values=image.repeat(2, 1, 1, 1))
    except Exception as error:  # any network may stand here
        words = " ".join(str(error).split())[:200]
        raise RaddinoError(
            f"{name}: a {kind} model does not run on prepared images alone ({type(error).__name__}: {words})"
        ) from None
    states, pooled = getattr(found, "last_hidden_state", None), getattr(found, "pooler_output", None)
    if states is None or states.ndim not in (3, 4) or len(states) != 2:
        raise RaddinoError(f"{name}: a {kind} model gives neither tokens nor a feature map; raddino cannot read it")
    if not torch.allclose(states[0], states[1], atol=1e-4):
        raise RaddinoError(f"{name}: a {kind} model hides or shuffles patches at random; raddino cannot read it")
    width = states.shape[1] if states.ndim == 4 else states.shape[2]
    fits = pooled is not None and pooled.flatten(1).shape == (2, width)
    if states.ndim == 4 and fits:
        return Readout("map", 0, (states.shape[2], states.shape[3]), width)
    grid = _token_grid(model.config, preparation)
    prefix = -1 if grid is None else states.shape[1] - grid[0] * grid[1]
    registers = getattr(model.config, "num_register_tokens", 0) or 0
    if grid is not None and states.ndim == 3 and prefix > registers:
        return Readout("token", prefix, grid, width)
    if grid is not None and states.ndim == 3 and prefix == 0 and fits:
        return Readout("pooler", 0, grid, width)
    raise RaddinoError(
        f"{name}: output {tuple(states.shape[1:])} of a {kind} model has no class token or pooled embedding beside a "
        "patch grid that its config names; raddino cannot read it"
    )


def _token_grid(config: Any, preparation: Preparation) -> tuple[int, int] | None:
    """(rows, columns) of tokens at the output; stages after the first each halve them."""
    patch = getattr(config, "patch_size", None)
    if patch is None:
        return None
    halvings = len(getattr(config, "depths", [0])) - 1
    rows, columns = patch_grid(preparation, patch)
    return rows // 2**halvings, columns // 2**halvings


def _load_named(place: str | None, device: str) -> Encoder:
    if place is None:
        raise RaddinoError("hf needs a model: hf:org/name or hf:FOLDER")
    weights = find_weights("hf", place, patterns=(*NEEDED, "pytorch_model.bin"))
    return load(weights, name=place.rstrip("/").rsplit("/", 1)[-1], device=device)


ENCODERS.register("hf")(
    Family(_load_named, "any vision network of Transformers, as hf:org/name or hf:FOLDER", KNOWN, home="the hub")
)
