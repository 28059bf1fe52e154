"""Archives: what zipfile and tarfile write is read, what an archive claims is not believed, damage ends nothing."""

import gzip
import io
import random
import struct
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from raddino.images import archive, location, tarred
from raddino.images.archive import AGAIN, BOMBS, BROKEN, DAMAGED, INNER, LINKS, ODD_NAME, SPARSE
from raddino.images.errors import UnreadableImage
from raddino.images.location import fetch, open_archive
from raddino.images.read import read_image

LONGER = "a folder with a name/" * 12 + "and a file.png"


@pytest.fixture
def content() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    names = ["1.png", "a/2", "a/b/ü.dcm", "/etc/passwd", "../../up.png", "C:\\3.png", LONGER, "empty"]
    held = {name: rng.bytes(100 + 999 * at) + b"x" * 5000 for at, name in enumerate(names)}
    return {**held, "empty": b""}


def plain(name: str) -> str:
    return name.lstrip("/")


def zip_of(content, path, method=zipfile.ZIP_DEFLATED, **options) -> Path:
    with zipfile.ZipFile(path, "w", method, **options) as made:
        for name, data in content.items():
            made.writestr(zipfile.ZipInfo(name), data, method)
    return path


def tar_of(content, path, mode="w", **options) -> Path:
    with tarfile.open(path, mode, **options) as made:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def check(path: Path, content) -> None:
    held = open_archive(str(path))
    assert not +held.passed
    assert list(held) == [plain(name) for name in content]
    for name, data in content.items():
        assert held.read(name) == data
        assert fetch(f"{path}::{plain(name)}") == data


def reason(path: Path, name: str) -> str:
    with pytest.raises(UnreadableImage) as error:
        fetch(f"{path}::{name}")
    assert name not in error.value.reason
    return error.value.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips(tmp_path, content, method):
    check(zip_of(content, tmp_path / "x", method), content)


def test_a_zip_with_bytes_before_and_a_comment_behind(tmp_path, content):
    path = zip_of(content, tmp_path / "x")
    with zipfile.ZipFile(path, "a") as made:
        made.comment = b"PK\x05\x06 is no end" * 9
    path.write_bytes(b"PK\x03\x04 it seems" * 70 + path.read_bytes())
    check(path, content)


def test_a_zip_written_to_a_pipe_and_of_64_bits(tmp_path, content):
    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe, writing = Pipe(), "w"
    with zipfile.ZipFile(pipe, writing, zipfile.ZIP_DEFLATED) as made:
        for name, data in content.items():
            with made.open(zipfile.ZipInfo(name), writing, force_zip64=True) as stream:
                stream.write(data)
    (tmp_path / "x").write_bytes(pipe.data)
    check(tmp_path / "x", content)


def test_a_directory_of_64_bits(tmp_path, content, monkeypatch):
    for name, value in (("ZIP64_LIMIT", 10), ("ZIP_FILECOUNT_LIMIT", 1)):
        monkeypatch.setattr(zipfile, name, value)
    check(zip_of(content, tmp_path / "x"), content)
    assert b"PK\x06\x06" in (tmp_path / "x").read_bytes()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars(tmp_path, content, format, mode):
    if format == tarfile.USTAR_FORMAT:
        content.pop(LONGER)
    check(tar_of(content, tmp_path / "x", mode, format=format), content)


def test_pax_headers_say_name_and_size(tmp_path):
    made = tarfile.TarInfo("short")
    made.pax_headers = {"path": "the real name", "size": "5", "comment": "x=y\nz"}
    data = made.tobuf(tarfile.PAX_FORMAT) + b"12345".ljust(512, b"\0") + bytes(1024)
    (tmp_path / "x").write_bytes(data)
    check(tmp_path / "x", {"the real name": b"12345"})


def test_a_size_in_base_256(tmp_path):
    head = bytearray(tarfile.TarInfo("1.png").tobuf(tarfile.USTAR_FORMAT))
    head[124:136] = b"\x80" + (3).to_bytes(11, "big")
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 256 + sum(head[156:]))
    (tmp_path / "x").write_bytes(bytes(head) + b"abc".ljust(512, b"\0"))
    check(tmp_path / "x", {"1.png": b"abc"})


def test_gzip_in_several_streams_and_a_filled_block(tmp_path, content):
    data = tar_of(content, tmp_path / "plain").read_bytes()
    parts = [gzip.compress(data[at : at + 3333]) for at in range(0, len(data), 3333)]
    (tmp_path / "x").write_bytes(b"".join(parts) + bytes(9999))
    check(tmp_path / "x", content)


def test_a_gzip_stream_is_read_from_any_place_by_any_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(tarred, "STATE_EVERY", 2**16)
    monkeypatch.setattr(tarred, "PIECE", 5000)
    rng = random.Random(0)
    content = {f"{at}": rng.randbytes(rng.randrange(60_000)) for at in range(60)}
    held = open_archive(str(tar_of(content, tmp_path / "x", "w:gz")))
    total = sum(map(len, content.values()))
    assert abs(len(held.data._states) - total / 2**16) < 5
    packed, asked = held.data.packed, []

    class Counted:
        size = packed.size

        def read(self, start, length):
            data = packed.read(start, length)
            asked.append(len(data))
            return data

    held.data.packed = Counted()
    for name in content:
        assert held.read(name) == content[name]
    assert sum(asked) <= packed.size
    asked.clear()
    for name in rng.sample(list(content), 60):
        assert held.read(name) == content[name]
    assert sum(asked) < total + 60 * 2 * (2**16 + tarred.READ)  # from the state before it, and what was read ahead
    wrong = []

    def read(seed):
        for name in random.Random(seed).sample(list(content), 60):
            wrong.extend([name] * (held.read(name) != content[name]))

    threads = [threading.Thread(target=read, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_what_is_no_file_in_a_tar(tmp_path, mode):
    kinds = [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
    with tarfile.open(tmp_path / "x", mode) as made:
        for at, kind in enumerate([*kinds, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE]):
            info = tarfile.TarInfo(f"{at}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            made.addfile(info)
    held = open_archive(str(tmp_path / "x"))
    assert list(held) == ["7.png"]
    assert held.passed == {LINKS: 5, SPARSE: 1}


def test_what_is_no_file_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as made:
        for name, mode in (("link.png", 0o120777), ("pipe", 0o010600), ("folder", 0o040755), ("1.png", 0o100644)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            made.writestr(info, b"/etc/passwd")
        made.writestr("f/", b"")
        made.writestr("with content/", b"x")
    held = open_archive(str(tmp_path / "x"))
    assert list(held) == ["1.png"]
    assert held.passed == {LINKS: 4}


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_passed_over(tmp_path, make):
    inner = ["a.zip", "b/C.TAR.GZ", "d.tgz", "e.tar"]
    names = [".hidden.png", "a/.b/c.png", "__MACOSX/._1.png", *inner, "x" * 5000, ".", "./1.png"]
    path = make(dict.fromkeys(names, b"old"), tmp_path / "x")
    if make is zip_of:
        with zipfile.ZipFile(path, "a") as made:
            made.writestr("1.png", b"new")
    else:
        with tarfile.open(path, "a", encoding="utf-8") as made:
            info = tarfile.TarInfo("1.png")
            info.size = 3
            made.addfile(info, io.BytesIO(b"new"))
    held = open_archive(str(path))
    assert list(held) == ["1.png"]
    assert held.read("1.png") == held.read("./1.png") == b"new"
    assert held.passed == {INNER: 4, AGAIN: 1, ODD_NAME: 2}


def entries(path: Path) -> list[int]:
    """Offsets of the central directory's entries."""
    data = path.read_bytes()
    at, found = struct.unpack("<L", data[-6:-2])[0], []
    while data[at : at + 4] == b"PK\x01\x02":
        found.append(at)
        at += 46 + sum(struct.unpack("<3H", data[at + 28 : at + 34]))
    return found


def poke(path: Path, at: int, format: str, *values: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(format, data, at, *values)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("place", "format", "value", "told"),
    [
        (8, "<H", 1, "encrypted"),
        (8, "<H", 1 << 13, "encrypted"),
        (10, "<H", 12, "another method"),
        (10, "<H", 0, "damaged"),
        (16, "<L", 7, "damaged"),
        (20, "<L", 99, "damaged"),
        (20, "<L", 2**31, "shares its bytes"),
        (24, "<L", 99, "damaged"),
        (24, "<L", 6000, "damaged"),
        (24, "<L", 2**30, "more than 512 MiB"),
        (24, "<L", 2**28, "more than 250 times"),
        (42, "<L", 3, "shares its bytes|damaged"),
    ],
)
def test_a_member_that_lies(tmp_path, content, place, format, value, told):
    path = zip_of(content, tmp_path / "x")
    at = entries(path)[1]
    poke(path, at + place, format, value)
    assert any(word in reason(path, "a/2") for word in told.split("|"))
    assert fetch(f"{path}::a/b/ü.dcm") == content["a/b/ü.dcm"]


def test_members_on_one_kernel(tmp_path):
    """A bomb whose entries all name one member, and one whose members hold the headers of the next."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(10**6)) + kernel.flush()

    def head(name: bytes, size: int, unpacked: int) -> bytes:
        return (
            struct.pack(
                "<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, zlib.crc32(bytes(10**6)), size, unpacked, len(name), 0
            )
            + name
        )

    def entry(name: bytes, size: int, offset: int) -> bytes:
        said = (0, 20, 0, 8, 0, 0, zlib.crc32(bytes(10**6)), size, 10**6, len(name), 0, 0, 0, 0, 0, offset)
        return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *said) + name

    def whole(body: bytes, directory: list[bytes]) -> bytes:
        joined = b"".join(directory)
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(directory), len(directory), len(joined), len(body), 0)
        return body + joined + end

    names = [b"%d.png" % at for at in range(9)]
    one = head(names[0], len(packed), 10**6) + packed
    (tmp_path / "full").write_bytes(whole(one, [entry(name, len(packed), 0) for name in names]))
    body, directory = b"", []
    for name in reversed(names):
        body = head(name, len(packed) + len(body), 10**6) + body if body else head(name, len(packed), 10**6) + packed
    at = 0
    for name in names:
        directory.append(entry(name, len(body) - at - 35, at))
        at += 35
    (tmp_path / "quoted").write_bytes(whole(body, directory))
    for path in (tmp_path / "full", tmp_path / "quoted"):
        assert len(zipfile.ZipFile(path).namelist()) == 9
        held = open_archive(str(path))
        assert len(held) == 9
        assert ["shares its bytes" in reason(path, name) for name in list(held)[:-1]] == [True] * 8
        assert fetch(f"{path}::8.png") == bytes(10**6)


def test_a_member_may_not_grow_beyond_what_it_claims(tmp_path, monkeypatch):
    path = zip_of({"1.png": bytes(200 * 2**20)}, tmp_path / "x")
    poke(path, entries(path)[0] + 24, "<L", 1000)
    most, inflated = [], archive
    from raddino.images import zipped

    original = zipped._inflated
    monkeypatch.setattr(zipped, "_inflated", lambda *given: most.append(len(original(*given))) or b"")
    assert "damaged" in reason(path, "1.png")
    assert most == [1001]
    assert inflated is archive


def test_a_gzip_bomb(tmp_path):
    content = {"1.png": b"x" * 600, "2.png": bytes(2**28), "3.png": b"y"}
    path = tar_of(content, tmp_path / "x", "w:gz")
    held = open_archive(str(path))
    assert held.passed == {BOMBS: 1}
    assert fetch(f"{path}::1.png") == content["1.png"]
    assert "damaged" in reason(path, "2.png")
    assert held.data.size < 2**26 + 250 * path.stat().st_size + 2 * 2**20


def test_a_tar_that_claims_too_much(tmp_path):
    head = tarfile.TarInfo("1.png")
    head.size = 2**40
    (tmp_path / "x").write_bytes(head.tobuf(tarfile.GNU_FORMAT) + b"abc")
    assert open_archive(str(tmp_path / "x")).passed == {DAMAGED: 1}
    assert "more than 512 MiB" in reason(tmp_path / "x", "1.png")
    head.type, head.size = b"x", 2**30
    (tmp_path / "y").write_bytes(head.tobuf(tarfile.GNU_FORMAT) + b"abc")
    assert open_archive(str(tmp_path / "y")).passed == {DAMAGED: 1}


@pytest.mark.parametrize("make", [tar_of, lambda content, path: tar_of(content, path, "w:gz")])
def test_a_tar_that_is_cut_gives_what_stands_before(tmp_path, content, make):
    path = make(content, tmp_path / "x")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    held = open_archive(str(path))
    assert held.passed == {DAMAGED: 1}
    names = list(held)
    assert 2 <= len(names) < len(content)
    for name in names[:-1]:
        assert fetch(f"{path}::{name}") == {plain(one): data for one, data in content.items()}[name]
    assert "cut short" in reason(path, names[-1])


def test_a_zip_without_its_end_cannot_be_opened(tmp_path, content):
    path = zip_of(content, tmp_path / "x")
    path.write_bytes(path.read_bytes()[:-30])
    held = open_archive(str(path))
    assert held.passed == {DAMAGED: 1}
    assert len(held) == 0


def test_more_members_than_may_be(tmp_path, monkeypatch):
    for make in (zip_of, tar_of):
        path = make(dict.fromkeys(map(str, range(30)), b"x"), tmp_path / make.__name__)
        with monkeypatch.context() as patched:
            for module in (archive, __import__("raddino.images.zipped", fromlist=["x"])):
                patched.setattr(module, "MOST_MEMBERS", 20)
            held = open_archive(str(path))
        assert list(held) == [str(at) for at in range(20)]
        assert held.passed == {archive.LIMIT: 1}


def test_no_archive(tmp_path):
    (tmp_path / "x").write_bytes(b"something else")
    with pytest.raises(OSError, match=BROKEN):
        open_archive(str(tmp_path / "x"))
    assert reason(tmp_path / "x", "1.png") == "file cannot be opened"
    with pytest.raises(UnreadableImage, match="file not found"):
        read_image(fetch(f"{tmp_path}/y::1.png"))
    zip_of({"2.png": b""}, tmp_path / "z")
    assert reason(tmp_path / "z", "1.png") == "its archive has no such member"


def test_a_changed_archive_is_listed_anew(tmp_path):
    path = zip_of({"1.png": b"a"}, tmp_path / "x")
    assert fetch(f"{path}::1.png") == b"a"
    zip_of({"1.png": b"bb"}, path)
    assert fetch(f"{path}::1.png") == b"bb"


def test_few_archives_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(location, "OPEN_ARCHIVES", 3)
    paths = [zip_of({"1": b"%d" % at}, tmp_path / f"{at}") for at in range(9)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in paths * 2:
        assert fetch(f"{path}::1") == path.name.encode()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 3


@pytest.mark.parametrize("make", [zip_of, tar_of, lambda content, path: tar_of(content, path, "w:gz")])
def test_damage_ends_nothing(tmp_path, make):
    """2,000 damaged archives: a member is read as it was, is refused, or (plain tar has no checksum) differs."""
    rng = random.Random(0)
    content = {f"{at}.png": rng.randbytes(400) for at in range(5)}
    data = make(content, tmp_path / "sound").read_bytes()
    for number in range(2000):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 20))):
            at = rng.randrange(len(damaged))
            damaged[at : at + 1] = rng.choice((rng.randbytes(1), b"\xff" * 4, b"", bytes(4)))
        if number % 4 == 0:
            damaged = damaged[: rng.randrange(len(damaged))]
        path = tmp_path / f"{number}"
        path.write_bytes(damaged)
        try:
            held = open_archive(str(path))
        except OSError:
            continue
        for name in held:
            try:
                found = held.read(name)
            except UnreadableImage:
                continue
            if make is zip_of:
                assert found in content.values()
        path.unlink()
