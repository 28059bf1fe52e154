"""What every encoder offers, ours and baselines alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from raddino.errors import RaddinoError
from raddino.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


SUPERVISIONS = ("self-supervised", "text", "labels", "none", "unknown")
"""What weights were trained with; none where they were not trained."""


@dataclass(frozen=True)
class Provenance:
    """Where an encoder's weights come from; what a contamination table is derived from.

    Attributes:
        sources: data sets whose images were seen, by their corpus ``source`` name; None when unknown.
        supervision: one of :data:`SUPERVISIONS`.
        licence: SPDX name, or words.
        gated: whether its publisher asks for an agreement before the download.
        synthetic: True when every image seen was synthetic, False when none was, ``"mixed"`` otherwise.
        corpora: fingerprint of every packed corpus trained on, with the splits that were seen; None when images
            were seen that no fingerprint names.
        revision: version or commit of the weights.
        sha256: digest of the weights file.
        note: anything a reader of a result has to know.
        reference: where the statement on ``sources`` is published; empty where a run of ours recorded them.
        before: records of the weights that training started from, the latest first, each without a ``before`` of its
            own; the fields above tell of the last training alone.
    """

    sources: list[str] | None = field(default_factory=list)
    supervision: str = "none"
    licence: str = ""
    gated: bool = False
    synthetic: bool | str | None = None
    corpora: dict[str, list[str]] | None = None
    revision: str | None = None
    sha256: str | None = None
    note: str = ""
    reference: str = ""
    before: list[Provenance] = field(default_factory=list)

    @property
    def trainings(self) -> list[Provenance]:
        """The records of all trainings behind these weights, the latest first."""
        return [replace(self, before=[]), *self.before]

    @property
    def all_sources(self) -> list[str]:
        """Data sets that any training saw, sorted, as far as they are known."""
        return sorted({source for one in self.trainings for source in one.sources or ()})

    @property
    def all_known(self) -> bool:
        """Whether :attr:`all_sources` is all that was seen."""
        return all(one.sources is not None for one in self.trainings)

    @property
    def all_synthetic(self) -> bool | str | None:
        """As :attr:`synthetic`, of the images of all trainings; None where one does not say."""
        kinds = {one.synthetic for one in self.trainings if one.sources != []} or {self.synthetic}
        return None if None in kinds else kinds.pop() if len(kinds) == 1 else "mixed"

    def told_sources(self, unknown: str, nothing: str) -> str:
        """:attr:`all_sources` in words, with ``unknown`` for what is not on record, or ``nothing``."""
        named = ", ".join(self.all_sources)
        if self.all_known:
            return named or nothing
        return f"{named}; before: {unknown}" if named else unknown

    def to_dict(self) -> dict[str, Any]:
        """The fields as a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Provenance:
        """What :meth:`to_dict` gave, read back from a file.

        Raises:
            RaddinoError: another type or an unknown word; ``sources`` or ``supervision`` is missing; says which field.
        """
        known = [one.name for one in fields(cls)]
        if not isinstance(values, dict) or not set(values) <= set(known):
            raise RaddinoError(f"its provenance is damaged: an object with fields of {', '.join(known)} is expected")
        for name in known:
            if name not in values and name not in ("sources", "supervision"):
                continue
            if name not in values or not _FITS[name](values[name]):
                found = repr(values[name])[:40] if name in values else "nothing"
                raise RaddinoError(f"its provenance is damaged: {name} cannot be {found}")
        return cls(**values | {"before": [cls.from_dict(one) for one in values.get("before", ())]})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_splits(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_texts(splits) for splits in value.values())


_FITS: dict[str, Callable[[Any], bool]] = {
    "sources": lambda value: value is None or _is_texts(value),
    "supervision": lambda value: _is_text(value) and value in SUPERVISIONS,
    "licence": _is_text,
    "gated": lambda value: isinstance(value, bool),
    "synthetic": lambda value: value is None or isinstance(value, bool) or value == "mixed",
    "corpora": lambda value: value is None or _is_splits(value),
    "revision": lambda value: value is None or _is_text(value),
    "sha256": lambda value: value is None or _is_text(value),
    "note": _is_text,
    "reference": _is_text,
    "before": lambda value: (
        isinstance(value, list) and all(isinstance(one, dict) and not one.get("before") for one in value)
    ),
}


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


class TextEncoder(Encoder, Protocol):
    """An encoder that shares a space with text, for zero-shot classification."""

    logit_scale: float

    def project(self, cls: Tensor) -> Tensor:
        """Image embeddings (N, D) of :meth:`encode` to unit vectors (N, P) of the shared space."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (N, P) of N prompts."""
        ...


@dataclass(frozen=True)
class Family:
    """Encoders that are loaded and preprocessed alike, under the name by which users ask for them.

    Attributes:
        load: makes the encoder; takes the place of the weights (a folder, a file, a hub id, or None for the
            default place) and a device, see :func:`raddino.device.resolve_device`.
        summary: one line for ``raddino encoders``.
        provenance: what is known before the weights are read.
        home: where the weights are published; empty where none are needed.
        extra: extra of this package that has to be installed; empty for none.
        dim: width of the features; None where the weights decide.
        side: side of the square input in pixels; None where the weights decide.
    """

    load: Callable[[str | None, str], Encoder]
    summary: str
    provenance: Provenance
    home: str = ""
    extra: str = ""
    dim: int | None = None
    side: int | None = None


ENCODERS: Registry[Family] = Registry("encoder")


def fingerprint(model: nn.Module, *settings: object) -> str:
    """16 hex digits over a network's weights and whatever else decides its features."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def check_batch(name: str, batch: Tensor, channels: int, low: float, high: float) -> None:
    """Refuse a batch that is not this encoder's own :meth:`Encoder.preprocess` output.

    Args:
        name: of the encoder.
        batch: (B, C, H, W).
        channels: expected C.
        low, high: values that preprocessed pixels can have.

    Raises:
        RaddinoError: another channel count, values outside the range, or values that are not finite.
    """
    shape = tuple(batch.shape)
    if batch.ndim != 4 or shape[1] != channels:
        raise RaddinoError(f"{name} takes batches (B, {channels}, H, W) from its preprocess(), got {shape}")
    if not batch.numel():
        return
    found = [float(value) for value in batch.aminmax()]
    slack = 0.01 * (high - low)
    if not (low - slack <= found[0] and found[1] <= high + slack):
        raise RaddinoError(
            f"{name} takes values in [{low:g}, {high:g}] from its preprocess(), got [{found[0]:g}, {found[1]:g}]"
        )
