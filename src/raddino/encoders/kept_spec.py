"""An encoder's spec as a probe or a model may keep it: without a path that tells of this machine or its users."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from raddino.encoders import load as _families  # noqa: F401  (registers them)
from raddino.encoders import timm_model
from raddino.encoders.base import ENCODERS
from raddino.encoders.weights import WEIGHT_SUFFIXES
from raddino.files import sha256

BELOW, ABOVE = f".{os.sep}", f"..{os.sep}"


def kept_spec(spec: str | Path, folder: Path, beside: Path) -> str | None:
    """What ``folder`` keeps of a spec that :func:`~raddino.encoders.load.load_encoder` took.

    Args:
        spec: of the encoder.
        folder: of the probe or model.
        beside: folder of the results that it is part of.

    Returns:
        Names and hub ids as they are; of weights somewhere in the folder that holds ``beside``, the way to them from
        ``folder``, so that all can be moved together; None for weights elsewhere.
    """
    head, place = _parted(str(spec))
    if not place or not os.path.exists(os.path.expanduser(place)):
        return str(spec)
    there, around = os.path.abspath(os.path.expanduser(place)), os.path.abspath(beside.parent)
    if around == os.path.dirname(around) or os.path.commonpath([there, around]) != around:
        return None
    way = os.path.relpath(there, os.path.abspath(folder))
    return head + (way if way.startswith(ABOVE) else f"{BELOW}{way}")


def found_spec(kept: str, folder: Path) -> str:
    """What :func:`kept_spec` kept in ``folder``, as a spec."""
    head, place = _parted(kept)
    if not place.startswith((BELOW, ABOVE)):
        return kept
    return head + os.path.normpath(os.path.join(os.path.abspath(folder), place))


def weights_digest(spec: str | Path) -> str:
    """SHA-256 over the weights that lie at the place which a spec names, wherever that is; empty for names and ids."""
    files = list(_weight_files(Path(_place(spec))))
    return sha256(*files) if files else ""


def _place(spec: str | Path) -> str:
    """The place that a spec names, if there is one and something lies there; else nothing."""
    place = str(spec) if os.path.exists(spec) else _parted(str(spec))[1]
    return place if place and os.path.exists(os.path.expanduser(place)) else ""


def _weight_files(place: Path) -> Iterator[Path]:
    place = place.expanduser()
    if place.is_file():
        yield place
    elif place.is_dir():
        found = sorted(file for file in place.iterdir() if file.suffix in WEIGHT_SUFFIXES and file.is_file())
        yield from [file for file in found if file.suffix == ".safetensors"] or found


def _parted(spec: str) -> tuple[str, str]:
    """What names the family (``"dinov2-base:"``, ``"timm:NAME@"``, or nothing) and the place behind it, if any."""
    family, colon, place = spec.partition(":")
    if spec in ENCODERS:
        return spec, ""
    if not colon or family not in ENCODERS:
        return "", spec
    if family == timm_model.NAME:
        name, at, place = place.partition("@")
        return f"{family}:{name}{at}", place
    return f"{family}:", place
