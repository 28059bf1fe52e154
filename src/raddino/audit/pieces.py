"""A file as what is to be searched: its bytes, and whatever is packed, compressed or encoded in them, opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

MOST_UNPACKED, DEEPEST = 2**32, 12
RUN = re.compile(rb"[\x20-\x7e\t]{12,}")
"""Printable stretches that compressed data hardly ever holds by chance."""
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to be searched.

    Attributes:
        place: where it lies (``"shards/0.tar: ab.json: patient"``).
        data: bytes; a memory map of a whole file.
        kind: ``"raw"`` bytes of any meaning, ``"text"``, ``"cells"`` (one value a line), or ``"numbers"``, one a line,
            that the format itself writes as numbers.
        field: column, key or element that it is the value of.
        stated: why it may name its source, where our documentation says that it does.
    """

    place: str
    data: Any
    kind: Literal["raw", "text", "cells", "numbers"]
    field: str = ""
    stated: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """Something of which the bytes were searched, but which could not be opened."""

    place: str
    why: str


Found = Iterator[Piece | Unread]
Format = Callable[["Unpacker", str, Any, str, int], Found]


class Unpacker:
    """Opens one file; what it unpacks is bounded, however deep it lies.

    Args:
        formats: a name, a test of (first 4 KiB, file name, all data), and what opens it; the first that fits is taken.
    """

    def __init__(self, formats: tuple[tuple[str, Callable[[bytes, str, Any], bool], Format], ...]) -> None:
        self.formats, self.left = formats, MOST_UNPACKED

    def spend(self, size: int) -> None:
        """Count unpacked bytes. Raises ValueError where they are too many."""
        self.left -= size
        if self.left < 0:
            raise ValueError("too much")

    def pieces(self, place: str, data: Any, name: str = "", depth: int = 0) -> Found:
        """Everything in ``data``.

        Args:
            place: what to call it.
            data: bytes or a memory map.
            name: file name, whose suffix tells formats without a signature.
            depth: of nesting.
        """
        if depth > DEEPEST:
            yield Unread(place, "nested too deeply")
            yield Piece(place, data, "raw")
            return
        head = bytes(data[:4096])
        for kind, fits, opened in self.formats:
            if fits(head, name.lower(), data):
                if kind != "tar":  # whose members are searched one by one, and what lies between them
                    yield Piece(place, data, "raw")
                try:
                    yield from opened(self, place, data, name, depth + 1)
                except Exception as error:  # whatever a library raises at a damaged file
                    yield Unread(place, f"{kind} that cannot be opened ({type(error).__name__})")
                    yield Piece(place, data, "raw")
                    yield from printable(place, data)
                return
        found = as_text(data)
        if found is None:
            yield Piece(place, data, "raw")
            yield from printable(place, data)
        else:
            from raddino.audit.texts import text

            yield from text(self, place, found, name, depth)


def printable(place: str, data: Any) -> Iterator[Piece]:
    """Stretches of printable ASCII in binary data, one a line."""
    if found := RUN.findall(data):
        yield Piece(f"{place} (printable)", b"\n".join(found), "text")


def as_text(data: Any) -> bytes | None:
    """The data in UTF-8 where it is text in UTF-8, UTF-16 or UTF-32 with a mark, or Latin-1; else None."""
    for mark, encoding in MARKS.items():
        if bytes(data[: len(mark)]) == mark:
            try:
                return bytes(data).decode(encoding).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                break
    if CONTROL.search(data):
        return None
    whole = bytes(data)
    try:
        whole.decode("utf-8")
    except UnicodeDecodeError:
        return whole.decode("latin-1").encode()
    return whole.removeprefix(b"\xef\xbb\xbf")
