"""A region with text, and the words that say which side or projection an X-ray shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["marker", "identifier"]

MARKERS = frozenset(
    (
        *(
            "L",
            "R",
            "AP",
            "PA",
            "PORTABLE",
            "PORT",
            "MOBILE",
            "SUPINE",
            "PRONE",
            "ERECT",
            "UPRIGHT",
            "SEMI",
            "SEMI-ERECT",
        ),
        *(
            "SEMIERECT",
            "SITTING",
            "STANDING",
            "DECUB",
            "DECUBITUS",
            "LAT",
            "LATERAL",
            "LEFT",
            "RIGHT",
            "LINKS",
            "RECHTS",
        ),
    )
)
LONG, SURE, LIKE = 5, 0.99, 2.5


@dataclass(frozen=True)
class Region:
    """Text in a box of pixels: rows ``top`` to ``top + height``, columns ``left`` to ``left + width``.

    ``score`` in [0, 1] is the engine's confidence: for a marker in what was read, for an identifier that it is text.
    ``word`` is what was read, None where nothing was (``"L mirrored"`` for a letter seen from behind); it stays in
    memory and is not shown by ``repr``.
    """

    top: int
    left: int
    height: int
    width: int
    kind: Kind
    score: float
    word: str | None = field(default=None, repr=False)

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width


def kind_of(word: str) -> Kind:
    """``"marker"`` if every part of ``word`` between spaces, commas, slashes and brackets is a marker."""
    parts = [p for p in re.split(r"[\s,;/()\[\]]+", word.upper().replace(".", "")) if p]
    words = [p.strip("-:") for p in parts]
    return "marker" if words and all(w in MARKERS or w.replace("-", "") in MARKERS for w in words) else "identifier"


def long_and_sure(word: str | None, score: float) -> bool:
    """Whether a marker stays one beside an identifier."""
    return score >= SURE and len((word or "").removesuffix(" mirrored")) >= LONG


def beside(a: Region, b: Region, gap: float) -> bool:
    """Whether two regions of like thickness stand on one line at most ``gap`` times that apart.

    The line lies as the longer of them does, upright text or sideways.
    """
    longest = max(a, b, key=lambda r: max(r.width, r.height))
    across, along = ("left", "top") if longest.height > 1.5 * longest.width else ("top", "left")
    (a0, a1), (b0, b1), (a2, a3), (b2, b3) = (_span(r, side) for side in (across, along) for r in (a, b))
    thin, thick = sorted((a1 - a0, b1 - b0))
    shared, apart = min(a1, b1) - max(a0, b0), max(a2, b2) - min(a3, b3)
    return shared >= 0.5 * thin and apart <= gap * thin and thick <= LIKE * thin


def _span(region: Region, side: str) -> tuple[int, int]:
    return (region.top, region.bottom) if side == "top" else (region.left, region.right)


def joined(regions: list[Region], gap: float = 0.8) -> list[Region]:
    """A marker that touches an identifier on its line is part of it ("R" of "R 1234"), unless it is long and sure;
    identifiers on one line become one box."""
    markers = [r for r in regions if r.kind == "marker"]
    identifiers = [r for r in regions if r.kind == "identifier"]
    for m in sorted(markers, key=lambda r: (r.top, r.left)):
        if not long_and_sure(m.word, m.score) and any(beside(m, i, gap) for i in identifiers):
            markers.remove(m)
            identifiers.append(replace(m, kind="identifier", word=None))
    return markers + _bridged(identifiers, gap)


def _bridged(regions: list[Region], gap: float) -> list[Region]:
    left = list(regions)
    done: list[Region] = []
    while left:
        one = left.pop()
        near = next((r for r in left if beside(one, r, gap)), None)
        if near is None:
            done.append(one)
            continue
        left.remove(near)
        top, start = min(one.top, near.top), min(one.left, near.left)
        height, width = max(one.bottom, near.bottom) - top, max(one.right, near.right) - start
        words = [r.word for r in (one, near) if r.word]
        left.append(
            Region(top, start, height, width, "identifier", max(one.score, near.score), " ".join(words) or None)
        )
    return done
