"""Uncompressed tar shards in webdataset's naming (``<id>.png``, ``<id>.mask_lungs.png``, ``<id>.json``)."""

import io
import os
import struct
import tarfile
import zlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from raddino.errors import RaddinoError
from raddino.storage import read_remote, shown_url

SHARDS = "shards"
HEADER = 512
OPEN_FILES = 64
COMPRESSION = 2
LARGEST_IMAGE = 2**27
"""Pixels."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, DEPTHS = 0, (8, 16)


def encode_png(array: np.ndarray) -> bytes:
    """(H, W) uint8 or uint16 to PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=COMPRESSION)
    return buffer.getvalue()


def decode_png(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """What :func:`encode_png` made of an array of ``shape`` (H, W); any changed bit is found (CRC-32 of PNG's chunks).

    Raises:
        OSError, SyntaxError, ValueError: damaged, another kind of PNG, or of another size.
    """
    _check_chunks(data, shape)
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return np.array(image, dtype=np.uint8 if image.mode == "L" else np.uint16)


def _check_chunks(data: bytes, shape: tuple[int, int]) -> None:
    """Raise ValueError for other chunks than a grey image of ``shape`` needs, or a wrong CRC."""
    kinds, at, view = [], len(SIGNATURE), memoryview(data)
    while at < len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        body = view[at + 4 : at + 8 + length]
        if len(body) != 4 + length or view[at + 8 + length : at + 12 + length] != zlib.crc32(body).to_bytes(4, "big"):
            raise ValueError("a chunk is damaged")
        kinds.append(bytes(body[:4]))
        at += 12 + length
    if data[:8] != SIGNATURE or set(kinds[1:-1]) != {b"IDAT"} or [*kinds[:1], *kinds[-1:]] != [b"IHDR", b"IEND"]:
        raise ValueError("not a PNG of one grey image")
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", data[16:29])
    if (height, width) != shape or colour != GREY or depth not in DEPTHS or any(methods):
        raise ValueError("a PNG of another size or kind")


class ShardWriter:
    """Writes ``path`` under a temporary name and gives it its own only when it is whole and on disk.

    Bytes depend on the members alone: no times, owners or modes of this machine.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._part = path, path.with_suffix(".tar.part")
        self._file = open(self._part, "wb")  # noqa: SIM115
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append one member; returns its (offset, length) in bytes from the start of the shard."""
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        offset = self._tar.offset + HEADER
        self._tar.addfile(info, io.BytesIO(data))
        return offset, len(data)

    def close(self) -> int:
        """Finish, sync and rename; returns the shard's size in bytes."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.rename(self.path)
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Remove what was written."""
        self._part.unlink(missing_ok=True)
        with suppress(OSError):  # of a full disk, on which the rest of the buffer has no room
            self._file.close()


class ShardReader:
    """Random access to the members of shards; holds at most 64 files open, none of which is pickled.

    Args:
        folder: of the shards, or the URL below which they lie.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder
        self._files: OrderedDict[str, IO[bytes]] = OrderedDict()

    def read(self, shard: str, offset: int, length: int) -> bytes:
        """``length`` bytes at ``offset`` of ``shard``, safe from any thread or forked worker.

        Raises:
            RaddinoError: the shard is gone or shorter than that.
        """
        corpus = shown_url(os.path.dirname(self.folder))
        try:
            data = self._range(shard, offset, length)
        except FileNotFoundError:
            raise RaddinoError(f"shard {shard} of corpus {corpus} is missing; prepare it again") from None
        if len(data) != length:
            raise RaddinoError(f"shard {shard} of corpus {corpus} is cut short; prepare it again")
        return data

    def _range(self, shard: str, offset: int, length: int) -> bytes:
        if isinstance(self.folder, str):
            return read_remote(f"{self.folder}/{shard}", offset, offset + length)
        file = self._file(self.folder / shard)  # held until it is read: another thread may drop it from the table
        return os.pread(file.fileno(), length, offset)

    def _file(self, path: Path) -> IO[bytes]:
        file = self._files.get(path.name)
        if file is None:
            file = self._files[path.name] = open(path, "rb")  # noqa: SIM115
            while len(self._files) > OPEN_FILES:
                self._files.popitem(last=False)
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_files": OrderedDict()}
