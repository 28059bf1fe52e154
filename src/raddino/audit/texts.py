"""Texts opened: JSON, YAML and CSV to values, data URIs and base64 to what they hold, escapes resolved."""

from __future__ import annotations

import base64
import binascii
import csv
import html
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import yaml

from raddino.audit.pieces import Found, Piece, Unpacker
from raddino.tasks.predict import COLUMNS as PREDICTED

NAMES_FILES = "segment and predict name the files that they were given"
SKIPPED = ("image", "reason")
DATA = re.compile(rb"data:([\w.+/-]*)((?:;[\w.+-]+(?:=[\w.+-]*)?)*?)(;base64)?,([^\s\"'<>()\\]*)")
LONG = re.compile(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{128,}={0,2}")
ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|([0-7]{3})|([\"'/\\nrt]))")
QUOTED, ENTITY = re.compile(rb"%[0-9A-Fa-f]{2}"), re.compile(rb"&#?\w+;")
SIGNS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
MOST_PATHS = 5000
COMMENT = re.compile(r"(?:^|\s)(#.*)$", re.MULTILINE)


class Number(str):
    """A number as it is written."""


def text(unpacker: Unpacker, place: str, data: bytes, name: str, depth: int) -> Found:
    """Pieces of a text in UTF-8."""
    kind = name.lower().rpartition(".")[2]
    opened: Any = None
    if kind in ("csv", "tsv"):
        opened = _csv(data, "\t" if kind == "tsv" else ",")
    elif kind in ("yaml", "yml"):
        opened = _yaml(data)
    elif data.lstrip()[:1] in (b"{", b"[", b'"') or kind in ("json", "jsonl"):
        opened = _json(data)
    if opened is None:
        yield from plain(unpacker, place, data, depth)
        return
    for path, field, numbers, values, stated in opened:
        below = f"{place}: {path}" if path else place
        found = "\n".join(values).encode("utf-8", "surrogatepass")
        if numbers:
            yield Piece(below, found, "numbers", field, stated)
        else:
            yield from plain(unpacker, below, found, depth, "cells", field, stated)


def plain(
    unpacker: Unpacker, place: str, data: bytes, depth: int, kind: Any = "text", field: str = "", stated: str = ""
) -> Found:
    """A text without data URIs, which are opened, and what is left with its escapes resolved."""
    inside: list[tuple[str, bytes]] = []

    def opened(match: re.Match[bytes]) -> bytes:
        found = _unpacked(match[4]) if match[3] else unquote_to_bytes(match[4])
        if found is None:
            return match[0]
        inside.append((match[1].decode().rpartition("/")[2].partition("+")[0], found))
        return match[0][: match.start(4) - match.start()]

    rest = DATA.sub(opened, data) if b"data:" in data else data
    for match in LONG.finditer(rest):
        if (found := _unpacked(match[0])) is not None:
            inside.append(("", found))
    yield Piece(place, rest, kind, field, stated)
    for how, view in _views(rest):
        yield Piece(f"{place} ({how})", view, kind, field, stated)
    for number, (suffix, found) in enumerate(inside, start=1):
        unpacker.spend(len(found))
        yield from unpacker.pieces(f"{place}: encoded part {number}", found, f".{suffix}", depth + 1)


def _unpacked(data: bytes) -> bytes | None:
    data = unquote_to_bytes(data)
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        return None


def _views(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The text with HTML's entities, then URLs' and last backslashes' escapes resolved, where there are any."""
    if ENTITY.search(data):
        data = html.unescape(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogatepass")
        yield "entities resolved", data
    if QUOTED.search(data):
        data = unquote_to_bytes(data)
        yield "URL decoded", data
    if b"\\" in data and ESCAPE.search(data):
        yield "escapes resolved", ESCAPE.sub(_resolved, data)


def _resolved(match: re.Match[bytes]) -> bytes:
    code = match[1] or match[2] or match[3]
    if match[5]:
        return SIGNS.get(match[5], match[5])
    number = int(code, 16) if code else int(match[4], 8)
    return chr(number).encode("utf-8", "surrogatepass") if number < 0x110000 else match[0]


Values = Iterable[tuple[str, str, bool, list[str], str]]
"""Path, field, whether they are numbers, values, and why they may name their source."""


def _json(data: bytes) -> Values | None:
    """Values of a JSON text, or of one a line; None where it is none."""
    for texts in ([data], data.splitlines()):
        try:
            read = [_parsed(one) for one in texts if one.strip()]
        except (ValueError, RecursionError):
            continue
        return _grouped(read)
    return None


def _parsed(data: bytes) -> Any:
    return json.loads(data, parse_int=Number, parse_float=Number, parse_constant=Number, object_pairs_hook=_Pairs)


class _Pairs(list[tuple[str, Any]]):
    """An object, keys that stand twice included."""


def _yaml(data: bytes) -> Values | None:
    words = data.decode("utf-8", "replace")
    try:
        read = list(yaml.load_all(words, Loader=yaml.BaseLoader))
    except (yaml.YAMLError, RecursionError):
        return None
    comments = COMMENT.findall(words)
    return [*_grouped(read), ("comments", "", False, comments, "")]


def _grouped(read: list[Any]) -> Values:
    """Scalars below ``read`` by their path, in which places in lists do not count; and all keys."""
    groups: dict[tuple[str, str, bool], list[str]] = defaultdict(list)
    keys: dict[str, None] = {}
    todo: list[tuple[str, str, Any]] = [("", "", one) for one in reversed(read)]
    while todo:
        path, field, value = todo.pop()
        if isinstance(value, dict):
            value = _Pairs(value.items())
        if isinstance(value, _Pairs):
            keys.update((str(key), None) for key, _ in value)
            todo += [(f"{path}.{key}" if path else str(key), str(key), one) for key, one in reversed(value)]
        elif isinstance(value, list):
            todo += [(f"{path}[]", field, one) for one in reversed(value)]
        elif value is not None and not isinstance(value, bool):
            known = len(groups) < MOST_PATHS or (path, field, isinstance(value, Number)) in groups
            groups[path if known else "…", field if known else "…", isinstance(value, Number)].append(str(value))
    yield "keys", "", False, list(keys), ""
    yield from ((*group, values, "") for group, values in groups.items())


def _csv(data: bytes, delimiter: str) -> Values | None:
    """Columns of a table; None where its rows differ in length."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""), delimiter=delimiter))
    except csv.Error:
        return None
    rows = [row for row in rows if row]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return None
    names_files = tuple(rows[0]) in (PREDICTED, SKIPPED)
    return [
        ("header", "", False, rows[0], ""),
        *(
            (name, name, False, [row[at] for row in rows[1:]], NAMES_FILES if names_files and name == "image" else "")
            for at, name in enumerate(rows[0])
        ),
    ]
