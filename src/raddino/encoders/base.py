"""What every encoder offers, ours and baselines alike, and how one is found by name or folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from raddino.errors import RaddinoError
from raddino.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Provenance:
    """Where an encoder's weights come from; what a contamination table is derived from.

    Attributes:
        sources: data sets whose images were seen, by their corpus ``source`` name; None when unknown.
        supervision: ``"self-supervised"``, ``"text"``, ``"labels"`` or ``"none"``.
        licence: SPDX name, or words.
        synthetic: True when every image seen was synthetic, False when none was, ``"mixed"`` otherwise.
        corpora: fingerprint of every packed corpus trained on, with the splits that were seen; None when images
            were seen that no fingerprint names.
        revision: version or commit of the weights.
        sha256: digest of the weights file.
        note: anything a reader of a result has to know.
    """

    sources: list[str] | None = field(default_factory=list)
    supervision: str = "none"
    licence: str = ""
    synthetic: bool | str | None = None
    corpora: dict[str, list[str]] | None = None
    revision: str | None = None
    sha256: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Features:
    """What an encoder says of B images.

    Attributes:
        cls: (B, D) float32, the image embedding.
        patches: (B, H, W, D) float32 in row-major image order, or None where the encoder has no grid.
    """

    cls: Tensor
    patches: Tensor | None


class Encoder(Protocol):
    """The common face of our encoders and of the floors."""

    name: str
    dim: int
    grid: tuple[int, int] | None
    provenance: Provenance

    @property
    def fingerprint(self) -> str:
        """Names weights and preprocessing together; caches and results are keyed by it."""
        ...

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, sizes may differ, to one batch (B, C, S, S)."""
        ...

    def encode(self, batch: Tensor) -> Features:
        """Features of a preprocessed batch, without gradients."""
        ...


# what is registered takes a device, see resolve_device
ENCODERS: Registry[Callable[[str], Encoder]] = Registry("encoder")
_FAMILIES = ("raddino.encoders.ours", "raddino.encoders.floors")


def known_encoders() -> list[str]:
    """Names that :func:`load_encoder` takes besides folders."""
    for module in _FAMILIES:
        importlib.import_module(module)
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
    names = known_encoders()
    if str(spec) not in names and Path(spec).is_dir():
        from raddino.encoders.ours import VitEncoder

        return VitEncoder.load(Path(spec), device=device)
    if str(spec) not in names and ("/" in str(spec) or str(spec).startswith(".")):
        raise RaddinoError(f"no encoder at {spec}: give a folder that holds config.json and model.safetensors")
    return ENCODERS[str(spec)](device)
