"""Digests of a folder against hashlib; whatever is added, taken or changed shows."""

import hashlib
import os

import pytest

from raddino.sums import SUMS, sums_hold, write_sums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b/c.bin").write_bytes(b"two")
    write_sums(tmp_path)
    return tmp_path


def test_the_text_is_that_of_sha256sum(folder):
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in (("a.txt", b"one"), ("b/c.bin", b"two"))]
    assert (folder / SUMS).read_text(encoding="utf-8") == "".join(lines)
    assert sums_hold(folder)
    write_sums(folder)
    assert sums_hold(folder)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "a.txt").write_bytes(b"onf"),
        lambda folder: (folder / "a.txt").unlink(),
        lambda folder: (folder / "a.txt").rename(folder / "z.txt"),
        lambda folder: (folder / "b/new").touch(),
        lambda folder: (folder / SUMS).unlink(),
        lambda folder: (folder / SUMS).write_text((folder / SUMS).read_text(encoding="utf-8") + "\n", encoding="utf-8"),
        lambda folder: (folder / SUMS).write_text(
            (folder / SUMS).read_text(encoding="utf-8").upper(), encoding="utf-8"
        ),
        lambda folder: os.mkfifo(folder / "pipe"),
        lambda folder: (folder / "link").symlink_to("nowhere"),
        lambda folder: [(folder / SUMS).unlink(), (folder / SUMS).mkdir()],
    ],
)
def test_every_difference_is_seen(folder, harm):
    harm(folder)
    assert not sums_hold(folder)
