"""An untrained network, ``scratch:NAME`` of timm's, which ``--fine-tune full`` trains on a task's labels alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance, fingerprint
from raddino.encoders.network import NetworkEncoder, optional
from raddino.encoders.timm_model import embed, preparation_of, shape_of
from raddino.encoders.weights import RANDOM
from raddino.errors import RaddinoError

NAME = "scratch"
DEFAULT = "convnext_nano"
KNOWN = Provenance(licence="", note=RANDOM)


def load(place: str | None, device: str) -> Encoder:
    """A timm model with random weights, always the same ones, on images prepared as timm's own evaluation does.

    Args:
        place: NAME of the model, for example ``convnext_tiny`` or ``densenet121``; None for :data:`DEFAULT`.
        device: see :func:`raddino.device.resolve_device`.

    Raises:
        RaddinoError: no such model, or an input or output that is not implemented.
    """
    timm = optional(NAME, "timm")
    name = f"{NAME}:{place or DEFAULT}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = timm.create_model(place or DEFAULT, pretrained=False, num_classes=0)
        except (RuntimeError, ValueError):
            raise RaddinoError(f"timm has no model {place!r}: give scratch:NAME, see timm.list_models()") from None
    preparation = preparation_of(name, timm.data.resolve_data_config({}, model=network))
    drawn = replace(KNOWN, sha256=fingerprint(network))
    dim, grid = shape_of(name, network, preparation)

    def forward(batch: Tensor) -> tuple[Tensor, Tensor | None]:
        return embed(network, batch)

    return NetworkEncoder(name, network, forward, preparation, dim=dim, grid=grid, provenance=drawn, device=device)


ENCODERS.register(NAME)(
    Family(load, "reference: any timm network untrained, for --fine-tune full: scratch:NAME", KNOWN, extra="baselines")
)
