"""``prepare`` on a full disk, without rights, and beside another one: one line, nothing half-written, then the same."""

import errno
import itertools
import os
import pathlib
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raddino.corpus.dataset import Corpus
from raddino.corpus.pack import PARTIAL
from raddino.corpus.prepare import prepare, summary
from raddino.errors import RaddinoError
from raddino.files import DRAFTS, lock

CLI = [sys.executable, "-m", "raddino.cli"]


@pytest.fixture
def images(tmp_path) -> Path:
    """A manifest of 40 pictures, for three shards."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(40):
        picture = np.random.default_rng(n).integers(0, 255, (24, 20)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{n}.png")
    rows = [{"path": f"{n}.png", "patient": n // 2, "label_x": n % 2} for n in range(40)]
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


def with_reports(folder: Path) -> Path:
    table = pd.read_csv(folder / "manifest.csv")
    table.assign(report="Clear.").to_csv(folder / "manifest.csv", index=False)
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def drafts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".draft", ".part")]


def refused(images: Path, out: Path, **options) -> str:
    """The message of a ``prepare`` that must fail and leave nothing that could be taken for whole."""
    with pytest.raises(RaddinoError) as error:
        prepare(images, out, workers=1, **options)
    assert "\n" not in str(error.value)
    assert not drafts(out)
    with pytest.raises(RaddinoError):
        Corpus.open(out)
    return str(error.value)


OPERATIONS = (
    (os, "replace"), (os, "fsync"), (pathlib.Path, "rename"), (pathlib.Path, "mkdir"), (pathlib.Path, "touch"),
    (pathlib.Path, "write_text"), (pd.DataFrame, "to_parquet"),
)  # fmt: skip


@contextmanager
def before_operation(number: int, act: Callable[[], None]) -> Iterator[list[int]]:
    """Let ``act`` come before that file operation of this process; how many there were."""
    done = [0]

    def counting(original):
        def operation(*arguments, **options):
            done[0] += 1
            if done[0] == number:
                act()
            return original(*arguments, **options)

        return operation

    with pytest.MonkeyPatch.context() as patched:
        for place, name in OPERATIONS:
            patched.setattr(place, name, counting(getattr(place, name)))
        yield done


def operations_of(images: Path, out: Path) -> int:
    with before_operation(0, lambda: None) as done:
        prepare(images, out, workers=1)
    assert done[0] > 25
    return done[0]


def test_every_file_operation_may_fail(images, tmp_path):
    whole = contents(prepare(images, tmp_path / "whole", workers=1).path)
    codes = itertools.cycle([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES])

    def fail() -> None:
        code = next(codes)
        raise OSError(code, os.strerror(code))

    for n in range(1, operations_of(images, tmp_path / "counted") + 1):
        out = tmp_path / f"corpus{n}"
        with before_operation(n, fail):
            assert "cannot write" in refused(images, out)
        assert contents(prepare(images, out, workers=1).path) == whole


def test_kill_9_before_every_other_file_operation(images, tmp_path):
    whole = contents(prepare(images, tmp_path / "whole", workers=1).path)
    for n in range(1, operations_of(images, tmp_path / "counted") + 1, 2):
        out = tmp_path / f"corpus{n}"
        pid = os.fork()
        if pid == 0:
            with before_operation(n, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                prepare(images, out, workers=1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        again = prepare(images, out, workers=1)
        assert contents(again.path) == whole, n


def test_files_that_cannot_grow(images, tmp_path):
    whole = contents(prepare(images, tmp_path / "whole", workers=1).path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = sorted({len(data) - 1 for data in whole.values() if data is not None} | {0, 60, 1000})
    for size in sizes:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            assert "File too large" in refused(images, tmp_path / f"corpus{size}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert contents(prepare(images, tmp_path / f"corpus{size}", workers=1).path) == whole
    assert sizes[-1] > 20_000


@pytest.fixture
def small_disk(tmp_path):
    """Mount an empty file system of so many KiB; skip where that is not allowed."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int, more: str = "") -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k{more}", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk(images, tmp_path, small_disk, workers):
    whole = contents(prepare(images, tmp_path / "whole", workers=1).path)
    disk = small_disk(24)
    run = [*CLI, "prepare", str(images), "--out", str(disk / "corpus"), "--workers", workers]
    full = subprocess.run(run, capture_output=True, encoding="utf-8")
    assert full.returncode == 2
    said = [line for line in full.stderr.splitlines() if not line.startswith("prepare ")]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert not drafts(disk)
    small_disk(4096, ",remount")
    subprocess.run(run, check=True, capture_output=True)
    assert contents(disk / "corpus") == whole


@pytest.mark.parametrize("name", ["", PARTIAL, "shards"])
def test_a_file_in_the_place_of_a_folder(images, tmp_path, name):
    out = tmp_path / "corpus"
    if name:
        (out / PARTIAL).mkdir(parents=True)
        (out / PARTIAL).rmdir() if name == PARTIAL else None
    (out / name).write_bytes(b"mine")
    with pytest.raises(RaddinoError) as error:
        prepare(images, out, workers=1)
    assert "\n" not in str(error.value)
    assert (out / name).read_bytes() == b"mine"


def test_a_second_prepare_is_refused_while_the_first_works(images, tmp_path):
    out = tmp_path / "corpus"
    with lock(out / PARTIAL, ""):
        assert "another prepare is writing" in refused(images, out)
        assert [path.name for path in (out / PARTIAL).iterdir()] == [".lock"]
    whole = prepare(images, tmp_path / "whole", workers=1)
    assert contents(prepare(images, out, workers=1).path) == contents(whole.path)
    assert sorted(os.listdir(out)) == ["corpus.json", "manifest.parquet", "shards", "skipped.csv"]
    with lock(tmp_path / "elsewhere", ""):
        prepare(images, out, workers=1)


SLOW = """
import sys, time
import raddino.corpus.pack as pack
from raddino.corpus.prepare import prepare

original = pack.prepare_image
pack.prepare_image = lambda *arguments: (time.sleep(0.1), original(*arguments))[1]
prepare(sys.argv[1], sys.argv[2], workers=1)
"""


def test_two_processes(images, tmp_path):
    out = tmp_path / "corpus"
    first = subprocess.Popen([sys.executable, "-c", SLOW, str(images), str(out)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (out / PARTIAL / "plan").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = subprocess.run([*CLI, "prepare", str(images), "--out", str(out)], capture_output=True, encoding="utf-8")
    assert second.returncode == 2
    assert second.stderr == f"error: another prepare is writing {out}: wait for it, or choose another --out\n"
    first.communicate()
    assert first.returncode == 0
    assert contents(out) == contents(prepare(images, tmp_path / "whole", workers=1).path)


def test_what_a_killed_prepare_leaves_is_gone_on_with(images, tmp_path):
    whole = contents(prepare(images, tmp_path / "whole", workers=1).path)
    out = tmp_path / "corpus"
    (out / PARTIAL).mkdir(parents=True)
    (out / PARTIAL / ".lock").touch()
    assert contents(prepare(images, out, workers=1).path) == whole
    (out / PARTIAL / "shards").mkdir(parents=True)
    assert contents(prepare(images, out, workers=1).path) == whole
    (out / "corpus.json").unlink()
    with pytest.raises(RaddinoError, match="not empty and holds no corpus"):
        prepare(images, out, workers=1)
    assert "corpus.json" not in contents(out)


def test_drafts_of_a_killed_prepare_are_removed(images, tmp_path):
    out = tmp_path / "corpus"
    for name in (f"{DRAFTS}/1/manifest.parquet", f"{PARTIAL}/{DRAFTS}/2/plan", "shards/000001.tar.part"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"half")
    assert contents(prepare(images, out, workers=1).path) == contents(prepare(images, tmp_path / "x", workers=1).path)


@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_a_damaged_record_is_refused(images, tmp_path, monkeypatch, damage):
    out = tmp_path / "corpus"
    with monkeypatch.context() as patched:
        patched.setattr("raddino.corpus.prepare.seal", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(images, out, workers=1)
    record = out / PARTIAL / "000001.json"
    text = record.read_text(encoding="utf-8")
    at = text.index('"label_x": ') + len('"label_x": ')
    flipped = text[:at] + ("1" if text[at] == "0" else "0") + text[at + 1 :]
    record.write_text({"flip": flipped, "cut": text[:-9], "other": '{"rows": []}'}[damage], encoding="utf-8")
    assert "000001.json is damaged" in refused(images, out)


def rights(folder: Path) -> tuple[set[int], set[int]]:
    """Modes of the folders and of the files."""
    found = [folder, *folder.rglob("*")]
    modes = {kind: {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir() == kind} for kind in (1, 0)}
    return modes[1], modes[0]


@pytest.mark.parametrize(("umask", "workers"), [(0o000, 1), (0o022, 2), (0o027, 1)])
def test_a_corpus_with_reports_is_its_owners_alone(images, tmp_path, umask, workers):
    before = os.umask(umask)
    try:
        plain = prepare(images, tmp_path / "plain", workers=workers)
        assert rights(plain.path) == ({0o777 & ~umask}, {0o666 & ~umask})
        (tmp_path / "made/before").mkdir(parents=True)
        for out in ("parents/corpus", "made/before"):
            corpus = prepare(with_reports(images), tmp_path / out, workers=workers)
            assert rights(corpus.path) == ({0o700}, {0o600})
            assert "report texts: its folder is open to you alone" in summary(corpus)
        assert stat.S_IMODE((tmp_path / "parents").stat().st_mode) == 0o777 & ~umask
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert "report texts" not in summary(plain)
    assert contents(tmp_path / "parents/corpus") == contents(tmp_path / "made/before")
    corpus.path.chmod(0o755)
    assert "warning: it holds report texts, and other users may read its folder" in summary(corpus)


@pytest.mark.parametrize("column", ["report", "impression", "indication", "comparison"])
def test_every_text_of_a_report_counts(images, tmp_path, column):
    table = pd.read_csv(images / "manifest.csv")
    table.loc[3, column] = "Cough."
    table.to_csv(images / "manifest.csv", index=False)
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert rights(corpus.path) == ({0o700}, {0o600})
    assert corpus.info["texts"] == {column: 1}


def test_a_half_prepared_corpus_with_reports_is_private_too(images, tmp_path, monkeypatch):
    monkeypatch.setattr("raddino.corpus.prepare.seal", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(with_reports(images), tmp_path / "corpus", workers=2)
    assert rights(tmp_path / "corpus") == ({0o700}, {0o600})
    assert (tmp_path / "corpus" / PARTIAL / "000000.json").is_file()
