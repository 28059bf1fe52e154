"""The files below a folder or a glob: links are followed once, pipes and devices never opened, all of it counted."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

NO_FILE = "names of no regular file (dangling links, pipes, sockets, devices)"
CLOSED = "folders that cannot be opened"
AGAIN = "links to folders that are read already"


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
    """(absolute path, path below the root) of the files of a folder or glob, as :func:`walk` finds them.

    The root of a glob is its longest part without signs; ``**`` stands for any folders that are not hidden.
    """
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
