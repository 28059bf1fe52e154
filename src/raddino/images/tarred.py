"""Tar archives (POSIX ustar and pax, GNU), plain or through gzip.

A gzip stream has one way through it. The pass that lists the members keeps the state of the decompressor every
16 MiB, so that each member is read from the state before it, or goes on where this thread stopped.
"""

from __future__ import annotations

import bisect
import threading
import zlib
from collections.abc import Iterator
from typing import Any

from raddino.images.archive import (
    BOMBS,
    LINKS,
    RATIO,
    SPARSE,
    Archive,
    Damaged,
    check_size,
)
from raddino.storage import Ranges

BLOCK, BEYOND = 512, 2**62
LARGEST_RECORD = 2**20
STATE_EVERY, PIECE, READ = 2**24, 2**20, 2**16
UNSEEN = 2**26
"""Bytes that any gzip stream may give, however small it is."""
REGULAR, FOLDER, NO_FILE = b"0\x007", b"5", b"12346"
PAX, PAX_ALL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"


class TarArchive(Archive):
    """A tar archive: see :class:`~raddino.images.archive.Archive`."""

    def _entries(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from self._headers()
        if isinstance(self.data, Gunzipped):
            self.data.read(BEYOND, 1)  # to the checksum at its end

    def _headers(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        at, told = 0, dict[str, str]()
        while head := self._block(at):
            size, kind = _number(head[124:136]), head[156:157]
            start = at + BLOCK
            if kind in NO_FILE or kind in FOLDER:
                self.passed.update([LINKS] * (kind in NO_FILE or size > 0))
                at, told = start, {}
                continue
            if kind in (PAX, LONG_NAME):
                told |= self._record(start, size, kind)
            elif kind in REGULAR:
                size = int(told.get("size", size))
                name = told.get("path") or _name(head)
                if any(key.startswith("GNU.sparse") for key in told):
                    self.passed[SPARSE] += 1
                elif not name.endswith("/"):
                    yield name, (start, size)
            elif kind not in (PAX_ALL, LONG_LINK):
                self.passed[SPARSE] += 1
            at = start + -(-size // BLOCK) * BLOCK
            if kind not in (PAX, LONG_NAME, LONG_LINK, PAX_ALL):
                told = {}

    def _block(self, at: int) -> bytes:
        """The header at a place, empty at the end of the archive."""
        head = self.data.read(at, BLOCK)
        if not head.strip(b"\0"):
            if at > self.data.size:
                raise Damaged
            return b""
        said = _number(head[148:156]) if len(head) == BLOCK else -1
        plain = head[:148] + b" " * 8 + head[156:]
        if said not in (sum(plain), sum(plain) - 256 * sum(one > 127 for one in plain)):
            raise Damaged
        return head

    def _record(self, start: int, size: int, kind: bytes) -> dict[str, str]:
        """What stands before a header and tells more of it."""
        if size > LARGEST_RECORD:
            raise Damaged
        data = self.data.read(start, size)
        if len(data) < size:
            raise Damaged
        return {"path": _text(data.split(b"\0")[0])} if kind == LONG_NAME else _pax(data)

    def _unpack(self, *numbers: int) -> bytes:
        start, size = numbers
        check_size(size)
        data = self.data.read(start, size)
        if len(data) < size:
            raise Damaged
        return data


class Gunzipped:
    """What a gzip stream holds, read in ranges from any thread.

    Attributes:
        size: as far as it is known; all of it once its end was read.
    """

    def __init__(self, packed: Ranges) -> None:
        self.packed, self.size = packed, 0
        self._states = [_State(0, 0, zlib.decompressobj(31))]
        self._lock = threading.Lock()
        self._own = threading.local()

    def read(self, start: int, length: int) -> bytes:
        """See :meth:`raddino.storage.Ranges.read`.

        Raises:
            OSError: the stream is damaged.
            Damaged: it is a bomb.
        """
        state = self._nearest(start)
        self._own.state = None  # where this fails, the state is of no use
        found = []
        while length > 0:
            piece = state.rest or self._next(state)
            if not piece:
                break
            skipped = min(start - state.out, len(piece))
            taken = piece[skipped : skipped + length]
            found.append(taken)
            state.out += skipped + len(taken)
            state.rest = piece[skipped + len(taken) :]
            start, length = start + len(taken), length - len(taken)
        self._own.state = state
        return b"".join(found)

    def _nearest(self, start: int) -> _State:
        """This thread's own state where it lies before ``start`` and no kept one is nearer."""
        own: _State | None = getattr(self._own, "state", None)
        with self._lock:
            kept = self._states[bisect.bisect_right(self._states, start, key=lambda state: state.out) - 1]
            if own is not None and kept.out <= own.out <= start:
                return own
            return kept.copy()

    def _next(self, state: _State) -> bytes:
        """The next piece of the stream, empty at its end."""
        while True:
            data = state.unread or self.packed.read(state.at, READ)
            state.at += 0 if state.unread else len(data)
            if state.inflater.eof:  # another stream may follow, and zeros that fill a tape's block
                if not data:
                    return b""
                state.unread = data.lstrip(b"\0")
                if state.unread:
                    state.inflater = zlib.decompressobj(31)
                continue
            try:
                piece = state.inflater.decompress(data, PIECE)
            except zlib.error:
                raise OSError("damaged") from None
            if not piece and not data:
                raise OSError("cut short")
            state.unread = state.inflater.unconsumed_tail or state.inflater.unused_data
            if piece:
                self._keep(state, len(piece))
                return piece

    def _keep(self, state: _State, length: int) -> None:
        """Note how far the stream is known, and the state behind each 16 MiB of it."""
        reached = state.out + length
        with self._lock:
            if reached > self.size:
                self.size = reached
                if reached > UNSEEN + RATIO * state.at:
                    raise Damaged(BOMBS)
                if reached - self._states[-1].out >= STATE_EVERY and not state.inflater.eof:
                    kept = state.copy()
                    kept.out, kept.rest = reached, b""
                    self._states.append(kept)


class _State:
    """A place in a gzip stream.

    Attributes:
        out: bytes given before it.
        at: bytes taken before it, those in ``unread`` among them.
        inflater: zlib's own.
        unread: bytes taken and not given to it.
        rest: bytes that it gave already and that come next.
    """

    def __init__(self, out: int, at: int, inflater: Any, unread: bytes = b"", rest: bytes = b"") -> None:
        self.out, self.at, self.inflater, self.unread, self.rest = out, at, inflater, unread, rest

    def copy(self) -> _State:
        return _State(self.out, self.at, self.inflater.copy(), self.unread, self.rest)


def _number(field: bytes) -> int:
    """Octal digits, or a positive number of 62 bits in base 256."""
    if field[:1] == b"\x80":
        value = int.from_bytes(field[1:], "big")
        if value < 2**62:
            return value
        raise Damaged
    digits = field.split(b"\0")[0].strip()
    if not all(48 <= digit < 56 for digit in digits):
        raise Damaged
    return int(digits or b"0", 8)


def _name(head: bytes) -> str:
    name, prefix = head[:100].split(b"\0")[0], head[345:500].split(b"\0")[0]
    return _text(prefix + b"/" + name if prefix and head[257:263] == b"ustar\0" else name)


def _pax(data: bytes) -> dict[str, str]:
    """Records ``LENGTH KEY=VALUE``; the size is checked to be a number."""
    told, at = dict[str, str](), 0
    while at < len(data) and data[at] != 0:
        digits, space, _ = data[at : at + 21].partition(b" ")
        if not space or not digits.isdigit() or not len(digits) + 3 <= int(digits) <= len(data) - at:
            raise Damaged
        key, equals, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        if equals:
            told[_text(key)] = _text(value)
        at += int(digits)
    if not told.get("size", "0").isdecimal() or len(told.get("size", "0")) > 18:
        raise Damaged
    return told


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
