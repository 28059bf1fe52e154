"""What every encoder offers, ours and baselines alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

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
