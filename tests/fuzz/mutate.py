"""Damage to files, each a pure function of the bytes and a number."""

import gzip
import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import yaml

NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 32, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 2**31 - 1, 2**32 - 1, 2**63)
VRS = (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"FD", b"FL", b"IS", b"LO", b"OB", b"OW", b"PN", b"SQ", b"SS", b"UI",
       b"UL", b"UN", b"US", b"UT", b"ZZ", b"\0\0")  # fmt: skip
WORDS = ("", " ", "0", "-1", "1", "1e400", "NaN", "1,5", "-", "\\", "MONOCHROME1", "RGB", "INVERSE", "YES", "CT",
         "HAND", "L\\F", "PA", "999Y", "19000101", "é\x00ü", "../../../etc/passwd", "x" * 300, "9" * 400)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 0.5, -1e308, 10**400, 2**31, 2**63, float("nan"), float("inf")),
    *("", "x", "NaN", "0", "../../../../etc/passwd", "/etc/passwd", "é", "x" * 10_000, "\x00", "\n", "a\\b"),
    *([], {}, [[]], [0] * 1000, {"": 0}, {"format": 1}, ["x", 1, None]),
)
BOMB = (
    "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True))
)  # fmt: skip
DEFLATED, EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0\0\0"
Mutation = Callable[[bytes, random.Random], bytes]


def mutate(data: bytes, number: int, name: str, other: bytes = b"") -> bytes:
    """``data`` damaged in the way that ``number`` says, the same on every machine.

    Args:
        data: a sound file.
        number: chooses the damage.
        name: of the file; its suffix tells which structure may be understood.
        other: another sound file, for splices.
    """
    rng = random.Random(number)
    plain = [*_PLAIN, lambda data, rng: splice(data, other, rng)]
    structured = _STRUCTURED.get(name.rpartition(".")[2])
    if structured and rng.random() < 0.5:
        return rng.choice(structured)(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        data = rng.choice(plain)(data, rng) if data else data
    return data


def flip(data: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(out))
        out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """One to sixteen bytes in a row."""
    at, length = rng.randrange(len(data) or 1), rng.choice((1, 1, 2, 4, 16))
    return data[:at] + rng.randbytes(length) + data[at + length :]


def extreme(data: bytes, rng: random.Random) -> bytes:
    """A number of 1, 2 or 4 bytes, in either order: what lengths, sizes and offsets break at."""
    size = rng.choice((1, 2, 4))
    value = rng.choice(NUMBERS) % 256**size
    at = rng.randrange(len(data) or 1)
    return data[:at] + value.to_bytes(size, rng.choice(("big", "little"))) + data[at + size :]


def block(data: bytes, rng: random.Random) -> bytes:
    """A block zeroed, set, repeated, removed, or exchanged with the next."""
    length = rng.choice((1, 4, 16, 64, 256, 1024)) % max(len(data), 1) or 1
    at = rng.randrange(max(len(data) - length, 1))
    before, part, after = data[:at], data[at : at + length], data[at + length :]
    return rng.choice(
        (
            *(before + bytes(length) + after, before + b"\xff" * length + after, before + part + part + after),
            *(before + after, before + after[:length] + part + after[length:]),
        )
    )


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut at the end, often only a little."""
    return data[: len(data) - rng.choice((1, 2, 16, rng.randrange(len(data) or 1)))]


def insert(data: bytes, rng: random.Random) -> bytes:
    """Bytes more, inside or behind the end."""
    at = rng.choice((len(data), rng.randrange(len(data) or 1)))
    return data[:at] + rng.choice((rng.randbytes(rng.choice((1, 2, 7, 300))), bytes(64), b"\xff\xd9")) + data[at:]


def splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one file and the end of another, or a block of it in the middle."""
    at, start = rng.randrange(len(data) or 1), rng.randrange(len(other) or 1)
    if rng.random() < 0.5:
        return data[:at] + other[start:]
    part = other[start : start + rng.choice((8, 64, 512))]
    return data[:at] + part + data[at + len(part) :]


def marker(data: bytes, rng: random.Random) -> bytes:
    """Bytes just behind a marker of a JPEG or JPEG 2000 stream, or the marker itself."""
    places = [found.start() for found in re.finditer(rb"\xff[\x4f-\x64\x90-\x93\xc0-\xfe]", data)]
    at = rng.choice(places or [0]) + rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 40))
    return data[:at] + bytes([rng.choice((rng.randrange(256), 0, 1, 255))]) + data[at + 1 :]


def inflated(kind: Mutation) -> Mutation:
    """A mutation of DICOM that reaches into a deflated data set."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        if DEFLATED not in data[:1024]:
            return kind(data, rng)
        start = 144 + int.from_bytes(data[140:144], "little")
        plain = data[:start].replace(DEFLATED, EXPLICIT) + zlib.decompress(data[start:], -zlib.MAX_WBITS)
        changed = kind(plain, rng)
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        whole = deflater.compress(changed[start:]) + deflater.flush()
        return data[:start] + whole + bytes(len(whole) % 2)

    return damage


@inflated
def pixel_data(data: bytes, rng: random.Random) -> bytes:
    """Any damage, to the value of a DICOM file's pixel data alone; its length stays."""
    at = _elements(data)[-1]
    start, end = at.value_at, at.value_at + len(at.value)
    changed = rng.choice((flip, overwrite, extreme, block, marker))(data[start:end], rng)
    return data[:start] + changed[: end - start].ljust(end - start, b"\0") + data[end:]


@inflated
def element(data: bytes, rng: random.Random) -> bytes:
    """One element of a DICOM file's header: another value, another type, another length, repeated or gone."""
    one = rng.choice(_elements(data)[:-1])
    end = one.value_at + len(one.value)
    before, head, after = data[: one.start], data[one.start : one.value_at], data[end:]
    action = rng.choice(("value", "value", "value", "number", "vr", "length", "gone", "twice"))
    if action == "gone":
        return before + after
    if action == "twice":
        return before + (head + one.value) * 2 + after
    if action == "vr" and not one.implicit:
        return before + head[:4] + rng.choice(VRS) + head[6:] + one.value + after
    if action == "length":
        return before + _with_length(head, rng.choice(NUMBERS) % 2**32, one) + one.value + after
    if action == "number":
        value = rng.choice(NUMBERS) % 256 ** len(one.value)
        return before + head + value.to_bytes(len(one.value), one.order) + after
    text = rng.choice(WORDS).encode("latin-1")
    text += b" " * (len(text) % 2)
    return before + _with_length(head, len(text), one) + text + after


class _Element:
    """Where one element stands: ``start``, ``value_at`` and the ``value``'s bytes."""

    def __init__(self, raw: Any) -> None:
        self.implicit, self.value = raw.is_implicit_VR, raw.value or b""
        self.order = "little" if raw.is_little_endian else "big"
        self.long = not self.implicit and raw.VR in ("OB", "OW", "SQ", "UN", "UT", "OF", "OD", "OL", "UC", "UR")
        self.value_at = raw.value_tell
        self.start = raw.value_tell - (12 if self.long else 8)


def _elements(data: bytes) -> list[_Element]:
    """Elements of the data set in file order, the pixel data last."""
    from pydicom import dcmread

    held = dcmread(io.BytesIO(data))
    return [_Element(held.get_item(tag)) for tag in sorted(held.keys()) if held.get_item(tag).is_raw]


def _with_length(head: bytes, length: int, one: _Element) -> bytes:
    size = 4 if one.implicit or one.long else 2
    return head[:-size] + (length % 256**size).to_bytes(size, one.order)


def png_chunk_edit(data: bytes, rng: random.Random) -> bytes:
    """The content of a PNG chunk, under a checksum that fits."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((at, length))
        at += 12 + length
    at, length = rng.choice(chunks[:-1])
    content = data[at + 4 : at + 8 + length]
    content = content[:4] + rng.choice((flip, overwrite, extreme))(content[4:], rng)[:length]
    return data[: at + 4] + content + struct.pack(">I", zlib.crc32(content)) + data[at + 12 + length :]


def tree(values: Any, rng: random.Random, deepest: int) -> Any:
    """Nested lists and mappings with one value replaced, removed, renamed, wrapped or doubled."""
    places: list[tuple[Any, Any]] = []

    def walk(one: Any) -> None:
        for key in list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ():
            places.append((one, key))
            walk(one[key])

    walk(values)
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    action = rng.choice(("value", "value", "value", "number", "gone", "rename", "wrap", "deep"))
    if action == "gone":
        del holder[key]
    elif action == "rename" and isinstance(holder, dict):
        holder[rng.choice(("", "x", "../x", "é", f"{key}_"))] = holder.pop(key)
    elif action == "wrap":
        holder[key] = rng.choice(([holder[key]], {"x": holder[key]}, str(holder[key])))
    elif action == "deep":
        for _ in range(rng.choice((10, deepest))):
            holder[key] = [holder[key]]
    elif action == "number" and isinstance(holder[key], int | float):
        holder[key] = rng.choice((-1, 0, 3, 1000)) * holder[key] + rng.choice((0, 1, 10**6, 0.5))
    else:
        holder[key] = rng.choice(VALUES)
    return values


def json_edit(data: bytes, rng: random.Random) -> bytes:
    """A value of a JSON file."""
    if rng.random() < 0.05:
        return b'{"a":' * 100_000
    return json.dumps(tree(json.loads(data), rng, 300)).encode()


def yaml_edit(data: bytes, rng: random.Random) -> bytes:
    """A value of a YAML file, a bomb of aliases, a tag that would call something."""
    if rng.random() < 0.15:
        return rng.choice((BOMB.encode(), b"[" * 5000, b"a: !!python/object/apply:os.getcwd []", b"a: &a [*a]"))
    return yaml.safe_dump(tree(yaml.safe_load(data), rng, 50)).encode()


def csv_edit(data: bytes, rng: random.Random) -> bytes:
    """A cell, a name, a row, the delimiter or the encoding of a CSV file."""
    import csv

    rows = list(csv.reader(io.StringIO(data.decode())))
    action = rng.choice(("cell", "cell", "cell", "name", "gone", "more", "twice", "delimiter", "encoding"))
    at, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    if action == "cell":
        rows[at][column] = str(rng.choice((*VALUES, *WORDS)))
    elif action == "name":
        rows[0][column] = rng.choice((" path", "path", "label_x", "mask_x", "", "é", "patient", "labels", "split"))
    elif action == "gone":
        del rows[at][column]
    elif action == "more":
        rows[at].insert(column, str(rng.choice(VALUES)))
    elif action == "twice":
        rows.insert(at, list(rows[at]))
    out = io.StringIO()
    csv.writer(out, delimiter=rng.choice(";\t|") if action == "delimiter" else ",").writerows(rows)
    encoding = rng.choice(("utf-16", "utf-8-sig", "utf-32")) if action == "encoding" else "utf-8"
    return out.getvalue().encode(encoding, "replace")


def parquet_edit(data: bytes, rng: random.Random) -> bytes:
    """A column of a Parquet file of another type, with another value, under another name, or gone."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(data))
    at = rng.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at).to_pylist()
    action = rng.choice(("type", "type", "value", "value", "rename", "gone", "empty", "twice"))
    if action == "gone":
        table = table.remove_column(at)
    elif action == "rename":
        table = table.set_column(at, rng.choice(("x", "", f" {name}", "mask_x", "label_x")), table.column(at))
    elif action == "empty":
        table = table.slice(0, 0)
    elif action == "twice":
        table = pa.concat_tables([table, table])
    elif action == "type":
        made: tuple[Callable[[Any], Any], ...] = (
            *(lambda one: [one], lambda one: {"x": one}, lambda one: str(one).encode(), lambda one: one is not None),
            *(lambda one: None, lambda one: len(str(one)) if isinstance(one, float) else 7),
        )
        table = table.set_column(at, name, pa.array(list(map(rng.choice(made), column))))
    else:
        fitting = [one for one in VALUES if type(one) is type(column[0]) and one not in (10**400, 2**63)]
        value = rng.choice(fitting or [None]) if not isinstance(column[0], list) else None
        column[rng.randrange(len(column))] = value
        table = table.set_column(at, name, pa.array(column, from_pandas=True))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def safetensors_edit(data: bytes, rng: random.Random) -> bytes:
    """The JSON header of a safetensors file: types, shapes, offsets, names."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json_edit(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def text_edit(data: bytes, rng: random.Random) -> bytes:
    """A number, a sign or a word of a mask's code."""
    text = data.decode()
    found = rng.choice(list(re.finditer(r"-?\d+(?:\.\d+)?|\w+|[:,;| ]", text)))
    new = rng.choice((*WORDS, *map(str, NUMBERS), found[0] * 2, "image", "empty:", "gaps:", "|", ";", ":", "runs:"))
    return (text[: found.start()] + new + text[found.end() :]).encode()


def zip_edit(data: bytes, rng: random.Random) -> bytes:
    """A field of a zip's central directory, of a member's header or of the end: sizes, offsets, flags, names."""
    kind = rng.choice((b"PK\x01\x02", b"PK\x01\x02", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
    at = rng.choice([found.start() for found in re.finditer(kind, data)] or [0]) + rng.choice(range(4, 48, 2))
    size = rng.choice((2, 4))
    held = int.from_bytes(data[at : at + size], "little")
    value = rng.choice((*NUMBERS, held * 2, held + 1, max(held - 1, 0), held ^ 1)) % 256**size
    return data[:at] + value.to_bytes(size, "little") + data[at + size :]


def tar_edit(data: bytes, rng: random.Random) -> bytes:
    """A field of a tar header, under a checksum that fits."""
    heads = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(heads or [0])
    head = bytearray(data[at : at + 512].ljust(512, b"\0"))
    place, values = rng.choice(
        (
            (0, [b"../" * 30 + b"etc/passwd", b"/etc/passwd", b"\0" * 100, b".hidden", b"1.png\0", b"\xff" * 100]),
            (124, [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"x" * 12, b"00000000001\0", bytes(12)]),
            (156, [bytes([kind]) for kind in b"01234567xgLKSVMDZ\0"]),
            (345, [b"a" * 155, b"../" * 50]),
        )
    )
    value = rng.choice(values)
    head[place : place + len(value)] = value
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 256 + sum(head[156:]))
    return data[:at] + bytes(head) + data[at + 512 :]


def tgz_edit(data: bytes, rng: random.Random) -> bytes:
    """Any damage to the tar inside a gzip stream whose checksum fits, one that grows, or the stream itself."""
    if rng.random() < 0.2:
        return gzip.compress(gzip.decompress(data)[:512] + bytes(rng.choice((2**20, 2**27))), mtime=0)
    return gzip.compress(rng.choice((tar_edit, flip, block, truncate))(gzip.decompress(data), rng), mtime=0)


def dicomdir_edit(data: bytes, rng: random.Random) -> bytes:
    """The name of a file that a DICOMDIR gives, its kind, or the length of an element."""
    tag = rng.choice((b"\x04\x00\x00\x15CS", b"\x04\x00\x30\x14CS", b"\xfe\xff\x00\xe0", b"\x04\x00\x20\x12SQ"))
    at = rng.choice([found.end() for found in re.finditer(re.escape(tag), data)] or [0])
    if tag[-2:] != b"CS" or rng.random() < 0.3:
        value = rng.choice(NUMBERS) % 65536
        return data[:at] + value.to_bytes(2, "little") + data[at + 2 :]
    names = (
        b"..\\..\\etc\\passwd ",
        b"/etc/passwd ",
        b"IM0\\IM1 ",
        b"\\\\\\\\\\ ",
        b"\0\0",
        b"",
        b"PATIENT ",
        b"DICOMDIR",
    )
    name = rng.choice(names)
    length = int.from_bytes(data[at : at + 2], "little")
    return data[:at] + len(name).to_bytes(2, "little") + name + data[at + 2 + length :]


_PLAIN: tuple[Mutation, ...] = (flip, flip, overwrite, extreme, block, block, truncate, insert)
_STRUCTURED: dict[str, tuple[Mutation, ...]] = {
    "dcm": (pixel_data, pixel_data, element),
    "jpg": (marker,),
    "jp2": (marker,),
    "png": (png_chunk_edit,),
    "code": (text_edit,),
    "zip": (zip_edit,),
    "tar": (tar_edit,),
    "tgz": (tgz_edit,),
    "DICOMDIR": (dicomdir_edit,),
    "json": (json_edit,),
    "yaml": (yaml_edit,),
    "csv": (csv_edit,),
    "parquet": (parquet_edit,),
    "safetensors": (safetensors_edit,),
}
