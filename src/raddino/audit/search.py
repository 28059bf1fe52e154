"""Hundreds of thousands of byte strings looked for at once: a window of each in a hash table, tested at every byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

BLOCK = 2**20
WIDE, NARROW = 8, 4
"""Bytes of the window; the narrow one is for shorter strings, which are looked for in decoded text only."""
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
FEWEST_BITS, MOST_BITS, SLOTS, COUNTED = 16, 24, 16, 22
DIGIT_BEFORE, DIGIT_AFTER = re.compile(rb"[0-9][.,]\Z"), re.compile(rb"[.,][0-9]")


class Guard(IntEnum):
    """What must not stand beside a string, that it counts."""

    NONE = 0
    WORD = 1
    """A letter or digit: short strings."""
    NUMBER = 2
    """A hexadecimal digit, or more of a decimal number: strings that a digest or a number may hold by chance."""
    CELL = 3
    """Anything of the same value: numbers so short that counts equal them."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string to find.

    Attributes:
        data: at least 4 bytes, in lower case unless ``exact``.
        owner: number of what it spells.
        spelling: how it spells it, for people.
        guard: see :class:`Guard`.
        exact: upper and lower case differ.
    """

    data: bytes
    owner: int
    spelling: str
    guard: Guard = Guard.NONE
    exact: bool = False


class Index:
    """Finds where any of the patterns stands, ASCII letters of either case taken for one unless a pattern is exact.

    Patterns of fewer than 8 bytes are looked for in decoded text alone: in compressed or numeric data they stand by
    chance.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.patterns = patterns
        lengths = np.array([len(one.data) for one in patterns], dtype=np.int64)
        self._tables = [
            _Table(patterns, np.flatnonzero(wanted), width)
            for width, wanted in ((WIDE, lengths >= WIDE), (NARROW, (lengths >= NARROW) & (lengths < WIDE)))
        ]

    def find(self, data: Any, text: bool) -> Iterator[tuple[int, Pattern]]:
        """Position and pattern of every match.

        Args:
            data: bytes, or a memory map.
            text: decoded text, in which short patterns count too; line breaks end its values.
        """
        for table in self._tables[: 2 if text else 1]:
            for at, number in table.candidates(data):
                pattern = self.patterns[number]
                start = at - int(table.offsets[number])
                found = bytes(data[max(start, 0) : start + len(pattern.data)])
                if start < 0 or (found if pattern.exact else found.lower()) != pattern.data:
                    continue
                if _stands_alone(data, start, start + len(pattern.data), pattern.guard):
                    yield start, pattern


class _Table:
    """The rarest window of each pattern, by its bytes."""

    def __init__(self, patterns: Sequence[Pattern], chosen: np.ndarray, width: int) -> None:
        self.width, self.kind = width, np.dtype(f"<u{width}")
        self.offsets = np.zeros(len(patterns), np.int64)
        texts = [patterns[number].data.lower() for number in chosen]
        joined = np.frombuffer(b"".join(texts) + bytes(width), np.uint8)
        starts = np.cumsum([0, *(len(text) for text in texts)])
        grams = np.zeros(len(joined) - width, self.kind)
        for byte in range(width):
            grams |= joined[byte : byte + len(grams)].astype(self.kind) << self.kind.type(8 * byte)
        chosen_at = _rarest(grams, starts, width) if texts else np.zeros(0, np.int64)
        self.offsets[chosen] = chosen_at - starts[:-1]
        order = np.argsort(grams[chosen_at], kind="stable")
        self.keys, firsts = np.unique(grams[chosen_at[order]], return_index=True)
        self.numbers = chosen[order]
        self.firsts = np.append(firsts, len(order))
        self.bits = int(np.clip(np.ceil(np.log2(SLOTS * max(len(self.keys), 1))), FEWEST_BITS, MOST_BITS))
        self.filters = []
        for multiplier in MULTIPLIERS:
            table = np.zeros(2**self.bits, bool)
            table[self._hash(self.keys, multiplier)] = True
            self.filters.append(table)

    def _hash(self, grams: np.ndarray, multiplier: int) -> np.ndarray:
        """Of each window, ``bits`` bits."""
        bits = 8 * self.width
        return (grams * self.kind.type(multiplier % 2**bits)) >> self.kind.type(bits - self.bits)

    def candidates(self, data: Any) -> Iterator[tuple[int, int]]:
        """Position of a window in ``data``, and number of a pattern that has it."""
        if not len(self.keys):
            return
        for start in range(0, len(data), BLOCK):
            block = bytes(data[start : start + BLOCK + self.width - 1]).lower()
            found = [self._hits(block, phase) for phase in range(min(self.width, max(len(block) - self.width + 1, 0)))]
            for at, key in sorted(hit for hits in found for hit in hits):
                for number in self.numbers[self.firsts[key] : self.firsts[key + 1]].tolist():
                    yield start + at, number

    def _hits(self, block: bytes, phase: int) -> Iterator[tuple[int, int]]:
        """Place in a block, and number in ``keys``, of the known windows at every ``width``-th byte from ``phase``."""
        grams = np.frombuffer(block, self.kind, (len(block) - phase) // self.width, phase)
        hits = np.flatnonzero(self.filters[0][self._hash(grams, MULTIPLIERS[0])])
        hits = hits[self.filters[1][self._hash(grams[hits], MULTIPLIERS[1])]]
        at = np.minimum(np.searchsorted(self.keys, grams[hits]), len(self.keys) - 1)
        same = self.keys[at] == grams[hits]
        return zip((hits[same] * self.width + phase).tolist(), at[same].tolist(), strict=True)


def _rarest(grams: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Of each text, the place of the window that the fewest texts have, about; the last where several are as rare.

    Args:
        grams: windows at every byte of all texts, one behind another.
        starts: (texts + 1,) first byte of each text, and the end.
        width: of a window; no text is shorter.
    """
    places = np.arange(len(grams))
    hashed = (grams * grams.dtype.type(MULTIPLIERS[0] % 2 ** (8 * width))) >> grams.dtype.type(8 * width - COUNTED)
    score = (np.bincount(hashed.astype(np.int64), minlength=2**COUNTED)[hashed.astype(np.int64)] << 40) - places
    over = np.concatenate([starts[1:] - back for back in range(1, width)])
    score[over] = np.iinfo(np.int64).max
    least = np.minimum.reduceat(score, starts[:-1])
    return (-least) % 2**40


def _stands_alone(data: Any, start: int, end: int, guard: Guard) -> bool:
    if guard is Guard.NONE:
        return True
    before, after = bytes(data[max(start - 2, 0) : start]), bytes(data[end : end + 2])
    if guard is Guard.CELL:
        return before[-1:] in (b"", b"\n") and after[:1] in (b"", b"\n")
    if guard is Guard.WORD:
        return not (before[-1:].isalnum() or after[:1].isalnum())
    beside = (before[-1:] + after[:1]).lower()
    return not (any(sign in b"0123456789abcdef" for sign in beside) or _in_number(before, after))


def _in_number(before: bytes, after: bytes) -> bool:
    return DIGIT_BEFORE.search(before) is not None or DIGIT_AFTER.match(after) is not None
