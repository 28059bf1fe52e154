"""Kills, Ctrl-C, full disks and locks while the images come from archives; what is left goes on to the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from raddino.corpus.prepare import prepare
from test_files import file_limit

CLI = [sys.executable, "-m", "raddino"]
SLOW = """
import sys, time
import raddino.corpus.pack as pack
from raddino.corpus.prepare import prepare

original = pack.prepare_image
pack.prepare_image = lambda *arguments: (time.sleep(0.1), original(*arguments))[1]
prepare(sys.argv[1], sys.argv[2], workers=2)
"""


def packed(folder: Path, kind: str) -> Path:
    path = folder.parent / f"x.{kind}"
    files = sorted((folder / "png").iterdir())
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as made:
            for file in files:
                made.write(file, file.name)
    else:
        with tarfile.open(path, "w:gz") as made:
            for file in files:
                made.add(file, file.name)
    return path


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", ["zip", "tgz"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_prepare_goes_on(images, tmp_path, kind, how):
    archive, out = packed(images, kind), tmp_path / "corpus"
    whole = contents(prepare(archive, tmp_path / "whole", workers=1).path)
    command = [sys.executable, "-c", SLOW, str(archive), str(out)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("shards/*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = subprocess.run([*CLI, "prepare", str(archive), "--out", str(out)], capture_output=True, encoding="utf-8")
    assert second.stderr == f"error: another prepare is writing {out}: wait for it, or choose another --out\n"
    os.killpg(process.pid, how)
    said = process.communicate()[1].decode()
    assert "Doe" not in said
    assert not (out / "corpus.json").exists()
    assert contents(prepare(archive, out, workers=2).path) == whole


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_full_disk_is_one_line(images, tmp_path, kind, capsys):
    from raddino.errors import RaddinoError

    archive, out = packed(images, kind), tmp_path / "corpus"
    whole = contents(prepare(archive, tmp_path / "whole", workers=1).path)
    with file_limit(20_000), pytest.raises(RaddinoError, match=r"cannot (write|be written)") as error:
        prepare(archive, out, workers=1)
    assert "\n" not in str(error.value)
    assert not list(out.rglob("*.part"))
    assert contents(prepare(archive, out, workers=1).path) == whole


def test_an_archive_that_goes_while_it_is_packed(images, tmp_path, monkeypatch):
    """What was not read by then is listed; nothing ends."""
    from raddino.corpus import pack

    archive = packed(images, "zip")
    seen, original = [], pack.prepare_image

    def gone(*arguments):
        seen.append(1)
        if len(seen) == 10:
            shutil.move(archive, tmp_path / "elsewhere")
        return original(*arguments)

    monkeypatch.setattr(pack, "prepare_image", gone)
    corpus = prepare(archive, tmp_path / "corpus", workers=1)
    assert corpus.info["skipped"]["file not found"] == 71
