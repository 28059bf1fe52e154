"""Where an image's bytes come from: a path, a URL, or ``ARCHIVE::MEMBER`` with a path or URL before the colons."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from raddino.images.archive import BROKEN, SUFFIXES, Archive, check_size
from raddino.images.errors import UnreadableImage
from raddino.images.tarred import Gunzipped, TarArchive
from raddino.images.zipped import SIGNATURES, ZipArchive
from raddino.progress import Bar, bar
from raddino.storage import Ranges, State, is_url, open_ranges, read_remote, state_of

BETWEEN = "::"
OPEN_ARCHIVES = 64
SHOWN = 2**28
"""Bytes of an archive from which on a bar shows how far it is listed."""
_open: OrderedDict[tuple[str, State | None], Archive] = OrderedDict()
_lock = threading.Lock()


def split(location: str, is_file: Callable[[str], bool] = os.path.isfile) -> tuple[str, str | None]:
    """The file or object that holds an image, and the name of the member where that is an archive.

    A file that is there by the whole name is that file, whatever signs its name holds.

    Args:
        location: of an image.
        is_file: whether an archive is there, perhaps remembered.
    """
    if BETWEEN not in location or (not is_url(location) and os.path.isfile(location)):
        return location, None
    at = location.find(BETWEEN)
    while not is_url(location) and at >= 0 and not is_file(location[:at]):
        at = location.find(BETWEEN, at + 1)
    return (location[:at], location[at + len(BETWEEN) :]) if at >= 0 else (location, None)


def exists(location: str) -> bool:
    """Whether a file, an object or a member's archive is there."""
    return state_of(split(location)[0]) is not None


def states(locations: Iterable[str | None]) -> list[tuple[int | str, ...] | None]:
    """What changes when the bytes at a location do: size and time of the file or archive, and the member's name.

    None where there is nothing. Archives are looked at once.
    """
    is_file, of_archive = lru_cache(OPEN_ARCHIVES)(os.path.isfile), lru_cache(OPEN_ARCHIVES)(state_of)

    def state(location: str) -> tuple[int | str, ...] | None:
        holder, member = split(location, is_file)
        if member is None:
            return state_of(holder)
        found = of_archive(holder)
        return found and (*found, member)

    return [None if location is None else state(location) for location in locations]


def fetch(location: str) -> str | bytes:
    """A file of this machine as its path; the bytes of anything else.

    Raises:
        UnreadableImage: there is none, it is too large, or its archive does not give it.
    """
    holder, member = split(location)
    try:
        if member is not None:
            return open_archive(holder).read(member)
        return _object(holder) if is_url(holder) else location
    except FileNotFoundError:
        raise UnreadableImage("file not found") from None
    except OSError:
        raise UnreadableImage("file cannot be opened") from None


def open_archive(place: str) -> Archive:
    """The archive at a path or URL, listed once for this process as long as it does not change.

    Raises:
        OSError: there is none, it cannot be opened, or it is no archive.
    """
    key = place, state_of(place)
    with _lock:
        if key not in _open:
            data = open_ranges(place)
            with _watched(data) as watched:
                _open[key] = _recognised(watched)
            while len(_open) > OPEN_ARCHIVES:
                _open.popitem(last=False)
        _open.move_to_end(key)
        return _open[key]


def is_archive(place: str) -> bool:
    """Whether a file or object is one by its content."""
    try:
        return _kind(open_ranges(place)) is not None
    except OSError:
        return False


def named_like_archive(name: str) -> bool:
    """Whether a name in a folder promises an archive."""
    return name.lower().endswith(SUFFIXES)


def _object(url: str) -> bytes:
    found = state_of(url)
    if found is None:
        raise FileNotFoundError
    check_size(found[0])
    return read_remote(url)


def _recognised(data: Ranges) -> Archive:
    kind = _kind(data)
    if kind is None:
        raise OSError(BROKEN)
    return ZipArchive(data) if kind == "zip" else TarArchive(Gunzipped(data) if kind == "gzip" else data)


def _kind(data: Ranges) -> str | None:
    head = data.read(0, 512)
    if head.startswith(SIGNATURES):
        return "zip"
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    return "tar" if head[257:262] == b"ustar" else None


class _Watched:
    """Ranges that move a bar while there is one."""

    def __init__(self, data: Ranges, shown: Bar) -> None:
        self.data, self.size = data, data.size
        self.shown: Bar | None = shown

    def read(self, start: int, length: int) -> bytes:
        if self.shown and (more := (min(start, self.size) >> 20) - self.shown.done) > 0:
            self.shown.advance(more)
        return self.data.read(start, length)


@contextmanager
def _watched(data: Ranges) -> Iterator[Ranges]:
    with bar("list archive, MiB", total=data.size >> 20, silent=data.size < SHOWN) as shown:
        watched = _Watched(data, shown)
        yield watched
        watched.shown = None
