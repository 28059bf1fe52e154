"""Decoding behind walls: files that kill, kills from outside, Ctrl-C and a killed parent leave a state that goes on."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from compressed_dicom import JPEG_LOSSLESS, dicom, drawn, jpeg_lossless
from raddino.corpus.prepare import prepare
from raddino.corpus.shards import ShardWriter
from raddino.errors import RaddinoError
from raddino.images import wall
from raddino.images.wall import ENDED, Wall

SCRIPT = """
import sys, time
from raddino.corpus.prepare import prepare
from raddino.images.wall import Wall

original = Wall.call

def slowly(*arguments, **options):
    time.sleep(0.3)
    return original(*arguments, **options)

Wall.call = slowly
prepare(sys.argv[1], sys.argv[2], workers=2)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("how", ["interrupt", "kill the parent"])
def test_stopped_work_goes_on(images, tmp_path, script, how):
    whole = prepare(images, tmp_path / "whole", workers=1)
    out = tmp_path / "corpus"
    process = subprocess.Popen(
        [sys.executable, str(script), str(images), str(out)], start_new_session=True, stderr=subprocess.PIPE
    )
    wait_until(lambda: list((out / "shards").glob("*.part")) if out.exists() else False)
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    process.communicate()
    wait_until(lambda: not alive(process.pid))
    assert not (out / "corpus.json").exists()
    if how == "interrupt":
        assert not list(out.rglob("*.part"))
    again = prepare(images, out, workers=1)
    assert again.fingerprint == whole.fingerprint
    assert (again.path / "shards/000000.tar").read_bytes() == (whole.path / "shards/000000.tar").read_bytes()


ABORTING = """
import os
os.abort()
"""


@pytest.fixture
def killers(images, tmp_path, monkeypatch) -> Path:
    """Three of the 40 images end the decoder that reads them."""
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder/gdcm.py").write_text(ABORTING, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "decoder")
    stream = jpeg_lossless(drawn(8, 60, 50), 8)
    for n in (0, 17, 18):
        (images / f"png/Doe_Jane_{n:02}.png").write_bytes(dicom(stream, JPEG_LOSSLESS, (60, 50), 8))
    return images


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_kills_its_decoder_is_listed_and_the_rest_goes_on(killers, tmp_path, workers, capfd):
    corpus = prepare(killers, tmp_path / "corpus", workers=workers)
    assert corpus.info["skipped"] == {ENDED: 3}
    assert len(corpus.manifest) == 37
    listed = pd.read_csv(corpus.path / "skipped.csv")
    assert listed["reason"].tolist() == [ENDED] * 3
    assert listed["hash"].nunique() == 3
    assert prepare(killers, tmp_path / "corpus", workers=1).fingerprint == corpus.fingerprint
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err
    assert "Doe" not in shown.err + shown.out


def test_an_image_whose_process_is_killed_from_outside_is_not_lost(images, tmp_path, monkeypatch):
    whole = prepare(images, tmp_path / "whole", workers=1)
    original, calls = Wall.call, []

    def killed(self, function, *args, **options):
        calls.append(1)
        if len(calls) % 10 == 0:
            os.kill(self._process.pid, signal.SIGKILL)
        return original(self, function, *args, **options)

    monkeypatch.setattr(Wall, "call", killed)
    again = prepare(images, tmp_path / "again", workers=2)
    assert again.fingerprint == whole.fingerprint
    assert not again.info["skipped"]


def test_a_process_that_cannot_start_ends_the_run_and_lists_nothing(images, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(wall, "BOOT", "raise SystemExit(1)")
        with pytest.raises(RaddinoError, match="could not be started"):
            prepare(images, tmp_path / "corpus", workers=2)
    assert len(prepare(images, tmp_path / "corpus", workers=2).manifest) == 40


def test_a_full_disk_is_one_line_and_leaves_no_half_shard(images, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(ShardWriter, "close", full)
        with pytest.raises(RaddinoError, match="No space left") as error:
            prepare(images, tmp_path / "corpus", workers=2)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "corpus").rglob("*.part"))
    assert len(prepare(images, tmp_path / "corpus", workers=2).manifest) == 40
