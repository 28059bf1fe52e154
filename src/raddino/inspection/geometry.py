"""Pictures stored turned, mirrored, inverted or tilted, of another view than their header says, or of no chest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raddino.inspection.base import Finding, Severity, Value, register
from raddino.inspection.moves import MOVES, VIEWS, Move

SURE = {"turned": 0.8, "inverted": 0.8, "mirrored": 0.9, "lateral": 0.95, "frontal": 0.98, "other": 0.98}
"""Least probability of a finding; docs/results/geometry.md has what is found and what is false at these."""
MOST_TILT = 10.0
"""Degrees."""
FRONTAL = ("PA", "AP", "FRONTAL")
HEADER = "stored turned or mirrored"
"""How a note of :mod:`raddino.images.orientation` begins."""
REASONS: dict[str, tuple[Severity, str]] = {
    "turned-90": ("error", "Turned by 90 degrees clockwise"),
    "turned-180": ("error", "Turned by 180 degrees"),
    "turned-270": ("error", "Turned by 270 degrees clockwise"),
    "inverted": ("error", "Inverted: bright and dark exchanged"),
    "not-a-chest": ("error", "Does not look like a chest radiograph"),
    "mirrored": ("warning", "Looks mirrored: the heart and the markers are on the other side (or dextrocardia)"),
    "header-turned": ("warning", "The header says turned or mirrored"),
    "lateral": ("warning", "Looks lateral, and nothing says so"),
    "view-contradicted": ("warning", "Lateral by what is written and frontal by the picture, or the reverse"),
    "tilted": ("note", f"Tilted by more than {MOST_TILT:g} degrees"),
}


class Geometry:
    """See the module; what the probabilities are worth is measured in docs/results/geometry.md."""

    name = "geometry"
    version = 1
    reasons = REASONS

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Of each image ``moves`` (16 probabilities, as :data:`MOVES`), ``views`` (4) and ``tilt`` (degrees)."""
        from raddino.inspection.upright import look

        seen = look(images)
        return [
            {"moves": _rounded(moves), "views": _rounded(views), "tilt": round(float(tilt), 1)}
            for moves, views, tilt in zip(seen.moves, seen.views, seen.tilt, strict=True)
        ]

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """Findings by :data:`SURE`; of a picture that shows no chest nothing else is said."""
        for row in range(len(measures)):
            written = {name: manifest[name].iat[row] if name in manifest else None for name in ("view", "warnings")}
            yield from _judged(row, measures.iloc[row], written["view"], str(written["warnings"] or ""))


def sure_move(measured: dict[str, Any]) -> tuple[Move, float]:
    """What :meth:`Geometry.measure` says was surely done to a picture, and its probability.

    Only turns and inversion are undone by content; what is not sure is left as it is.
    """
    moves = np.asarray(measured["moves"])
    quarters, turned = _likeliest(moves, "quarters")
    inverted, negative = _likeliest(moves, "inverted")
    turn = int(quarters) if turned >= SURE["turned"] else 0
    invert = bool(inverted) and negative >= SURE["inverted"]
    probability = min([turned] * bool(turn) + [negative] * invert, default=1.0)
    if measured["views"][-1] >= SURE["other"]:
        return MOVES[0], 1.0
    return Move(quarters=turn, inverted=invert), probability


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]


def _likeliest(moves: np.ndarray, part: str) -> tuple[int, float]:
    """The likeliest value of one part of a move, whatever the others, and its probability."""
    shares: dict[int, float] = {}
    for move, probability in zip(MOVES, moves, strict=True):
        value = int(getattr(move, part))
        shares[value] = shares.get(value, 0.0) + float(probability)
    best = max(shares, key=lambda value: shares[value])
    return best, min(shares[best], 1.0)


def _judged(row: int, measured: pd.Series, view: object, notes: str) -> Iterator[Finding]:
    moves, views = (
        np.asarray(measured["moves"]),
        dict(zip(VIEWS, measured["views"], strict=True)),
    )
    if views["OTHER"] >= SURE["other"]:
        yield Finding(row, "not-a-chest", views["OTHER"])
        return
    quarters, turned = _likeliest(moves, "quarters")
    if quarters and turned >= SURE["turned"]:
        yield Finding(row, f"turned-{90 * quarters}", turned)
    inverted, negative = _likeliest(moves, "inverted")
    if inverted and negative >= SURE["inverted"]:
        yield Finding(row, "inverted", negative)
    lateral = views["LATERAL"] >= SURE["lateral"]
    mirrored, left = _likeliest(moves, "mirrored")
    if mirrored and left >= SURE["mirrored"] and not lateral:
        yield Finding(row, "mirrored", left)
    if HEADER in notes:
        said = Move(quarters, bool(mirrored), bool(inverted)).words or "upright"
        yield Finding(row, "header-turned", said=f"the picture looks {said} ({moves.max():.1%})")
    if lateral and not isinstance(view, str):
        yield Finding(row, "lateral", views["LATERAL"])
    elif lateral and view in FRONTAL:
        yield Finding(row, "view-contradicted", views["LATERAL"], f"written {view}, looks lateral")
    frontal = views["PA"] + views["AP"]
    if view == "LATERAL" and frontal >= SURE["frontal"]:
        yield Finding(row, "view-contradicted", frontal, "written LATERAL, looks frontal")
    if abs(measured["tilt"]) > MOST_TILT and not lateral:
        yield Finding(row, "tilted", said=f"{measured['tilt']:+.0f} degrees")


register(Geometry())
