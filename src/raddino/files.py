"""Files that are whole or absent, folders that one process holds, and what other people's files may hold."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from raddino.errors import RaddinoError

LARGEST_JSON = 2**26
CHUNK = 2**20
DEEPEST_JSON = 64
LOCK = ".lock"
UNSEALED = "raddino-sha256:" + 64 * "0"
"""Stands once in a file that is to carry its own digest, wherever its format takes a text (:func:`seal`)."""
SEAL = "seal"
"""Key of that text in the JSON files, safetensors headers and Parquet metadata that we write."""
_SEAL = re.compile(rb"raddino-sha256:([0-9a-f]{64})")


def draft_name(path: Path) -> Path:
    """A new name beside ``path``."""
    return path.with_name(f".{uuid.uuid4().hex}.draft")


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its name when the block ends without an error.

    It gets the rights that the umask gives, whoever writes it (safetensors would let its owner alone read it).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_name(path)
    try:
        draft.touch()
        rights = stat.S_IMODE(draft.stat().st_mode)
        yield draft
        draft.chmod(rights)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends without an error.

    What stood there before is removed last, so that a reader finds the old folder or the new one, whole.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft, old = draft_name(folder), draft_name(folder)
    try:
        draft.mkdir()
        yield draft
        if folder.exists():
            os.replace(folder, old)
        os.replace(draft, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for leftover in (draft, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8")


def sha256(*files: Path) -> str:
    """Hex digest of a file; of several, the digest of their digests in this order."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def seal(path: Path) -> None:
    """Put, in the place of :data:`UNSEALED`, the SHA-256 that the file has with it."""
    place, digest, _ = _digest_of(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(digest)


def check_seal(path: Path, remedy: str) -> bool:
    """Whether a file carries its digest; files of older versions, and other people's, do not.

    Raises:
        RaddinoError: it does, and the digest is another.
    """
    try:
        _, digest, said = _digest_of(path)
    except LookupError:
        return False
    if said != digest:
        raise RaddinoError(f"{path} is damaged (not the bytes that were written): {remedy}")
    return True


def _digest_of(path: Path) -> tuple[int, bytes, bytes]:
    """Place of the digest in a file, what it has to be, and what stands there.

    Raises:
        LookupError: the file has no place for one.
    """
    with path.open("rb") as file:
        found, carried, before = None, b"", 0
        while found is None and (chunk := file.read(CHUNK)):
            found, before = _SEAL.search(carried + chunk), file.tell() - len(carried) - len(chunk)
            carried = chunk[1 - len(UNSEALED) :]
        if found is None:
            raise LookupError
        start = before + found.start(1)
        digest, left = hashlib.sha256(), start
        file.seek(0)
        while left and (chunk := file.read(min(left, CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        digest.update(UNSEALED[-len(found[1]) :].encode())
        file.seek(len(found[1]), os.SEEK_CUR)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return start, digest.hexdigest().encode(), found[1]


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write an object for :func:`read_json` with its digest, whole or not at all; NaN and infinity are refused."""
    with draft_of(path) as draft:
        draft.write_text(json.dumps(values | {SEAL: UNSEALED}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        seal(draft)


def lock(folder: Path, busy: str) -> IO[bytes]:
    """Hold ``folder`` (made where it is missing) until the handle is closed or this process ends, however it ends.

    Args:
        folder: gets a file ``.lock``.
        busy: what to tell the user where another process holds it.

    Raises:
        RaddinoError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = (folder / LOCK).open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise RaddinoError(busy) from None
    return handle


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file that anyone may have written: bounded in size and depth, numbers finite.

    What :func:`write_json` wrote is compared with its digest.

    Args:
        path: of the file.
        remedy: what the user can do when it is damaged.

    Raises:
        RaddinoError: one line with the path, what is wrong and the remedy.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON // 2**20} MiB")
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__} where an object should be")
        _check_depth(values)
        if values.pop(SEAL, None) is not None and not check_seal(path, remedy):
            raise ValueError("its seal is broken")
    except FileNotFoundError:
        raise RaddinoError(f"{path} is missing: {remedy}") from None
    except OSError as error:
        raise RaddinoError(f"{path} cannot be read ({error.strerror}): {remedy}") from None
    except RecursionError:
        raise RaddinoError(f"{path} is damaged (nested too deeply): {remedy}") from None
    except UnicodeDecodeError:
        raise RaddinoError(f"{path} is damaged (not text in UTF-8): {remedy}") from None
    except ValueError as error:
        raise RaddinoError(f"{path} is damaged ({' '.join(str(error).split())}): {remedy}") from None
    return values


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _refuse_constant(word)


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(DEEPEST_JSON):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [one for part in inner for one in part]
        if not level:
            return
    raise ValueError("nested too deeply")
