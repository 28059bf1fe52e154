"""An encoder's spec as a probe or a model may keep it: without a path that tells of this machine or its users."""

from __future__ import annotations

import os
from pathlib import Path

from raddino.encoders import load as _families  # noqa: F401  (registers them)
from raddino.encoders import timm_model
from raddino.encoders.base import ENCODERS

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
