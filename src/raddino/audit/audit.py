"""``raddino audit``: searches artefacts for identifiers, and says where they stand without saying them."""

from __future__ import annotations

import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raddino.audit.formats import FORMATS
from raddino.audit.looks import add_machine, is_lawful, looks
from raddino.audit.needles import Needle, Needles, patterns
from raddino.audit.pieces import Found, Piece, Unpacker, Unread
from raddino.audit.search import Index
from raddino.audit.sources import gather, read_strings
from raddino.audit.texts import NAMES_FILES
from raddino.errors import ConfigError, RaddinoError
from raddino.files import read_json
from raddino.images.phi import keyed_hash, load_key
from raddino.progress import bar

SMALL, BATCH = 2**16, 2**20
MEGABYTE = 2**20


@dataclass
class Finding:
    """One identifier at one place, or several of a kind that lie alike.

    Attributes:
        kind: what it is in the source (``"PatientName"``, ``"file name"``), or what it looks like (``"date"``).
        place: file, member, column or element; identifiers in it are replaced by their digests.
        at: ``"row 3"``, ``"line 7"`` or ``"byte 512"`` of the first.
        spelling: ``"as it is"``, ``"base64"``, ``"UTF-16"`` …
        digest: 20 hexadecimal digits of the first, keyed as pseudonyms are.
        stated: why the documentation says that it stands there; such a finding does not count.
        times: how often.
        text: the first identifier itself, only if asked for.
    """

    kind: str
    place: str
    at: str
    spelling: str
    digest: str
    stated: str = ""
    times: int = 1
    text: str | None = None


@dataclass
class Audit:
    """What an audit found.

    Attributes:
        findings: see :class:`Finding`; those that are stated last.
        unread: places that could not be opened, and why: nothing is proved of them.
        searched: how many identifiers were looked for; 0 where none were given, so that only looks counted.
        not_searched: how many were not, by reason.
        files, bytes: searched.
        nameless: source files of which the name alone was of use.
    """

    findings: list[Finding] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    searched: int = 0
    not_searched: dict[str, int] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    nameless: int = 0

    @property
    def found(self) -> list[Finding]:
        """Findings that are not stated."""
        return [one for one in self.findings if not one.stated]

    @property
    def clean(self) -> bool:
        """Whether everything was searched and nothing found."""
        return not self.found and not self.unread


def audit(
    path: str | Path,
    *,
    sources: Sequence[str | Path] = (),
    strings: str | Path | None = None,
    strict: bool = False,
    show: bool = False,
    key: str | None = None,
) -> Audit:
    """Search a file or folder, whatever it holds, for identifiers.

    With ``sources`` or ``strings`` it looks for what identifies there; without, for what looks like an identifier.

    Args:
        path: of the artefact.
        sources: folders, globs, files and manifests from which it was made.
        strings: a text file with an identifier a line.
        strict: count also what the documentation says that it stands there.
        show: keep the identifiers themselves in what is found.
        key: for digests, see :func:`raddino.images.phi.load_key`.

    Raises:
        ConfigError: nothing at ``path``, or a source that leads to no file.
        RaddinoError: a manifest or a file of strings that cannot be read.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise ConfigError(f"{path} does not exist: give a file or folder to audit")
    needles, done = Needles(), Audit()
    if sources:
        _, done.nameless = gather(sources, needles)
    if strings is not None:
        read_strings(Path(strings), needles)
    done.searched = len(needles)
    if (sources or strings is not None) and not done.searched:
        raise ConfigError("the sources hold no identifier that could be searched for: nothing would be proved")
    done.not_searched = dict(needles.skipped.most_common())
    add_machine(needles)
    search = _Search(list(needles), not done.searched, load_key(key), show, strict, done)
    files = list(_files(path))
    done.files, done.bytes = len(files), sum(size for _, _, size in files)
    with bar("audit MB", total=-(-done.bytes // MEGABYTE)) as shown:
        so_far = 0
        for file, below, size in files:
            search.file(file, below)
            so_far += size
            shown.advance(so_far // MEGABYTE - shown.done)
    done.findings = sorted(search.groups.values(), key=lambda one: bool(one.stated))
    return done


def _files(path: Path) -> Iterator[tuple[Path, str, int]]:
    """Everything below a folder but folders that hold something, hidden ones too; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        yield path, path.name, path.lstat().st_size
        return
    for folder, inside, names in os.walk(path):
        links = [name for name in inside if os.path.islink(os.path.join(folder, name))]
        empty = [name for name in inside if name not in links and not os.listdir(os.path.join(folder, name))]
        for name in sorted([*names, *links, *empty]):
            file = Path(folder, name)
            yield file, str(file.relative_to(path)), file.lstat().st_size


class _Search:
    """Searches pieces and groups what it finds."""

    def __init__(self, needles: list[Needle], guess: bool, key: str, show: bool, strict: bool, done: Audit) -> None:
        self.needles, self.guess, self.key, self.show, self.strict, self.done = needles, guess, key, show, strict, done
        self.index = Index(list(patterns(needles)))
        self.groups: dict[tuple[str, ...], Finding] = {}
        self._batch: list[Piece] = []
        self._size = 0
        self._found: list[tuple[Piece, int, str, str, str]] = []

    def file(self, file: Path, below: str) -> None:
        """Search a file and its name."""
        state = file.lstat()
        self._feed(Piece("name of a file or folder", os.fsencode(below), "cells", "", _stated_name(file)))
        place = below
        if stat.S_ISLNK(state.st_mode):
            self._feed(Piece(f"{place}: target of the link", os.fsencode(os.readlink(file)), "cells"))
        elif stat.S_ISREG(state.st_mode):
            self._open(file, place)
        elif not stat.S_ISDIR(state.st_mode):
            self._unread(Unread(place, "no regular file"))
        self._flush()
        self._settle(place)

    def _open(self, file: Path, place: str) -> None:
        try:
            with file.open("rb") as opened:
                if not os.fstat(opened.fileno()).st_size:
                    return
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    self._search_all(Unpacker(FORMATS).pieces(place, data, file.name))
                    self._flush()
        except OSError as error:
            self._unread(Unread(place, f"cannot be read ({error.strerror})"))

    def _search_all(self, found: Found) -> None:
        for one in found:
            if isinstance(one, Unread):
                self._unread(one)
            else:
                self._feed(one)

    def _unread(self, one: Unread) -> None:
        self.done.unread.append((self._masked(one.place), one.why))

    def _feed(self, piece: Piece) -> None:
        """Search a piece, small texts many at once."""
        if is_lawful(piece) or not len(piece.data):
            return
        if self.guess:
            for at, text, kind in looks(piece):
                self._found.append((piece, at, kind, "as it is", text.decode("utf-8", "replace")))
        if piece.kind == "raw" or len(piece.data) > SMALL:
            for at, pattern in self.index.find(piece.data, piece.kind != "raw"):
                self._add(piece, at, pattern.owner, pattern.spelling)
            return
        self._batch.append(piece)
        self._size += len(piece.data) + 1
        if self._size > BATCH:
            self._flush()

    def _flush(self) -> None:
        starts, at = [], 0
        for piece in self._batch:
            starts.append(at)
            at += len(piece.data) + 1
        joined = b"\n".join(bytes(piece.data) for piece in self._batch)
        for place, pattern in self.index.find(joined, True):
            number = bisect_right(starts, place) - 1
            self._add(self._batch[number], place - starts[number], pattern.owner, pattern.spelling)
        self._batch, self._size = [], 0

    def _add(self, piece: Piece, at: int, owner: int, spelling: str) -> None:
        self._found.append((piece, at, self.needles[owner].kind, spelling, self.needles[owner].text))

    def _settle(self, place: str) -> None:
        """Group what a file holds, by its innermost places; what it states by an element stands in its bytes too."""
        stated = {text: piece.stated for piece, _, _, _, text in self._found if piece.stated}
        for piece, at, kind, spelling, text in self._found:
            why = piece.stated or (stated.get(text, "") if piece.kind == "raw" else "")
            why = "" if self.strict else why
            group = (place, piece.place.rpartition(": ")[2], kind, spelling, why)
            if group in self.groups:
                self.groups[group].times += 1
                continue
            self.groups[group] = Finding(
                kind, self._masked(piece.place), _where(piece, at), spelling, self._digest(text), why,
                text=text if self.show else None,
            )  # fmt: skip
        self._found = []

    def _digest(self, text: str) -> str:
        return keyed_hash(self.key, "audit", text)

    def _masked(self, place: str) -> str:
        """A place without the identifiers in it."""
        if self.show:
            return place
        data = os.fsencode(place) if not place.isascii() else place.encode()
        marks = [(at, at + len(one.data), self.needles[one.owner].text) for at, one in self.index.find(data, True)]
        if self.guess:
            marks += [
                (at, at + len(text), text.decode("utf-8", "replace")) for at, text, _ in looks(Piece("", data, "text"))
            ]
        made, last = [], 0
        for start, end, text in sorted(marks, key=lambda mark: (mark[0], -mark[1])):
            if start >= last:
                made.append(os.fsdecode(data[last:start]) + f"<{self._digest(text)}>")
            last = max(last, end)
        return "".join([*made, os.fsdecode(data[last:])])


def _where(piece: Piece, at: int) -> str:
    if piece.kind == "raw":
        return f"byte {at}"
    line = bytes(piece.data[:at]).count(b"\n")
    return f"line {line + 1}" if piece.kind == "text" else f"value {line + 1}"


def _stated_name(file: Path) -> str:
    """Why a file may be called as its source is: it was written by ``raddino segment``."""
    for folder in list(file.parents)[:8]:
        about = folder / "segment.json"
        if about.is_file():
            try:
                return NAMES_FILES if "model" in read_json(about, "") else ""
            except RaddinoError:
                return ""
    return ""
