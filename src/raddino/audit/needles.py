"""Identifiers to search for: which are worth it, and how each may be spelled in a file."""

from __future__ import annotations

import base64
import html
import json
import re
import string
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from unicodedata import normalize
from urllib.parse import quote

import raddino
from raddino.audit.search import Guard, Pattern

SHORTEST, GUARDED, SHORTEST_NUMBER, LONGEST_HEX = 4, 8, 6, 20
ENCODED = 9
"""Shortest run of base64 that stands nowhere by chance."""
HEX = frozenset("0123456789abcdef")
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
LETTERS = re.compile(r"[^\W\d_]+")
CODE = re.compile(r"[A-Za-z]{2,}")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
DATES = (
    re.compile(r"(?P<y>(?:18|19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)(?:\d{2,6}(?:\.\d*)?)?(?:[-+]\d{4})?"),
    re.compile(r"(?P<y>(?:18|19|20)\d\d)[-/.:](?P<m>\d\d?)[-/.:](?P<d>\d\d?)(?:[T ].*)?"),
    re.compile(r"(?P<d>\d\d?)[-/.](?P<m>\d\d?)[-/.](?P<y>(?:18|19|20)\d\d)(?:[T ].*)?"),
)
TOO_SHORT = f"shorter than {SHORTEST} characters"
OWN_WORDS = "words that raddino writes itself"
FEW_DIGITS = f"decimal numbers of fewer than {SHORTEST_NUMBER} digits"


@dataclass(frozen=True, slots=True)
class Needle:
    """An identifier.

    Attributes:
        text: as the source has it.
        kind: where it comes from, for people (``"PatientName"``, ``"file name"``).
        guard: what must not stand beside it.
        derived: another spelling of a date; searched for as it is alone.
    """

    text: str
    kind: str
    guard: Guard
    derived: bool = False


class Needles:
    """Identifiers, each once under the first kind that it had, and how many were not taken, by reason."""

    def __init__(self) -> None:
        self.skipped: Counter[str] = Counter()
        self._by_text: dict[str, Needle | None] = {}

    def __len__(self) -> int:
        return sum(one is not None for one in self._by_text.values())

    def __iter__(self) -> Iterator[Needle]:
        return (one for one in self._by_text.values() if one is not None)

    def add(self, text: str, kind: str, wordy: bool = False, derived: bool = False) -> None:
        """Take an identifier, or count why it is none to search for.

        Args:
            text: spaces and NULs at its ends do not count; a date is taken in its other spellings too.
            kind: where it comes from.
            wordy: search for it also where raddino's own texts may hold its words.
            derived: see :class:`Needle`.
        """
        text = text.strip(string.whitespace + "\0")
        if not text or text in self._by_text:
            return
        self._by_text[text] = None
        if reason := _not_searched(text, wordy):
            self.skipped[reason] += 1
            return
        self._by_text[text] = Needle(text, kind, guard_of(text), derived)
        for spelled in [] if derived else dates(text):
            self.add(spelled, kind, wordy, derived=True)

    def add_name(self, text: str, kind: str) -> None:
        """Take a person's name (PS3.5 6.2, PN): whole, its components, and family and given name in other orders."""
        self.add(text, kind, wordy=True)
        for group in text.split("=")[:3]:
            parts = [part.strip() for part in group.split("^") if part.strip()]
            for part in parts:
                self.add(part, kind)
            for first, second in [parts[:2], parts[1::-1]] if len(parts) > 1 else []:
                for between in (" ", ", ", "_", "-", ".", "^"):
                    self.add(f"{first}{between}{second}", kind, wordy=True)

    def add_path(self, path: str, kind: str = "file name") -> None:
        """Take a path below its root: whole, each folder, and the file with and without its suffix."""
        self.add(path, kind)
        for part in Path(path).parts:
            self.add(part, kind)
        name = Path(path).name
        while (stem := Path(name).stem) != name:
            name = stem
            self.add(name, kind)


def _not_searched(text: str, wordy: bool) -> str:
    if len(text) < SHORTEST:
        return TOO_SHORT
    if NUMBER.fullmatch(text) and not text.isdecimal() and sum(sign.isdecimal() for sign in text) < SHORTEST_NUMBER:
        return FEW_DIGITS
    if not wordy and not any(sign.isdigit() for sign in text):
        words = [word for word in LETTERS.findall(text) if len(word) > 2]
        if all(word.lower() in own_words() for word in words):
            return OWN_WORDS
    return ""


def guard_of(text: str) -> Guard:
    """What must not stand beside an identifier, so that digests, numbers and other words do not look like it."""
    if text.isdecimal() and len(text) < SHORTEST_NUMBER:
        return Guard.CELL
    if len(text) < LONGEST_HEX and (HEX.issuperset(text.lower()) or NUMBER.fullmatch(text)):
        return Guard.NUMBER
    return Guard.WORD if len(text) < GUARDED else Guard.NONE


@cache
def own_words() -> frozenset[str]:
    """Words in raddino's own code, settings and texts: what an artefact may hold without anyone's data."""
    folder = Path(raddino.__file__).parent
    files = (file for end in ("py", "yaml", "html") for file in folder.rglob(f"*.{end}"))
    return frozenset(word.lower() for file in files for word in CODE.findall(file.read_text(encoding="utf-8")))


def dates(text: str) -> list[str]:
    """Other spellings of a text that is a date: ISO, points, slashes in both orders, months by name; else nothing."""
    match = next((match for form in DATES if (match := form.fullmatch(text))), None)
    if match is None:
        return []
    try:
        day = date(int(match["y"]), int(match["m"]), int(match["d"]))
    except ValueError:
        return []
    name, y, m, d = MONTHS[day.month - 1], day.year, day.month, day.day
    spelled = [f"{y}{m:02}{d:02}"]
    spelled += [f"{y}{sign}{m:02}{sign}{d:02}" for sign in "-/.:_"]
    spelled += [f"{a:02}{sign}{b:02}{sign}{y}" for sign in "-/." for a, b in ((d, m), (m, d))]
    spelled += [f"{a}{sign}{b}{sign}{y}" for sign in "/." for a, b in ((d, m), (m, d))]
    for month in (name, name[:3]):
        spelled += [f"{d} {month} {y}", f"{d:02} {month} {y}", f"{month} {d}, {y}", f"{d:02}-{month}-{y}"]
    return [one for one in dict.fromkeys(spelled) if one != text]


def patterns(needles: list[Needle]) -> Iterator[Pattern]:
    """The byte strings that spell each needle."""
    for owner, needle in enumerate(needles):
        seen: set[bytes] = set()
        for data, spelling, guard, exact in _spelled(needle):
            data = data if exact else data.lower()
            if len(data) >= SHORTEST and data not in seen:
                seen.add(data)
                yield Pattern(data, owner, spelling, guard, exact)


def _spelled(needle: Needle) -> Iterator[tuple[bytes, str, Guard, bool]]:
    text = needle.text
    if text.isascii():
        yield text.encode(), "as it is", needle.guard, False
        if needle.derived:
            return
        if len(text) >= SHORTEST_NUMBER:
            yield b"\0".join(bytes([sign]) for sign in text.encode()), "UTF-16", Guard.NONE, False
    else:
        forms = {normalize(form, text) for form in ("NFC", "NFD", "NFKC")} | {text}
        for form in sorted({case for one in forms for case in (one, one.lower(), one.upper())}):
            yield form.encode("utf-8", "surrogateescape"), "as it is", needle.guard, False
            for encoding in ("latin-1", "cp1252"):
                with suppress(UnicodeEncodeError):
                    yield form.encode(encoding), "Latin-1", needle.guard, False
            for encoding in ("utf-16-le", "utf-16-be"):
                yield form.encode(encoding, "surrogatepass"), "UTF-16", Guard.NONE, False
        for form in sorted(forms):
            yield from ((one, how, Guard.NONE, False) for one, how in _escaped(form))
        plain = normalize("NFKD", text).encode("ascii", "ignore")
        if len(plain) >= GUARDED and len(plain) >= len(text) - 2:
            yield plain, "without accents", needle.guard, False
    if text.isascii() and not text.isalnum():
        yield from ((one, how, needle.guard, False) for one, how in _escaped(text))
    data = text.encode("utf-8", "surrogateescape")
    if len(data) >= GUARDED:
        yield data.hex().encode(), "hexadecimal", Guard.NONE, False
        yield from ((one, "base64", Guard.NONE, True) for one in _base64(data) if len(one) >= ENCODED)


def _escaped(text: str) -> Iterator[tuple[bytes, str]]:
    """As URLs, HTML and JSON write it."""
    data = text.encode("utf-8", "surrogateescape")
    yield quote(data, safe="").encode(), "URL"
    yield html.escape(text).encode("ascii", "xmlcharrefreplace"), "HTML"
    yield json.dumps(text)[1:-1].encode(), "JSON"


def _base64(data: bytes) -> Iterator[bytes]:
    """What stands in base64 of any text that holds ``data``, by its place in a group of three bytes."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data + b"\0\0")
        found = whole[-(-8 * before // 6) : 8 * (before + len(data)) // 6]
        yield found
        if b"+" in found or b"/" in found:
            yield found.translate(bytes.maketrans(b"+/", b"-_"))
