"""Shards: whole or absent, the same bytes every time, any member at once."""

import os
import tarfile

import numpy as np
import pytest

from raddino.corpus.shards import OPEN_FILES, ShardReader, ShardWriter, decode_png, encode_png
from raddino.errors import RaddinoError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_lossless(dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (17, 31)).astype(dtype)
    back = decode_png(encode_png(image), image.shape)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)


def test_members_are_where_it_says(tmp_path):
    writer = ShardWriter(tmp_path / "000000.tar")
    members = {f"{n}.bin": bytes([n]) * (n * 211 + 1) for n in range(12)}
    places = {name: writer.add(name, data) for name, data in members.items()}
    assert not (tmp_path / "000000.tar").exists()
    size = writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["000000.tar"]
    assert (tmp_path / "000000.tar").stat().st_size == size
    reader = ShardReader(tmp_path)
    assert {name: reader.read("000000.tar", *place) for name, place in places.items()} == members
    with tarfile.open(tmp_path / "000000.tar") as tar:
        assert {name: tar.extractfile(name).read() for name in tar.getnames()} == members


def test_abandoned_shard_leaves_nothing(tmp_path):
    writer = ShardWriter(tmp_path / "000000.tar")
    writer.add("a", b"1")
    writer.abandon()
    assert not list(tmp_path.iterdir())


def test_an_abandoned_shard_leaves_nothing_on_a_full_disk(tmp_path):
    writer = ShardWriter(tmp_path / "000000.tar")
    os.dup2(os.open("/dev/full", os.O_WRONLY), writer._file.fileno())
    writer.add("a", b"1")
    writer.abandon()
    assert not list(tmp_path.iterdir())


def test_more_shards_than_open_files(tmp_path):
    for n in range(OPEN_FILES + 10):
        (tmp_path / f"{n}.tar").write_bytes(b"%04d" % n)
    reader = ShardReader(tmp_path)
    for _ in range(2):
        assert [reader.read(f"{n}.tar", 0, 4) for n in range(OPEN_FILES + 10)] == [
            b"%04d" % n for n in range(OPEN_FILES + 10)
        ]


def test_a_file_stays_open_while_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "000000.tar").write_bytes(b"1234")
    reader, read = ShardReader(tmp_path), os.pread

    def after_another_thread_dropped_it(handle, length, offset):
        reader._files.clear()
        return read(handle, length, offset)

    monkeypatch.setattr(os, "pread", after_another_thread_dropped_it)
    assert reader.read("000000.tar", 1, 2) == b"23"


def test_missing_and_short_shards_are_said(tmp_path):
    (tmp_path / "short.tar").write_bytes(b"123")
    with pytest.raises(RaddinoError, match="cut short"):
        ShardReader(tmp_path).read("short.tar", 0, 4)
    with pytest.raises(RaddinoError, match="missing"):
        ShardReader(tmp_path).read("absent.tar", 0, 4)
