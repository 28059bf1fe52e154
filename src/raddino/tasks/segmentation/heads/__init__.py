"""Heads that turn patch features into logits; :func:`build_head` makes one by name."""

from __future__ import annotations

from torch import nn

from raddino.errors import ConfigError, did_you_mean
from raddino.tasks.segmentation.heads.linear import LinearHead
from raddino.tasks.segmentation.heads.upernet import UperNetHead
from raddino.tasks.segmentation.heads.vitdet import VitDetHead

HEADS: dict[str, type[LinearHead] | type[VitDetHead] | type[UperNetHead]] = {
    "linear": LinearHead,
    "vitdet": VitDetHead,
    "upernet": UperNetHead,
}


def build_head(kind: str, dim: int, classes: int, depths: int = 1) -> nn.Module:
    """A head with random weights, from patch features (B, H, W, depths * dim) to logits (B, classes, h, w).

    ``linear`` answers on the grid itself (h = H, w = W), the others on one four times as fine.

    Args:
        kind: of :data:`HEADS`.
        dim: width D of the features of one depth.
        classes: channels of the logits; the background is one of them where classes exclude each other.
        depths: blocks whose features lie side by side on the last axis, earliest first; 1 or 4 for a pyramid.

    Raises:
        ConfigError: an unknown kind, or numbers that it does not take.
    """
    if kind not in HEADS:
        raise ConfigError(f"unknown head {kind!r}.{did_you_mean(kind, HEADS)} Known: {', '.join(HEADS)}.")
    if min(dim, classes, depths) < 1:
        raise ConfigError(f"a head takes dim, classes and depths of 1 or more, got {dim}, {classes} and {depths}")
    return HEADS[kind](dim, classes, depths)
