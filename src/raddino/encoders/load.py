"""An encoder by name or by folder."""

from __future__ import annotations

from pathlib import Path

from raddino.encoders import floors, ours
from raddino.encoders.base import ENCODERS, Encoder
from raddino.errors import RaddinoError

FAMILIES = (ours, floors)
"""Modules that registered their encoders when they were imported; a new family is one more."""


def known_encoders() -> list[str]:
    """Names that :func:`load_encoder` takes besides folders."""
    return sorted(ENCODERS)


def load_encoder(spec: str | Path, device: str = "auto") -> Encoder:
    """An encoder by registered name or by folder.

    Args:
        spec: a name such as ``"raddino-tiny"``, ``"pca"`` or ``"hog"``, or a folder written by ``pretrain``
            (``run/encoder``) or by Transformers' ``save_pretrained`` for a Dinov2 model.
        device: where the network runs, see :func:`raddino.device.resolve_device`.

    Raises:
        RaddinoError: neither a known name nor a folder with weights in it.
    """
    if str(spec) not in ENCODERS and Path(spec).is_dir():
        return ours.VitEncoder.load(Path(spec), device=device)
    if str(spec) not in ENCODERS and ("/" in str(spec) or str(spec).startswith(".")):
        raise RaddinoError(f"no encoder at {spec}: give a folder that holds config.json and model.safetensors")
    return ENCODERS[str(spec)](device)
