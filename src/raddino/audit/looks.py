"""What looks like an identifier where there is no source to compare with, and where our formats hold such things."""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Iterator

from raddino.audit.needles import Needles
from raddino.audit.pieces import Piece

YEAR, MONTH, DAY = rb"(?:18|19|20)\d\d", rb"(?:0?[1-9]|1[0-2])", rb"(?:0?[1-9]|[12]\d|3[01])"
NAMED = rb"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
ALONE, ENDS = rb"(?<![0-9a-z_.,#-])", rb"(?![0-9a-z_-]|[.,]\d)"
LOOKS = {
    "date": re.compile(
        rb"(?i:(?<![\d./-])(?:%(y)s([-/.:_])%(m)s\1%(d)s|%(d)s([-/.])%(m)s\2%(y)s|%(m)s([-/.])%(d)s\3%(y)s)(?![\d/-])"
        rb"|\b\d{1,2}[ -]%(n)s[ -]%(y)s\b|\b%(n)s \d{1,2}, ?%(y)s\b"
        rb"|%(a)s%(y)s(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])%(e)s)"
        % {b"y": YEAR, b"m": MONTH, b"d": DAY, b"n": NAMED, b"a": ALONE, b"e": ENDS}
    ),
    "long number": re.compile(rb"(?i:%s\d{7,}%s)" % (ALONE, ENDS)),
    "DICOM UID": re.compile(rb"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){4,}(?![\w.])"),
    "path": re.compile(rb"(?<![\w./:<>)-])(?:/[\w.@-]+){2,}|\b[A-Za-z]:(?:\\{1,2}[\w.@ -]+)+|(?<!\w)~/\w+"),
    "e-mail": re.compile(rb"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "name": re.compile(rb"\b[A-Za-z'\x80-\xff-]{2,}\^[A-Za-z'\x80-\xff-]+"),
}
LAWFUL = frozenset((
    "offset", "length", "size", "seed", "bytes", "manifest_bytes", "parameters", "images_seen", "data_offsets",
    "patch_crc32",
))  # fmt: skip
"""Fields of ours that hold numbers of any length, all written as numbers."""
TORCH = ("as_int", "nn_module_stack", "from_node")
"""Fields of a torch.export archive that number its nodes, or bound a size by the largest number there is."""
SERIAL = "serialization_id"
"""Member of a torch archive."""
CODED = "CodeValue"
"""Element of a code, whose number is the scheme's."""
PUBLIC_UID = b"1.2.840.10008."


def add_machine(needles: Needles) -> None:
    """The names of this machine and of who uses it."""
    for name, kind in ((_user(), "user of this machine"), (socket.gethostname(), "name of this machine")):
        needles.add(name, kind)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # of no known user
        return ""


def is_lawful(piece: Piece) -> bool:
    """Whether numbers of this piece are sizes, places or settings of ours."""
    return piece.kind == "numbers" and piece.field in LAWFUL


def looks(piece: Piece) -> Iterator[tuple[int, bytes, str]]:
    """Position, text and kind of what looks like an identifier in a piece of text."""
    if piece.kind == "raw" or piece.field == CODED:
        return
    for kind, form in LOOKS.items():
        if piece.kind == "numbers" and kind not in ("date", "long number"):
            continue
        if kind == "long number" and (piece.field in TORCH or piece.place.endswith(SERIAL)):
            continue
        for match in form.finditer(piece.data):
            if not (kind == "DICOM UID" and match[0].startswith(PUBLIC_UID)):
                yield match.start(), match[0], kind
