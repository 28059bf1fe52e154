"""The files of a folder, glob, archive, DICOMDIR or URL: links followed once, no pipe opened, all of it counted."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from raddino.errors import RaddinoError
from raddino.images.dicomdir import NAME as DICOMDIR
from raddino.images.dicomdir import is_dicomdir, referenced_files
from raddino.images.errors import ImageError
from raddino.images.location import BETWEEN, is_archive, named_like_archive, open_archive
from raddino.images.wall import Wall, seconds_for
from raddino.storage import is_url, join, remote_files

NO_FILE = "names of no regular file (dangling links, pipes, sockets, devices)"
CLOSED = "folders that cannot be opened"
AGAIN = "links to folders that are read already"
DIRECTORIES = "DICOMDIR files: what lies beside them is read, whether they name it or not"
OTHER_OBJECTS = "references of the DICOMDIR to other objects than images"
OUTSIDE = "references of the DICOMDIR that name no file below its folder"
BROKEN_REFERENCES = "references of the DICOMDIR to files that are not there"


def walk(
    root: str | Path, passed: Counter[str], skip: Path | None = None, ends: Collection[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Each folder below ``root`` once, with the names of its regular files in alphabetical order.

    Real folders come first, from the top in alphabetical order; then those that links lead to, under the link's name
    and each once, however many links lead there. Names that begin with a dot are passed over without a word.

    Args:
        root: a folder, or a link to one.
        passed: counts what is passed over, by :data:`NO_FILE`, :data:`CLOSED` and :data:`AGAIN`.
        skip: a folder not to look into.
        ends: names of files or folders; a folder that holds one is passed over without a word, and all below it.

    Yields:
        path below ``root`` (``""``, or with a ``/`` at its end), and names; bytes that are not UTF-8 as
        surrogates (:func:`os.fsdecode`).
    """
    hidden = _identity(skip) if skip is not None and os.path.isdir(skip) else None
    seen = {hidden}
    real: list[str] = [""]
    linked: list[str] = []
    while real or linked:
        below = real.pop() if real else linked.pop(0)
        place = os.path.join(root, below)
        try:
            identity = _identity(place)
            with os.scandir(place) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            passed[CLOSED] += 1
            continue
        if identity in seen and below:
            passed[AGAIN] += identity != hidden
            continue
        seen.add(identity)
        if any(entry.name in ends for entry in listed):
            continue
        listed = [entry for entry in listed if entry.name[0] != "."]
        folders = [entry for entry in listed if _is_dir(entry)]
        files = [entry.name for entry in listed if _is_file(entry)]
        passed[NO_FILE] += len(listed) - len(folders) - len(files)
        real += [f"{below}{entry.name}/" for entry in reversed(folders) if not entry.is_symlink()]
        linked += [f"{below}{entry.name}/" for entry in folders if entry.is_symlink()]
        yield below, files


def find(images: str, passed: Counter[str], skip: Path | None = None) -> Iterator[tuple[str, str]]:
    """(location, name below the root) of what may be an image, see :mod:`raddino.images.location`.

    Archives in a folder (known by their names and their content) give their members, in their own order. The root of a
    glob is its longest part without signs; ``**`` stands for any folders that are not hidden. A DICOMDIR that is given
    itself stands for the files that it names; in a folder or an archive it is passed over.

    Args:
        images: a folder, a glob, one file, an archive, a DICOMDIR, or the URL of an object or of all below it.
        passed: counts what is passed over.
        skip: a folder not to look into.

    Raises:
        RaddinoError: a URL that cannot be listed, or a DICOMDIR that cannot be read.
    """
    if os.path.isfile(images) and is_dicomdir(images):
        yield from _named(images, passed)
        return
    for location, name in _files(images, passed, skip):
        alone = location in (images, os.path.abspath(images))
        if (named_like_archive(name) or (alone and not is_url(location))) and is_archive(location):
            yield from _members(location, name, passed)
        elif name.rpartition("/")[2].upper() == DICOMDIR:
            passed[DIRECTORIES] += 1
        else:
            yield location, name


def _files(images: str, passed: Counter[str], skip: Path | None) -> Iterator[tuple[str, str]]:
    """(absolute path or URL, name below the root) of the files of a folder, a glob or a URL."""
    if is_url(images):
        for name in remote_files(images):
            yield (join(images.rstrip("/"), name), name) if name else (images, images.rpartition("/")[2])
        return
    if os.path.isfile(images):
        yield os.path.abspath(images), os.path.basename(images)
        return
    if os.path.isdir(images):
        root, pattern = images, None
    else:
        parts = Path(images).parts
        magic = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        root, pattern = str(Path(*parts[:magic])), parts[magic:]
    if pattern is None or "**" in pattern:
        whole = os.path.abspath(root)
        for below, names in walk(root, passed, skip):
            for name in names:
                if pattern is None or _matches((*below.split("/")[:-1], name), pattern):
                    yield os.path.join(whole, below + name), below + name
        return
    for name in sorted(glob.glob(images)):
        if os.path.isfile(name):
            yield os.path.abspath(name), os.path.relpath(name, root)
        elif not os.path.isdir(name):
            passed[NO_FILE] += 1


def _members(location: str, name: str, passed: Counter[str]) -> Iterator[tuple[str, str]]:
    archive = open_archive(location)
    passed.update(archive.passed)
    for member in archive:
        if member.rpartition("/")[2].upper() == DICOMDIR:
            passed[DIRECTORIES] += 1
        else:
            yield f"{location}{BETWEEN}{member}", f"{name}{BETWEEN}{member}"


def _named(dicomdir: str, passed: Counter[str]) -> Iterator[tuple[str, str]]:
    """The files that a DICOMDIR names, each once, where they lie below its folder."""
    try:
        with Wall() as wall:
            names, others = wall.call(referenced_files, dicomdir, seconds=seconds_for(dicomdir))
    except ImageError as error:
        raise RaddinoError(f"{dicomdir} cannot be read ({error.reason}): give the folder that it lies in") from None
    root = os.path.realpath(os.path.dirname(dicomdir))
    passed[OTHER_OBJECTS] += others
    passed[OUTSIDE] += names.count(None)
    listed = lru_cache(1024)(_listed)
    seen = set()
    for parts in names:
        if parts is None:
            continue
        path = root
        for part in parts:
            path = os.path.join(path, listed(path).get(part.upper(), part))
        if not os.path.isfile(path):
            passed[BROKEN_REFERENCES] += 1
        elif not os.path.realpath(path).startswith(root.rstrip("/") + "/"):
            passed[OUTSIDE] += 1
        elif path not in seen:
            seen.add(path)
            yield path, os.path.relpath(path, root)


def _listed(folder: str) -> dict[str, str]:
    """Names in a folder by what they are on a medium: in capitals, without a dot at their end or a version."""
    try:
        return {re.sub(r"(?:\.?;\d+|\.)$", "", name).upper(): name for name in sorted(os.listdir(folder))}
    except OSError:
        return {}


def is_utf8(name: str) -> bool:
    """Whether a name is text, not bytes that :func:`os.fsdecode` could not read."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def said(passed: Counter[str]) -> list[str]:
    """What was passed over, a sentence each."""
    return [f"passed over: {count} {what}" for what, count in sorted(passed.items()) if count]


def _identity(place: str | Path) -> tuple[int, int]:
    state = os.stat(place)
    return state.st_dev, state.st_ino


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
