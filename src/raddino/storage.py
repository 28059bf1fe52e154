"""Where bytes lie: files of this machine, and URLs of object stores by fsspec; read in ranges, from any thread."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from raddino.errors import ConfigError, RaddinoError

URL = re.compile(r"([A-Za-z][A-Za-z0-9+-]+)://")
PROTOCOLS = ("file", "memory", "s3", "gs")
"""What a URL may begin with. Others would let a manifest of somebody else call any service."""
CREDENTIALS = re.compile(r"(?<=://)[^/@]*@")
State = tuple[int, int | str]
"""Size in bytes, and what changes when the content does."""


class Ranges(Protocol):
    """Bytes that are read in any order.

    Attributes:
        size: how many there are.
    """

    size: int

    def read(self, start: int, length: int) -> bytes:
        """At most ``length`` bytes from ``start``; fewer only at the end. Raises OSError."""


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is a URL and not a path."""
    return isinstance(place, str) and URL.match(place) is not None


def localised(place: str | Path) -> str | Path:
    """``file://`` URLs as the paths that they name; everything else as it is.

    Raises:
        ConfigError: a URL of another kind than :data:`PROTOCOLS`.
    """
    found = URL.match(place) if isinstance(place, str) else None
    if found is None:
        return place
    if found[1].lower() not in PROTOCOLS:
        raise ConfigError(f"URLs that begin with {found[1]}:// are not read, only {', '.join(PROTOCOLS)}")
    return str(place)[found.end() :] if found[1].lower() == "file" else place


def join(base: str | Path, name: str) -> str:
    """``name`` below ``base``, either of which may be a URL; one that is absolute stays as it is."""
    return str(localised(name)) if is_url(name) or name.startswith("/") else f"{base}/{name}"


def shown_url(place: str | Path) -> str:
    """A place as it may be told: without a user and password."""
    return CREDENTIALS.sub("", str(place))


def open_ranges(place: str) -> Ranges:
    """The bytes of a file or object.

    Raises:
        OSError: there is none, or it cannot be opened.
    """
    return _Remote(place) if is_url(place) else _Local(place)


def state_of(place: str) -> State | None:
    """The state of a file or object; None where there is none."""
    try:
        if is_url(place):
            return _remote_state(_info(place))
        found = os.stat(place)
    except (OSError, ValueError):
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def remote_files(url: str) -> Iterator[str]:
    """Names of the objects below a URL, relative to it, in alphabetical order, without hidden ones; ``""`` for itself.

    Raises:
        RaddinoError: it cannot be listed.
    """
    fs, root = filesystem(url)
    root = root.strip("/")
    try:
        found = [root] if fs.isfile(root) else sorted(path.lstrip("/") for path in fs.find(root))
    except Exception as error:
        raise RaddinoError(_unreachable(url, error)) from None
    for name in (path[len(root) :].lstrip("/") for path in found):
        if not any(part.startswith(".") for part in name.split("/")):
            yield name


def remote_sizes(url: str) -> dict[str, int]:
    """Bytes of each object below a URL, by its name relative to it.

    Raises:
        RaddinoError: it cannot be listed.
    """
    fs, root = filesystem(url)
    root = root.strip("/")
    try:
        found = fs.find(root, detail=True)
    except Exception as error:
        raise RaddinoError(_unreachable(url, error)) from None
    return {path.lstrip("/")[len(root) :].lstrip("/"): int(info["size"] or 0) for path, info in found.items()}


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system behind a URL, one a process, and the path on it.

    Raises:
        ConfigError: a kind of URL that is not read.
        RaddinoError: the extra ``cloud`` is not installed, or there are no credentials.
    """
    from fsspec.core import url_to_fs

    localised(url)
    try:
        return url_to_fs(url)
    except ImportError:
        raise RaddinoError(f"{shown_url(url)} needs a library: pip install 'raddino[cloud]'") from None
    except Exception as error:
        raise RaddinoError(_unreachable(url, error)) from None


def read_remote(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of an object, all by default. Raises OSError."""
    fs, path = filesystem(url)
    try:
        return fs.cat_file(path, start=start, end=end)
    except FileNotFoundError:
        raise FileNotFoundError from None
    except Exception as error:  # each library has its own, and tells of places and accounts in them
        raise OSError(type(error).__name__) from None


def download(url: str, stream: IO[bytes]) -> None:
    """Copy an object into an open file, a piece at a time. Raises OSError."""
    source, at = _Remote(url), 0
    while piece := source.read(at, 2**24):
        stream.write(piece)
        at += len(piece)
    if at != source.size:
        raise OSError("cut short")


def upload(path: Path, url: str) -> None:
    """Copy a file to an object. Raises OSError."""
    fs, place = filesystem(url)
    try:
        fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        fs.put_file(str(path), place)
    except Exception as error:
        raise OSError(type(error).__name__) from None


class _Local:
    """A regular file, open."""

    def __init__(self, path: str) -> None:
        self._file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)  # noqa: SIM115
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("no regular file")
        self.size = found.st_size

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), max(0, min(length, self.size - start)), start)


class _Remote:
    """An object behind a URL; each read is a request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.size = int(_info(url)["size"] or 0)

    def read(self, start: int, length: int) -> bytes:
        end = min(start + length, self.size)
        return read_remote(self._url, start, end) if start < end else b""


def _info(url: str) -> dict[str, Any]:
    fs, path = filesystem(url)
    try:
        found = fs.info(path)
    except FileNotFoundError:
        raise FileNotFoundError from None
    except Exception as error:
        raise OSError(type(error).__name__) from None
    if found.get("type") != "file":
        raise FileNotFoundError
    return found


def _remote_state(info: dict[str, Any]) -> State:
    marks = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created")
    return int(info["size"] or 0), "; ".join(str(info[mark]) for mark in marks if info.get(mark) is not None)


def _unreachable(url: str, error: Exception) -> str:
    return f"{shown_url(url)} cannot be reached ({type(error).__name__}): see to its name, credentials and network"
