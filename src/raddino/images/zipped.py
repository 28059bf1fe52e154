"""Zip archives (PKWARE's APPNOTE 6.3.10), by their central directory: members stored or deflated, also beyond 4 GiB."""

from __future__ import annotations

import re
import stat
import struct
import zlib
from array import array
from collections.abc import Iterator
from itertools import islice

import numpy as np

from raddino.images.archive import LINKS, MOST_MEMBERS, Archive, Damaged, check_size
from raddino.images.errors import UnreadableImage

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
END, END_64, LOCATOR, ENTRY, MEMBER = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04"
LONGEST_END = 22 + 2**16
LARGEST_DIRECTORY = 2**28
HEADER = 30
"""Bytes at least before a member's own."""
STORED, DEFLATED = 0, 8
ENCRYPTED = 1 | 1 << 6 | 1 << 13
OVERLAPS = 1 << 16
"""Set beside the flags of a member whose bytes are another's too."""
UNIX, DARWIN, DOS_FOLDER = 3, 19, 0x10
FULL = 0xFFFFFFFF
EXTRA_64 = 1
SLACK = 1024


class ZipArchive(Archive):
    """A zip archive: see :class:`~raddino.images.archive.Archive`."""

    columns = 6

    def _entries(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        start, length, before = self._directory()
        names, numbers = list[str](), array("q")
        for name, told in islice(self._listed(start, length, before), MOST_MEMBERS + 1):
            names.append(name)
            numbers.extend(told)
        table = np.frombuffer(numbers, dtype=np.int64).reshape(-1, self.columns)
        table[_overlapping(table[:, 0], table[:, 0] + HEADER + table[:, 1], start), 3] |= OVERLAPS
        yield from ((name, tuple(row.tolist())) for name, row in zip(names, table, strict=True))
        if self._cut:
            raise Damaged

    def _directory(self) -> tuple[int, int, int]:
        """Where the central directory starts, its length, and how many bytes stand before the archive."""
        size = self.data.size
        tail_at = max(0, size - LONGEST_END)
        tail = self.data.read(tail_at, LONGEST_END)
        ends = [found.start() for found in re.finditer(re.escape(END), tail) if found.start() + 22 <= len(tail)]
        if not ends:
            raise Damaged
        whole = (at for at in reversed(ends) if at + 22 + struct.unpack_from("<H", tail, at + 20)[0] == len(tail))
        end = next(whole, ends[-1])  # a comment may hold what looks like the end
        disk, first_disk, _, _, length, start = struct.unpack_from("<4H2L", tail, end + 4)
        at = tail_at + end
        locator = self.data.read(at - 20, 20) if at >= 20 else b""
        if locator[:4] == LOCATOR:
            (place,) = struct.unpack_from("<Q", locator, 8)
            record = self.data.read(place, 56) if place < size else b""
            if record[:4] != END_64:  # an archive with bytes before it
                place = at - 76
                record = self.data.read(place, 56) if place >= 0 else b""
            if record[:4] != END_64 or len(record) < 56:
                raise Damaged
            disk, first_disk, _, _, length, start = struct.unpack_from("<2L4Q", record, 16)
            at = place
        before = at - length - start
        if disk or first_disk or length > LARGEST_DIRECTORY or before < 0:
            raise Damaged
        return start + before, length, before

    def _listed(self, start: int, length: int, before: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name, offset, stored size, size, flags, method and checksum of each regular file of the directory."""
        directory, at = self.data.read(start, length), 0
        self._cut = len(directory) < length
        while at < len(directory):
            head = directory[at : at + 46]
            if len(head) < 46 or head[:4] != ENTRY:
                self._cut = True
                return
            made_by, flags, method = struct.unpack_from("<HxxHH", head, 4)
            checksum, packed, size, *lengths, _, _, mode, offset = struct.unpack_from("<3L5HLL", head, 16)
            named, extra, comment = lengths[:3]
            name = directory[at + 46 : at + 46 + named]
            more = directory[at + 46 + named : at + 46 + named + extra]
            at += 46 + named + extra + comment
            if at > len(directory):
                self._cut = True
                return
            size, packed, offset = _large(more, size, packed, offset)
            kind = stat.S_IFMT(mode >> 16) if made_by >> 8 in (UNIX, DARWIN) else 0
            folder = name.endswith(b"/") or kind == stat.S_IFDIR or mode & DOS_FOLDER
            if (folder and size) or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                self.passed[LINKS] += 1
            elif not folder:
                yield _text(name.split(b"\0")[0]), (offset + before, packed, size, flags & ~OVERLAPS, method, checksum)

    def _unpack(self, *numbers: int) -> bytes:
        offset, packed, size, flags, method, checksum = numbers
        if flags & ENCRYPTED:
            raise UnreadableImage("encrypted in its archive: unpack it")
        if flags & OVERLAPS:
            raise UnreadableImage("shares its bytes with another member of its archive")
        if method not in (STORED, DEFLATED):
            raise UnreadableImage("compressed in its archive by another method than deflate: unpack it")
        check_size(packed)
        check_size(size, packed)
        data = self._content(offset, packed)
        if method == DEFLATED:
            data = _inflated(data, size)
        if len(data) != size or zlib.crc32(data) != checksum:
            raise Damaged
        return data

    def _content(self, offset: int, packed: int) -> bytes:
        """What is stored of a member."""
        block = self.data.read(offset, HEADER + SLACK + packed)
        if block[:4] != MEMBER or len(block) < HEADER:
            raise Damaged
        start = HEADER + sum(struct.unpack_from("<2H", block, 26))
        data = block[start : start + packed]
        return data if len(data) == packed else self.data.read(offset + start, packed)


def _inflated(data: bytes, size: int) -> bytes:
    """At most ``size`` bytes and one."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error:
        raise Damaged from None


def _large(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset, those that do not fit 32 bits from the extra field that holds them."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        body, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == EXTRA_64:
            longer = (int.from_bytes(body[at : at + 8], "little") & 2**61 - 1 for at in range(0, len(body) - 7, 8))
            size, packed, offset = (next(longer, one) if one == FULL else one for one in (size, packed, offset))
            break
    return size, packed, offset


def _overlapping(starts: np.ndarray, ends: np.ndarray, directory: int) -> np.ndarray:
    """(N,) whether bytes of a member, all (N,) from ``starts`` to ``ends``, are a later one's or the directory's too.

    No byte is in two of the others, so that they unpack to no more than their share.
    """
    order = np.lexsort((ends, starts))
    found = np.empty(len(order), dtype=bool)
    found[order] = ends[order] > np.append(starts[order][1:], directory)
    return found


def _text(name: bytes) -> str:
    """UTF-8, whether the archive says so or not, else the code page of DOS."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp437")
