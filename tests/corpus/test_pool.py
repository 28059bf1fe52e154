"""Workers as processes: Ctrl-C and a killed parent leave a state that goes on, and nobody behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raddino.corpus import pool
from raddino.corpus.prepare import prepare

SCRIPT = """
import sys, time
import raddino.corpus.pack as pack
from raddino.corpus import pool
from raddino.corpus.prepare import prepare

original = pack.prepare_image

def slowly(*arguments):
    time.sleep(0.3)
    return original(*arguments)

pack.prepare_image = slowly

if __name__ == "__main__":
    prepare(sys.argv[1], sys.argv[2], workers=2)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)
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


def test_ctrl_c_while_workers_start_is_not_lost():
    with pytest.raises(KeyboardInterrupt), pool._uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
