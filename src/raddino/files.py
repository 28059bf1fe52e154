"""Files that are whole or absent, folders that one process holds, and what other people's files may hold."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile, gettempdir, mkdtemp
from typing import IO, Any

from raddino.errors import RaddinoError, UnwritableError

LARGEST_JSON = 2**26
CHUNK = 2**20
DEEPEST_JSON = 64
LOCK = ".lock"
UNSEALED = "raddino-sha256:" + 64 * "0"
"""Stands once in a file that is to carry its own digest, wherever its format takes a text (:func:`seal`)."""
SEAL = "seal"
"""Key of that text in the JSON files, safetensors headers and Parquet metadata that we write."""
_SEAL = re.compile(rb"raddino-sha256:([0-9a-f]{64})")
DRAFTS = f".{os.getuid()}.draft"
"""Folder of unfinished files, one a user, beside what they will become; gone when none is left."""
SCRATCH = ".raddino-"
"""Begins the names of :func:`scratch_folder`; nothing else may be called so, and eight signs more."""
LONGEST_ROOT = 50
TRIES = 100
REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO), "free some space there, or give another place"
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "get the right to write there, or give another place"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a file stands where a folder should be; give another place"),
    errno.EISDIR: "a folder stands where a file should be; give another place",
    errno.ENAMETOOLONG: "give a shorter name",
}
_SAFETENSORS = re.compile(r"\(os error (\d+)\)")
_TORCH = re.compile("unexpected pos|PytorchStreamWriter")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The disk's refusals inside, whichever library meets them, as one line about ``path``; other errors as they are.

    Raises:
        UnwritableError: no space, no rights, a quota, a limit, a file in the place of a folder.
    """
    try:
        yield
    except Exception as error:
        number = _refusal(error)
        told = isinstance(error, RaddinoError) and DRAFTS not in str(error)  # a draft in a draft is told by the outer
        if told or number not in REMEDIES:
            raise
        refused = UnwritableError(f"{path} cannot be written ({os.strerror(number)}): {REMEDIES[number]}")
        refused.errno = number
        raise refused from None


def _refusal(error: Exception) -> int:
    """Number of the system's error behind a library's, 0 for none; torch does not tell which."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = _SAFETENSORS.search(str(error))
    return int(told[1]) if told else errno.EIO if _TORCH.search(str(error)) else 0


@contextmanager
def draft_of(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """A place for a file of this name that takes its place at ``path`` when the block ends without an error.

    Nothing is left of it where the block fails, and what a killed process left is removed by the next draft beside it.
    The file gets the rights that the umask gives, whoever writes it (safetensors would let its owner alone read it).

    Args:
        path: of the file.
        keep: leave a file that another process has put there meanwhile.

    A device or a pipe is written as it is.

    Raises:
        UnwritableError: see :func:`writing`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with writing(path):
            yield path
        return
    with writing(path), _draft_beside(path) as (place, rights):
        draft = place / path.name
        yield draft
        draft.chmod(rights)
        if keep:
            with suppress(FileExistsError):
                os.link(draft, path)
        else:
            os.replace(draft, path)


@contextmanager
def draft_folder(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``folder`` when the block ends without an error; as :func:`draft_of`.

    What stood there before is removed last.
    """
    with writing(folder), _draft_beside(folder) as (place, rights):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        draft, old = place / "new", place / "old"
        draft.mkdir()
        yield draft
        for path in draft.rglob("*"):
            if path.is_file():
                path.chmod(rights)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(draft, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise


def remove_folder(folder: Path) -> None:
    """Remove a folder that never stands half removed under its name. Raises UnwritableError."""
    with writing(folder), _draft_beside(folder) as (place, _):
        os.replace(folder, place / "old")


def remove_left(folder: Path) -> None:
    """Remove what killed processes left unfinished in ``folder``."""
    _remove_left((folder / DRAFTS).glob("*"))
    with suppress(OSError):
        (folder / DRAFTS).rmdir()


@contextmanager
def owner_only(private: bool = True) -> Iterator[None]:
    """What this process and those that it starts make meanwhile is open to its owner alone, where ``private``."""
    before = os.umask(0o077) if private else None
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in the system's temporary one, open to this user alone, which is gone when the block ends.

    What killed processes left there is removed by the next one that asks. Its path is short, for that of a socket may
    have about a hundred bytes: where the temporary folder's own is long, it lies in ``/tmp``.
    """
    root = gettempdir()
    root = root if len(os.fsencode(root)) <= LONGEST_ROOT else "/tmp"
    others = Path(root).glob(f"{SCRATCH}????????")
    _remove_left(one for one in others if (one / LOCK).is_file())
    place, handle = _claim(lambda: Path(mkdtemp(prefix=SCRATCH, dir=root)))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        handle.close()


def check_writable(folder: Path) -> None:
    """Make a folder where it is missing, and see whether files can be made in it. Raises UnwritableError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def is_free(folder: Path) -> bool:
    """Whether a folder is still to be made, or holds nothing but unfinished files."""
    return not folder.exists() or (folder.is_dir() and all(path.suffix == ".draft" for path in folder.iterdir()))


@contextmanager
def _draft_beside(path: Path) -> Iterator[tuple[Path, int]]:
    """A folder of this process alone on the disk of ``path``, and the rights of a new file."""
    drafts = path.parent / DRAFTS
    _remove_left(drafts.glob("*"))

    def make() -> Path:
        place = drafts / uuid.uuid4().hex
        place.mkdir(parents=True)
        return place

    try:
        place, handle = _claim(make)
        try:
            yield place, stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
        finally:
            shutil.rmtree(place, ignore_errors=True)
            handle.close()
    finally:
        with suppress(OSError):
            drafts.rmdir()


def _claim(make: Callable[[], Path]) -> tuple[Path, IO[bytes]]:
    """A new folder, locked; made again where another process, as it tidies up, takes it before it is locked."""
    failure: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    for _ in range(TRIES):
        place = None
        try:
            place = make()
            handle = (place / LOCK).open("ab")
            _flock(handle)
            if (place / LOCK).exists():
                return place, handle
        except (FileNotFoundError, FileExistsError, BlockingIOError) as error:
            failure = error
        except OSError:
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)
            raise
    raise failure


def _remove_left(places: Iterable[Path]) -> None:
    """Remove folders that no living process holds."""
    with suppress(OSError):
        for place in places:
            with suppress(OSError), (place / LOCK).open("ab") as handle:
                if _flock(handle):
                    shutil.rmtree(place, ignore_errors=True)


def _flock(handle: IO[bytes]) -> bool:
    """Lock a file; False on a file system that has no locks. Raises BlockingIOError where it is held."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


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
        RaddinoError: another process holds it, or the file system has no locks.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / LOCK).open("ab")
    try:
        if _flock(handle):
            return handle
        busy = f"{folder} cannot be locked: its file system has no locks; give a folder on another"
    except BlockingIOError:
        pass
    handle.close()
    raise RaddinoError(busy)


def read_json(path: Path, remedy: str, sealed: bool = False) -> dict[str, Any]:
    """The object in a JSON file that anyone may have written: bounded in size and depth, numbers finite.

    What :func:`write_json` wrote is compared with its digest.

    Args:
        path: of the file.
        remedy: what the user can do when it is damaged.
        sealed: whether it must carry its digest, because only we write it.

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
        if (values.pop(SEAL, None) is not None or sealed) and not check_seal(path, remedy):
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
