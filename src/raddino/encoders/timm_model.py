"""Any image model of timm: ``timm:NAME`` from the hub, ``timm:NAME@FILE`` with weights from a file."""

from __future__ import annotations

import sys
from math import floor, isqrt
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.network import NetworkEncoder, fill, optional, read_state
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import find_weights
from raddino.errors import RaddinoError

NAME = "timm"
FILES = ("model.safetensors", "pytorch_model.bin")
KNOWN = Provenance(
    sources=None, supervision="unknown", licence="see the model's page", note="weights that tell no training"
)
SOURCES = {"in1k": "imagenet-1k", "in12k": "imagenet-12k", "in21k": "imagenet-21k", "in22k": "imagenet-21k"}
SUPERVISION = {
    "text": ("clip", "laion", "openai", "datacomp", "webli", "dfn", "metaclip"),
    "self-supervised": ("dino", "mae", "lvd", "jepa", "beit"),
    "labels": tuple(SOURCES),
}
"""Words in a published name that tell how it was trained; the first kind that matches."""


def load(place: str | None, device: str) -> Encoder:
    """Read a timm model; the embedding is what its classifier would read.

    Args:
        place: ``NAME`` or ``NAME@FILE``; FILE may be a folder.
        device: see :func:`raddino.device.resolve_device`.

    Raises:
        RaddinoError: no such model, weights missing or of another one, an input that grey images cannot be made
            into, or an output that is no embedding.
    """
    timm = optional(NAME, "timm")
    model_name, _, file_place = (place or "").partition("@")
    try:
        network = timm.create_model(model_name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError):
        raise RaddinoError(
            f"timm has no model {model_name!r}: give timm:NAME or timm:NAME@FILE, see timm.list_models(pretrained=True)"
        ) from None
    about = network.pretrained_cfg
    name = f"{NAME}:{model_name}"
    hub = about.get("hf_hub_id")
    if not file_place and not hub:
        raise RaddinoError(f"{name}: timm publishes no weights under this name on the hub; give timm:NAME@FILE")
    weights = find_weights(NAME, file_place or hub, patterns=FILES)
    file = weights.file(*FILES)
    fill(name, network, _native(network, read_state(name, file)))
    preparation = preparation_of(name, timm.data.resolve_data_config({}, model=network))
    dim, grid = shape_of(name, network, preparation)

    def forward(batch: Tensor) -> tuple[Tensor, Tensor | None]:
        return embed(network, batch)

    record = weights.record(KNOWN if file_place else known_by_name(model_name, about), file)
    return NetworkEncoder(
        name, network, forward, preparation, dim=dim, grid=grid, provenance=record, device=device
    )  # fmt: skip


def preparation_of(name: str, data: dict[str, Any]) -> Preparation:
    """What timm's own evaluation transform does, from its data configuration.

    Raises:
        RaddinoError: not three channels, not square, or resized in a way that is not implemented.
    """
    channels, height, width = data["input_size"]
    mode, interpolation = data["crop_mode"], data["interpolation"]
    if channels != 3 or height != width or mode not in ("center", "squash") or interpolation not in (
        "bilinear", "bicubic",
    ):  # fmt: skip
        raise RaddinoError(
            f"{name} wants input {data['input_size']}, {mode} crop, {interpolation}; only three channels, square, "
            "center or squash, bilinear or bicubic are implemented"
        )
    scaled = floor(height / data["crop_pct"])
    return Preparation(
        resize=(scaled, scaled) if mode == "squash" else scaled,
        crop=height,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=cast(Literal["bilinear", "bicubic"], interpolation),
        backend="pil",
    )


def _native(network: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Older published names to timm's present ones, the classifier left out."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        state = convert(state, network)
    heads = network.pretrained_cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else heads
    own = network.state_dict()
    return {k: v for k, v in state.items() if k in own or not k.startswith(tuple(f"{head}." for head in heads))}


def embed(network: Any, batch: Tensor) -> tuple[Tensor, Tensor | None]:
    """Embedding (B, D), and the map (B, H, W, D) that it is pooled from if there is one of that width."""
    features = network.forward_features(batch)
    cls = network.forward_head(features, pre_logits=True)
    if features.ndim == 3:
        tokens = features[:, getattr(network, "num_prefix_tokens", 0) :]
        side = isqrt(tokens.shape[1])
        patches = tokens.unflatten(1, (side, side)) if side * side == tokens.shape[1] else None
    elif features.ndim == 4:
        patches = features.permute(0, 2, 3, 1) if features.shape[1] == network.num_features else features
    else:
        patches = None
    return cls, patches if patches is not None and patches.shape[-1] == cls.shape[-1] else None


@torch.inference_mode()
def shape_of(name: str, network: nn.Module, preparation: Preparation) -> tuple[int, tuple[int, int] | None]:
    """D and grid, found by one pass."""
    try:
        cls, patches = embed(network.eval(), torch.zeros(1, 3, *preparation.size))
    except (AttributeError, RuntimeError, TypeError) as error:
        raise RaddinoError(f"{name} gives no image embedding ({type(error).__name__})") from None
    if cls.ndim != 2:
        raise RaddinoError(f"{name} gives {tuple(cls.shape)} for one image, not an embedding (1, D)")
    return cls.shape[1], None if patches is None else (patches.shape[1], patches.shape[2])


def known_by_name(model_name: str, about: dict[str, Any]) -> Provenance:
    """What the name tells under which timm publishes weights; data sets only where all were labelled ones."""
    tag = about.get("tag") or ""
    told = f"{model_name} {tag}"
    kind = next((kind for kind, signs in SUPERVISION.items() if any(sign in told for sign in signs)), "unknown")
    return Provenance(
        sources=sorted({source for sign, source in SOURCES.items() if sign in tag}) if kind == "labels" else None,
        supervision=kind,
        licence=about.get("license") or "",
        reference="timm's name of the weights",
        note=f"as far as timm's name for it tells: {model_name}",
    )


ENCODERS.register(NAME)(
    Family(
        load,
        "any timm model: timm:NAME, or timm:NAME@FILE",
        KNOWN,
        home="https://huggingface.co/timm",
        extra="baselines",
    )
)
