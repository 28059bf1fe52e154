"""Archives that anyone may have written: their members are listed and read, and never written to a disk.

The name of a member names it and nothing else: it is no path, wherever it points. A member of an archive inside the
archive is not looked into.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterator

from raddino.images.errors import UnreadableImage
from raddino.storage import Ranges

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Names by which archives in a folder are known; their content has to agree."""
LARGEST_FILE = 2**29
MOST_MEMBERS = 2**20
LONGEST_NAME, MOST_NAMES = 4096, 2**28
RATIO, SMALL = 250, 2**20
"""A member above 1 MiB may not claim to be more than 250 times what is stored of it; deflate reaches 1032."""

LINKS = "links, pipes, devices and other members of archives that are no files"
INNER = "archives inside archives, which are not looked into"
AGAIN = "members of archives that are written again later in the same archive"
SPARSE = "members of archives of a kind that is not read (sparse, or in several volumes)"
ODD_NAME = f"members of archives without a name, or with one of more than {LONGEST_NAME} characters"
DAMAGED = "archives that are damaged or cut short: what stands before the damage is read"
BROKEN = "archives that cannot be opened: damaged, cut short, or of another kind than zip, tar and tar.gz"
BOMBS = f"archives that unpack to more than {RATIO} times their size: what stands before that is read"
LIMIT = f"archives of more than {MOST_MEMBERS} members or {MOST_NAMES // 2**20} MiB of names: the first are read"


class Damaged(Exception):
    """An archive goes no further than this; ``what`` says why, in words that are counted."""

    def __init__(self, what: str = DAMAGED) -> None:
        super().__init__(what)
        self.what = what


class Archive(ABC):
    """The members of one archive that may be images, in its own order.

    Attributes:
        passed: counts what is passed over or wrong, by the words above.
    """

    columns = 2
    """Numbers that are kept of each member."""

    def __init__(self, data: Ranges) -> None:
        self.data, self.passed = data, Counter[str]()
        self._places: dict[str, int] = {}
        self._numbers = array("q")
        letters = 0
        try:
            for at, (name, numbers) in enumerate(self._entries()):
                letters += len(name)
                if at >= MOST_MEMBERS or letters > MOST_NAMES:
                    raise Damaged(LIMIT)
                self._add(_plain(name), numbers)
        except Damaged as error:
            self.passed[error.what] += 1
        except OSError:
            self.passed[DAMAGED] += 1

    def __iter__(self) -> Iterator[str]:
        """Names of members."""
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            UnreadableImage: no such member, one that cannot be unpacked, or breaks a limit.
        """
        if (at := self._places.get(_plain(name))) is None:
            raise UnreadableImage("its archive has no such member")
        try:
            return self._unpack(*self._numbers[at * self.columns : (at + 1) * self.columns])
        except (OSError, Damaged):
            raise UnreadableImage("damaged or cut short in its archive") from None

    @abstractmethod
    def _entries(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and numbers of each regular file; raises Damaged or OSError where the archive goes no further."""

    @abstractmethod
    def _unpack(self, *numbers: int) -> bytes:
        """The bytes of the member with these numbers; raises OSError, Damaged or UnreadableImage."""

    def _add(self, name: str, numbers: tuple[int, ...]) -> None:
        parts = name.split("/")
        if not 0 < len(name) <= LONGEST_NAME:
            self.passed[ODD_NAME] += 1
            return
        if any(part.startswith(".") and part != ".." for part in parts):
            return
        if name.lower().endswith(SUFFIXES):
            self.passed[INNER] += 1
            return
        if self._places.pop(name, None) is not None:
            self.passed[AGAIN] += 1
        self._places[name] = len(self._numbers) // self.columns
        self._numbers.extend(numbers)


def check_size(size: int, stored: int | None = None) -> None:
    """Refuse a file by its size, and a member by what it claims before it is unpacked.

    Args:
        size: bytes of the file.
        stored: bytes that they take in the archive, where that is known.

    Raises:
        UnreadableImage: too large, or a bomb.
    """
    if size > LARGEST_FILE:
        raise UnreadableImage(f"file of more than {LARGEST_FILE // 2**20} MiB")
    if stored is not None and size > max(SMALL, RATIO * stored):
        raise UnreadableImage(f"unpacks to more than {RATIO} times its size in its archive")


def _plain(name: str) -> str:
    """A name without ``./`` and doubled or leading slashes."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))
