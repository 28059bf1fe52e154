"""``SHA256SUMS``: digests of every file in a folder, in the form that ``sha256sum -c`` checks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raddino.files import sha256

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write the digests of what ``folder`` holds; the file comes last, so that a folder without it is not finished."""
    (folder / SUMS).write_text(_sums(folder), encoding="utf-8")


def sums_hold(folder: Path) -> bool:
    """Whether ``folder`` holds the very files that its ``SHA256SUMS`` names, and no others.

    Nothing is read but regular files, and none of them is interpreted.
    """
    file = folder / SUMS
    try:
        expected = _sums(folder).encode()
        return file.is_file() and file.stat().st_size == len(expected) and file.read_bytes() == expected
    except OSError:
        return False


def _sums(folder: Path) -> str:
    """The text of ``SHA256SUMS``.

    Raises:
        OSError: something in the folder cannot be read, or is a device, a pipe or the like.
    """
    files = sorted(path for path in folder.rglob("*") if path.name != SUMS and not path.is_dir())
    if odd := next((path for path in files if not path.is_file()), None):
        raise OSError(f"{odd} is no regular file")
    with ThreadPoolExecutor() as threads:  # hashing runs beside the interpreter
        digests = list(threads.map(sha256, files))
    return "".join(
        f"{digest}  {path.relative_to(folder).as_posix()}\n" for digest, path in zip(digests, files, strict=True)
    )
