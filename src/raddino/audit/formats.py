"""Binary formats opened: archives, compressed streams, PNG, tables, tensors, DICOM, databases, protocol buffers."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from raddino.audit.dicom import dicom
from raddino.audit.pieces import MOST_UNPACKED, Found, Piece, Unpacker, Unread, as_text
from raddino.audit.texts import plain

PNG = b"\x89PNG\r\n\x1a\n"
SQLITE = b"SQLite format 3\0"
WHOLE = re.compile(r"(\d+)\.0+")
FEWEST_DIGITS = 1000
"""Whole numbers below it are too short to search for."""
PROTOBUF = re.compile(r"\.onnx$|tfevents")


def _bounded(unpacker: Unpacker, stream: Any) -> bytes:
    data: bytes = stream.read(min(unpacker.left, MOST_UNPACKED) + 1)
    unpacker.spend(len(data))
    return data


def _tar(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    last = 0
    with tarfile.open(fileobj=_file(data), mode="r:") as archive:
        for member in archive:
            yield Piece(f"{place}: between members", data[last : member.offset_data], "raw")
            last = member.offset_data
            words = [member.name, member.linkname, member.uname, member.gname]
            words += [word for pair in member.pax_headers.items() for word in map(str, pair)]
            yield _cells(f"{place}: a member's header", words)
            if member.isreg():
                start = member.offset_data
                inside = data[start : start + member.size]
                if len(inside) < member.size:
                    raise tarfile.ReadError
                yield from unpacker.pieces(f"{place}: {member.name}", inside, member.name, depth)
                last += member.size
    yield Piece(f"{place}: between members", data[last:], "raw")


def _zip(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    with zipfile.ZipFile(_file(data)) as archive:
        yield from plain(unpacker, f"{place}: comment", archive.comment, depth)
        for member in archive.infolist():
            words = [member.filename, member.orig_filename, member.comment.decode("utf-8", "replace")]
            yield _cells(f"{place}: a member's header", words)
            if member.is_dir():
                continue
            inside = f"{place}: {member.filename}"
            if member.flag_bits & 1:
                yield Unread(inside, "encrypted")
                continue
            with archive.open(member) as stream:
                found = _bounded(unpacker, stream)
            yield from unpacker.pieces(inside, found, member.filename, depth)


def _compressed(library: Any) -> Any:
    def opened(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
        with library.open(_file(data)) as stream:
            found = _bounded(unpacker, stream)
        yield from unpacker.pieces(f"{place}: inside", found, name.rpartition(".")[0], depth)

    return opened


def _zstandard(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.BufferReader(bytes(data)), "zstd") as stream:
        found = _bounded(unpacker, stream)
    yield from unpacker.pieces(f"{place}: inside", found, name.rpartition(".")[0], depth)


def _png(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    at, packed, kind = len(PNG), [], b""
    while kind != b"IEND" and at + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = bytes(data[at + 8 : at + 8 + length])
        at += 12 + length
        if kind == b"IDAT":
            packed.append(body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            yield from _png_text(unpacker, f"{place}: {kind.decode()}", kind, body, depth)
        elif kind not in (b"IHDR", b"IEND", b"PLTE", b"tRNS"):
            yield from unpacker.pieces(f"{place}: chunk {kind.decode('latin-1')}", body, "", depth)
    pixels, rest = _inflated(unpacker, b"".join(packed))
    yield Piece(f"{place}: pixels", pixels, "raw")
    for what, left in (("behind the pixels", rest), ("behind the end", bytes(data[at:]))):
        if left:
            yield from unpacker.pieces(f"{place}: {what}", left, "", depth)


def _png_text(unpacker: Unpacker, place: str, kind: bytes, body: bytes, depth: int) -> Found:
    keyword, _, rest = body.partition(b"\0")
    if kind == b"iTXt":
        packed, (language, translated, value) = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
        keyword = b"\n".join((keyword, language, translated))
        value = _inflated(unpacker, value)[0] if packed else value
    elif kind == b"tEXt":
        value = rest
    else:
        value = _inflated(unpacker, rest[1:])[0]
    yield _cells(place, [(as_text(keyword) or b"").decode()], "keyword")
    yield from unpacker.pieces(place, value, "", depth)


def _inflated(unpacker: Unpacker, data: bytes) -> tuple[bytes, bytes]:
    inflater = zlib.decompressobj()
    found = inflater.decompress(data, min(unpacker.left, 2**31))
    unpacker.spend(len(found))
    if inflater.unconsumed_tail:
        raise ValueError("too much")
    return found, inflater.unused_data


def _safetensors(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    end = 8 + int.from_bytes(data[:8], "little")
    header = bytes(data[8:end])
    yield from unpacker.pieces(f"{place}: header", header, ".json", depth)
    kinds = {"I64": "<i8", "U64": "<u8", "I32": "<i4", "U32": "<u4"}
    for tensor, about in json.loads(header).items():
        if tensor != "__metadata__" and about["dtype"] in kinds:
            first, last = about["data_offsets"]
            numbers = np.frombuffer(bytes(data[end + first : end + last]), kinds[about["dtype"]])
            yield from _numbers(f"{place}: {tensor}", numbers, tensor)


def _npy(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    array = np.lib.format.read_array(_file(data), allow_pickle=False)
    if array.dtype.names:
        array = np.array([str(one) for one in array.ravel().tolist()])
    if array.dtype.kind in "US":
        words = array.ravel().astype("U").tolist() if array.dtype.kind == "U" else _words(array.ravel().tolist())
        yield _cells(place, words)
    elif array.dtype.kind in "iuf":
        yield from _numbers(place, array.ravel(), "")
    elif array.dtype.kind == "M":
        yield _cells(place, np.datetime_as_string(array.ravel()).tolist())


def _numbers(place: str, values: np.ndarray, field: str) -> Iterator[Piece]:
    """Whole numbers in an array, each once, that are long enough to be someone's."""
    values = values[np.abs(values) >= FEWEST_DIGITS] if values.dtype.kind in "iu" else _whole(values)
    if len(values):
        found = "\n".join(map(str, np.unique(values).tolist()))
        yield Piece(place, found.encode(), "numbers", field)


def _whole(values: np.ndarray) -> np.ndarray:
    """Numbers of floating point that are whole and need more digits than measurements have."""
    size = np.abs(values.astype(np.float64))
    return values[(size >= FEWEST_DIGITS) & (size < 2**53) & (size == np.floor(size))].astype(np.int64)


def _parquet(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    import pyarrow as pa
    from pyarrow import parquet

    file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(data)), pre_buffer=False)
    schema = file.schema_arrow
    about = dict(file.metadata.metadata or {})
    for where, said in [("metadata", about), *((f"metadata of {one.name}", one.metadata or {}) for one in schema)]:
        for key, value in said.items():
            yield _cells(f"{place}: {where}", [key.decode("utf-8", "replace")])
            if key != b"ARROW:schema":
                yield from unpacker.pieces(f"{place}: {where}: {key.decode('latin-1')}", value, "", depth)
    yield _cells(f"{place}: names of columns", [*schema.names, file.metadata.created_by or ""])
    for group in range(file.metadata.num_row_groups):
        size = file.metadata.row_group(group).total_byte_size
        unpacker.spend(size)
        for column in schema.names:
            values = file.read_row_group(group, [column], use_threads=False).column(column)
            yield from _column(unpacker, f"{place}: {column}", values, column, depth)


def _column(unpacker: Unpacker, place: str, values: Any, field: str, depth: int) -> Found:
    import pyarrow as pa

    of = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    while pa.types.is_list(of) or pa.types.is_large_list(of) or pa.types.is_fixed_size_list(of):
        values = pa.chunked_array([chunk.flatten() for chunk in values.chunks], of.value_type)
        of = of.value_type
    if pa.types.is_integer(of) or pa.types.is_floating(of):
        yield from _numbers(place, values.drop_null().to_numpy(), field)
    elif pa.types.is_binary(of) or pa.types.is_large_binary(of):
        for value in values.drop_null().to_pylist():
            yield from unpacker.pieces(place, value, "", depth)
    elif not (pa.types.is_boolean(of) or pa.types.is_null(of)):
        words = ["" if value is None else str(value) for value in values.to_pylist()]
        yield from plain(unpacker, place, "\n".join(words).encode("utf-8", "surrogatepass"), depth, "cells", field)


def _sqlite(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    base = sqlite3.connect(":memory:")
    base.deserialize(bytes(data))
    base.text_factory = lambda found: found.decode("utf-8", "surrogateescape")
    tables = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    yield _cells(f"{place}: schema", [str(row[0]) for row in base.execute("SELECT sql FROM sqlite_master")])
    for table in tables:
        quoted = table.replace('"', '""')
        rows = base.execute(f'SELECT * FROM "{quoted}"')  # a name from the file itself, quoted
        columns = list(zip(*rows, strict=True))
        for column, values in zip([one[0] for one in rows.description], columns, strict=False):
            below, numbers = f"{place}: {table}.{column}", [one for one in values if isinstance(one, int | float)]
            yield _cells(below, [one for one in values if isinstance(one, str)], column)
            yield Piece(below, "\n".join(WHOLE.sub(r"\1", str(one)) for one in numbers).encode(), "numbers", column)
            for value in values:
                if isinstance(value, bytes):
                    yield from unpacker.pieces(below, value, "", depth)
    base.close()


def _protobuf(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    """Texts in ONNX graphs and in TensorBoard's event files, whose fields need no names for it."""
    whole, found = bytes(data), []
    if "tfevents" in name:
        at = 0
        while at < len(whole):
            size = int.from_bytes(whole[at : at + 8], "little")
            if len(whole) < at + 16 + size:
                raise ValueError("cut short")
            found += _texts_in(whole[at + 12 : at + 12 + size], 0) or []
            at += 16 + size
    else:
        read = _texts_in(whole, 0)
        if read is None:
            raise ValueError("no protocol buffer")
        found = read
    yield from plain(unpacker, place, b"\n".join(found), depth, "cells")


def _texts_in(data: bytes, depth: int) -> list[bytes] | None:
    """Texts below a message; None where it is none."""
    at, found = 0, []
    while at < len(data):
        key, at = _varint(data, at)
        if key >> 3 == 0 or at < 0:
            return None
        match key & 7:
            case 0:
                _, at = _varint(data, at)
                size = 0
            case 1 | 5:
                size = 8 if key & 7 == 1 else 4
            case 2:
                size, at = _varint(data, at)
            case _:
                return None
        if at < 0 or at + size > len(data):
            return None
        if key & 7 == 2 and size:
            part = data[at : at + size]
            words = as_text(part) if size < 2**20 else None
            below = _texts_in(part, depth + 1) if depth < 24 else None
            found += [words] if words is not None else []
            found += below or []
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and the place behind it; -1 for the place where it does not end."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, at + shift + 1
    return value, -1


def _pickle(unpacker: Unpacker, place: str, data: Any, name: str, depth: int) -> Found:
    import pickletools

    words = [value for _, value, _ in pickletools.genops(bytes(data)) if isinstance(value, str | bytes)]
    yield _cells(place, _words(words))


def _words(values: list[Any]) -> list[str]:
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values]


def _cells(place: str, words: list[str], field: str = "") -> Piece:
    return Piece(place, "\n".join(words).encode("utf-8", "surrogateescape"), "cells", field)


def _file(data: Any) -> io.BufferedReader:
    """The data as an open file, without a copy."""
    return io.BufferedReader(_Open(data))


class _Open(io.RawIOBase):
    """Bytes or a memory map to be read from."""

    def __init__(self, data: Any) -> None:
        self.data, self.at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self.data[self.at : self.at + len(buffer)]
        buffer[: len(found)] = found
        self.at += len(found)
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(offset + (0, self.at, len(self.data))[whence], 0)
        return self.at


def _is_safetensors(head: bytes, name: str, data: Any) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= len(data) - 8


FORMATS = (
    ("PNG", lambda head, name, data: head.startswith(PNG), _png),
    ("Parquet", lambda head, name, data: head.startswith(b"PAR1") and bytes(data[-4:]) == b"PAR1", _parquet),
    ("safetensors", _is_safetensors, _safetensors),
    ("tar", lambda head, name, data: head[257:262] == b"ustar" or name.endswith(".tar"), _tar),
    ("zip", lambda head, name, data: head[:4] in (b"PK\3\4", b"PK\5\6"), _zip),
    ("gzip", lambda head, name, data: head.startswith(b"\x1f\x8b"), _compressed(gzip)),
    ("bzip2", lambda head, name, data: head.startswith(b"BZh"), _compressed(bz2)),
    ("xz", lambda head, name, data: head.startswith(b"\xfd7zXZ\0"), _compressed(lzma)),
    ("Zstandard", lambda head, name, data: head.startswith(b"\x28\xb5\x2f\xfd"), _zstandard),
    ("NumPy array", lambda head, name, data: head.startswith(b"\x93NUMPY"), _npy),
    ("DICOM", lambda head, name, data: head[128:132] == b"DICM", dicom),
    ("SQLite", lambda head, name, data: head.startswith(SQLITE), _sqlite),
    ("protocol buffer", lambda head, name, data: PROTOBUF.search(name) is not None, _protobuf),
    ("pickle", lambda head, name, data: name.endswith(".pkl") or head[:2] in (b"\x80\4", b"\x80\5"), _pickle),
)
