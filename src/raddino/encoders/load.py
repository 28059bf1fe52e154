"""An encoder by name, by folder, or by name and place of its weights."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from raddino.encoders import (
    automodel,
    biomedclip,
    biovil_t,
    chexzero,
    clip,
    dinov2,
    dinov3,
    eva_x,
    floors,
    mrm,
    ours,
    rad_dino,
    resnet50,
    scratch,
    siglip,
    timm_model,
    torchxrayvision_model,
    unet_reference,
)
from raddino.encoders.base import ENCODERS, Encoder, Provenance
from raddino.encoders.huggingface import read_config
from raddino.encoders.weights import Weights, is_here
from raddino.errors import RaddinoError

FAMILIES = (
    ours, rad_dino, dinov2, dinov3, clip, siglip, biomedclip, biovil_t, mrm, chexzero, eva_x, torchxrayvision_model,
    timm_model, resnet50, scratch, automodel, floors, unet_reference,
)  # fmt: skip
"""Modules that registered their encoders when they were imported; a new family is one more."""

EXTRAS = {"baselines": ("timm", "open_clip", "sentencepiece"), "seg": ("segmentation_models_pytorch",)}
"""Modules that each extra brings."""

READERS: dict[str, Any] = {kind: family.load for family in (dinov3, clip, siglip) for kind in family.KINDS}
"""Who reads a folder without a name, by the model_type in its config.json; any other kind is for automodel."""


def known_encoders() -> list[str]:
    """Names that :func:`load_encoder` takes besides folders."""
    return sorted(ENCODERS)


def describe_encoders() -> list[dict[str, Any]]:
    """One row for each known name, without loading weights or asking a network.

    Returns:
        Rows with ``name``, ``dim`` and ``side`` (``"-"`` where the weights decide), ``supervision``, ``licence``,
        ``gated``, ``needs`` (what is still to be installed, and where the weights are published), ``here``
        (whether the weights are on this machine) and ``summary``.
    """
    rows = []
    for name in known_encoders():
        about = ENCODERS[name]
        lacking = [module for module in EXTRAS.get(about.extra, ()) if importlib.util.find_spec(module) is None]
        needs = [f"pip install 'raddino[{about.extra}]'"] if lacking else []
        rows.append(
            {
                "name": name,
                "dim": about.dim or "-",
                "side": about.side or "-",
                "supervision": about.provenance.supervision,
                "licence": about.provenance.licence or "-",
                "gated": about.provenance.gated,
                "needs": "; ".join([*needs, *([about.home] if about.home else [])]),
                "here": is_here(name),
                "summary": about.summary,
            }
        )
    return rows


def load_encoder(spec: str | Path, device: str = "auto") -> Encoder:
    """An encoder from its spec.

    Args:
        spec: ``NAME`` (``"raddino-tiny"``, ``"hog"``, ``"rad-dino"``), ``NAME:PLACE`` with the folder, file or
            hub id of the weights, or a folder: one that ``pretrain`` wrote (``run/encoder``), or that
            Transformers' ``save_pretrained`` did.
        device: where the network runs, see :func:`raddino.device.resolve_device`.

    Raises:
        RaddinoError: neither a known name nor a folder with weights in it, or the weights are not to be had.
    """
    name, colon, place = str(spec).partition(":")
    if str(spec) not in ENCODERS and os.path.isdir(spec):
        return load_folder(Path(spec), device)
    if name not in ENCODERS and ("/" in name or name.startswith(".")):
        raise RaddinoError(
            f"no encoder at {spec}: give a folder that holds config.json and model.safetensors, or hf:ORG/NAME for "
            "a model on the hub"
        )
    return ENCODERS[name].load(place if colon else None, device)


def load_folder(folder: Path, device: str = "auto") -> Encoder:
    """An encoder from a folder of ours or of Transformers; its ``config.json`` tells which kind.

    Raises:
        RaddinoError: no such folder of weights, or of a kind that is not read.
    """
    if not (folder / "config.json").is_file():
        raise RaddinoError(
            f"{folder} has no config.json: give a folder that Transformers wrote, or NAME:{folder} with one of the "
            "names that 'raddino encoders' lists"
        )
    name = folder.resolve().name
    kind = read_config(name, Weights(folder)).get("model_type")
    if kind in ("dinov2", "dinov2_with_registers"):
        return ours.VitEncoder.load(folder, device)
    if not isinstance(kind, str) or kind not in READERS:
        return automodel.load(Weights(folder), name=name, device=device)
    known = Provenance(sources=None, supervision="unknown", licence="not recorded", note="no record")
    return READERS[kind](Weights(folder), name=name, known=known, device=device)
