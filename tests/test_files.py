"""Drafts, locks, digests and bounded JSON: what is left after failures, kills and other people's files."""

import errno
import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from raddino import files
from raddino.errors import RaddinoError, UnwritableError
from raddino.files import (
    check_writable,
    draft_folder,
    draft_of,
    is_free,
    lock,
    read_json,
    scratch_folder,
    sha256,
    write_text,
    writing,
)


@contextmanager
def file_limit(size: int):
    """No file of this process may grow beyond ``size`` bytes: writes fail as on a full disk, with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


WRITERS = {
    "text": lambda path: write_text(path, "a" * 100_000),
    "python": lambda path: path.write_bytes(b"a" * 100_000),
    "safetensors": lambda path: save_file({"a": torch.zeros(30_000)}, path),
    "torch": lambda path: torch.save(torch.zeros(30_000), path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, writer):
    path = tmp_path / "x.bin"
    write_text(path, "before")
    with file_limit(5_000), pytest.raises(UnwritableError) as failed, draft_of(path) as draft:
        WRITERS[writer](draft)
    said = str(failed.value)
    assert said.startswith(f"{path} cannot be written (")
    assert said.endswith("free some space there, or give another place")
    assert "\n" not in said
    assert (tree(tmp_path), path.read_text(encoding="utf-8")) == (["x.bin"], "before")
    with draft_of(path) as draft:
        WRITERS[writer](draft)
    assert path.stat().st_size >= 100_000
    assert tree(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_is_replaced_whole_or_stays(tmp_path, writer):
    folder = tmp_path / "model"
    with draft_folder(folder) as draft:
        write_text(draft / "card", "old")
    with file_limit(5_000), pytest.raises(UnwritableError) as failed, draft_folder(folder) as draft:
        WRITERS[writer](draft / "weights")
    assert str(failed.value).startswith(f"{folder} cannot be written")
    assert tree(tmp_path) == ["model", "model/card"]
    assert (folder / "card").read_text(encoding="utf-8") == "old"
    with draft_folder(folder) as draft:
        WRITERS[writer](draft / "weights")
    assert tree(tmp_path) == ["model", "model/weights"]


@pytest.mark.parametrize("number", files.REMEDIES)
def test_every_refusal_names_the_place_and_the_remedy(tmp_path, number):
    with pytest.raises(UnwritableError) as failed, writing(tmp_path / "x"):
        raise OSError(number, "a word", "/elsewhere/of/a/library")
    assert str(failed.value) == f"{tmp_path}/x cannot be written ({os.strerror(number)}): {files.REMEDIES[number]}"
    assert isinstance(failed.value, RaddinoError)
    assert isinstance(failed.value, OSError)
    assert str(pickle.loads(pickle.dumps(failed.value))) == str(failed.value)


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("no number"), FileNotFoundError(errno.ENOENT, "gone")])
def test_other_errors_stay_what_they_are(tmp_path, error):
    with pytest.raises(type(error)) as failed, draft_of(tmp_path / "x"):
        raise error
    assert failed.value is error
    assert tree(tmp_path) == []


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_where_a_folder_should_be(tmp_path, below):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for write in (draft_of, draft_folder):
        with pytest.raises(UnwritableError, match="a file stands where"), write(tmp_path / "file" / below / "x"):
            pass
    with pytest.raises(UnwritableError, match="a file stands where"):
        lock(tmp_path / "file" / below, "busy")
    with pytest.raises(UnwritableError, match="a file stands where"), draft_folder(tmp_path / "file"):
        pass
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_folder_where_a_file_should_be(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(UnwritableError, match="a folder stands where a file should be"):
        write_text(tmp_path / "x", "a")
    assert tree(tmp_path) == ["x"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no such device")
def test_devices_are_written_and_never_replaced():
    write_text(Path("/dev/null"), "a")
    with pytest.raises(UnwritableError, match=r"^/dev/full cannot be written \(No space left on device\)"):
        write_text(Path("/dev/full"), "a")
    assert Path("/dev/null").is_char_device()
    assert Path("/dev/full").is_char_device()


def test_what_cannot_be_written_is_seen_before(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert tree(tmp_path) == ["a", "a/b"]
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableError, match="a file stands where"):
        check_writable(tmp_path / "file")


def test_no_rights(tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, "denied", "x")

    monkeypatch.setattr(os, "mkdir", refused)
    with pytest.raises(UnwritableError, match="get the right to write there"):
        write_text(tmp_path / "below" / "x", "a")


def test_rights_are_those_of_the_umask_whoever_writes(tmp_path):
    for mask, wanted in ((0o022, (0o644, 0o755)), (0o077, (0o600, 0o700))):
        place = tmp_path / oct(mask)
        with umask(mask):
            with draft_of(place / "a.safetensors") as draft:
                save_file({"a": torch.zeros(1)}, draft)
            with draft_folder(place / "model") as draft:
                save_file({"a": torch.zeros(1)}, draft / "b.safetensors")
                write_text(draft / "c.txt", "c")
        found = {path.is_dir(): rights(path) for path in place.rglob("*")}
        assert (found[False], found[True]) == wanted
        assert {rights(path) for path in place.rglob("*") if path.is_file()} == {wanted[0]}


def test_keep_leaves_the_first_ones_file(tmp_path):
    with draft_of(tmp_path / "x", keep=True) as draft:
        draft.write_text("second", encoding="utf-8")
        write_text(tmp_path / "x", "first")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "first"
    assert tree(tmp_path) == ["x"]


def test_a_draft_has_the_files_own_name(tmp_path):
    with draft_of(tmp_path / "x.png") as draft:
        assert draft.name == "x.png"
        assert is_free(tmp_path)
        draft.touch()
    assert not is_free(tmp_path)
    assert is_free(tmp_path / "absent")


def held(script: str, *arguments: object) -> subprocess.Popen:
    """A process that has said a line and waits."""
    code = f"import sys\nfrom pathlib import Path\nfrom raddino.files import *\nplace = Path(sys.argv[1])\n{script}"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout.readline().strip() == "ready"
    return process


DRAFTING = "with draft_of(place) as draft:\n    draft.write_text('half')\n    print('ready', flush=True)\n    input()"


def test_drafts_of_the_killed_go_and_those_of_the_living_stay(tmp_path):
    with held(DRAFTING, tmp_path / "dead") as dead, held(DRAFTING, tmp_path / "alive") as alive:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        write_text(tmp_path / "mine", "a")
        assert (tmp_path / "mine").read_text(encoding="utf-8") == "a"
        left = [path.name for path in (tmp_path / files.DRAFTS).rglob("*") if path.is_file()]
        assert sorted(left) == [files.LOCK, "alive"]
        alive.kill()
    with draft_folder(tmp_path / "other"):
        pass
    assert tree(tmp_path) == ["mine", "other"]


def test_many_processes_write_beside_each_other(tmp_path):
    script = (
        "print('ready', flush=True)\n"
        "for i in range(150):\n"
        "    write_text(place / f'{sys.argv[2]}-{i}', sys.argv[2])\n"
        "    write_text(place / 'all', sys.argv[2] * 999)"
    )
    processes = [held(script, tmp_path, number) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len(tree(tmp_path)) == 4 * 150 + 1
    assert len(set((tmp_path / "all").read_text(encoding="utf-8"))) == 1


LOCKING = "handle = lock(place, 'busy')\nprint('ready', flush=True)\nsys.stdin.read()"


def test_one_process_holds_a_folder_until_it_ends_however_it_ends(tmp_path):
    with held(LOCKING, tmp_path / "run") as process:
        with pytest.raises(RaddinoError, match="taken"):
            lock(tmp_path / "run", "taken")
        process.send_signal(signal.SIGKILL)
        process.wait()
    handle = lock(tmp_path / "run", "taken")
    with pytest.raises(RaddinoError, match="taken"):
        lock(tmp_path / "run", "taken")
    handle.close()
    lock(tmp_path / "run", "taken").close()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", none)
    with pytest.raises(RaddinoError, match="has no locks; give a folder on another"):
        lock(tmp_path, "busy")
    (left := tmp_path / files.DRAFTS / "left").mkdir(parents=True)
    write_text(tmp_path / "x", "a")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "a"
    assert left.is_dir()


def test_digests(tmp_path):
    for name, text in (("a", b"abc"), ("b", b"")):
        (tmp_path / name).write_bytes(text)
    one = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256(tmp_path / "a") == one
    assert sha256(tmp_path / "a", tmp_path / "b") == hashlib.sha256((one + empty).encode()).hexdigest()
    assert sha256(tmp_path / "a", tmp_path / "b") != sha256(tmp_path / "b", tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b'{"a": 1', "damaged"),
        (b"[]", "a list where an object should be"),
        (b"3", "a int where an object should be"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"a": "\xff"}', "not text in UTF-8"),
        (b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}", "nested too deeply"),
        (b'{"a":' * 99 + b"1" + b"}" * 99, "nested too deeply"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": 1' + b"0" * 5_000 + b"}", "damaged"),
    ],
)
def test_json_of_anyone_is_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(RaddinoError) as refused:
        read_json(tmp_path / "x.json", "run it again")
    said = str(refused.value)
    assert str(tmp_path / "x.json") in said
    assert words in said
    assert said.endswith(": run it again")
    assert "\n" not in said


def test_json_that_is_not_there_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(RaddinoError, match=r"x\.json is missing: run it again"):
        read_json(tmp_path / "x.json", "run it again")
    with pytest.raises(RaddinoError, match=r"cannot be read \(Is a directory\): run it again"):
        read_json(tmp_path, "run it again")
    (tmp_path / "x.json").write_text(json.dumps({"a": [1, {"b": 2.5}]}), encoding="utf-8")
    assert read_json(tmp_path / "x.json", "") == {"a": [1, {"b": 2.5}]}
    monkeypatch.setattr(files, "LARGEST_JSON", 4)
    with pytest.raises(RaddinoError, match="more than 0 MiB"):
        read_json(tmp_path / "x.json", "run it again")


def test_a_scratch_folder_is_gone_afterwards_and_others_that_nobody_holds_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(files, "LONGEST_ROOT", 1000)
    dead = tmp_path / f"{files.SCRATCH}abcdefgh"
    foreign = [tmp_path / name for name in (f"{files.SCRATCH}mine", f"{files.SCRATCH}unlocked", "raddino-abcdefgh")]
    for folder in (dead, *foreign):
        (folder / "deep").mkdir(parents=True)
    for folder in (dead, foreign[0], foreign[2]):
        (folder / ".lock").touch()
    with scratch_folder() as place:
        assert rights(place) == 0o700
        assert not dead.exists()
        (place / "socket").touch()
        with scratch_folder() as other:
            assert other != place
        assert (place / "socket").exists()
        assert not other.exists()
    assert sorted(tmp_path.iterdir()) == sorted(foreign)
    assert all((folder / "deep").is_dir() for folder in foreign)


@pytest.mark.parametrize("letters", [1, 49, 50, 51, 90, 200])
def test_a_socket_fits_into_a_scratch_folder(tmp_path, monkeypatch, letters):
    root = tempfile.mkdtemp(prefix="")
    root = Path(shutil.move(root, f"/tmp/{root[-8:]:x<{letters - 5}}")) if letters > 13 else Path(root)
    monkeypatch.setattr(files, "gettempdir", lambda: str(root))
    with scratch_folder() as place, socket.socket(socket.AF_UNIX) as listener:
        (place / "pymp-abcdefgh").mkdir()
        listener.bind(str(place / "pymp-abcdefgh" / "listener-abcdefgh"))
        assert place.parent == (root if letters <= 50 else Path("/tmp"))
    root.rmdir()
