"""Whatever a decoder does to its process, the caller gets a reason and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import behind_wall as behind
from raddino.errors import RaddinoError
from raddino.images import wall as module
from raddino.images.errors import NotARadiograph, UnreadableImage
from raddino.images.wall import ENDED, KILLED, LARGE, MEMORY_GIB, Wall, seconds_for, uninterrupted


@pytest.fixture(scope="module")
def shared_wall():
    with Wall() as one:
        yield one


@pytest.fixture
def wall(shared_wall):
    """A wall that must still work after each test."""
    yield shared_wall
    assert shared_wall.call(behind.echo, "still here") == "still here"


def reason(wall: Wall, function, *args, **options) -> str:
    with pytest.raises(UnreadableImage) as error:
        wall.call(function, *args, **options)
    return error.value.reason


def ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("shape", [(1,), (3000, 2500)])
def test_results_come_back_unchanged(wall, shape):
    array = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.testing.assert_array_equal(wall.call(behind.echo, array), array)


def test_one_process_serves_many_calls(wall):
    assert wall.call(behind.process) == wall.call(behind.process) != os.getpid()


def test_its_own_errors_pass(wall):
    with pytest.raises(NotARadiograph, match="colour picture"):
        wall.call(behind.refuse)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL])
def test_a_death_is_a_reason(wall, number):
    assert reason(wall, behind.kill, number) == ENDED


@pytest.mark.parametrize(("function", "args"), [(behind.crash_in_c, ()), (behind.leave, (0,)), (behind.leave, (1,))])
def test_ends_of_other_kinds_are_too(wall, function, args):
    assert reason(wall, function, *args) == ENDED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_killed_from_outside_loses_nothing(wall, tmp_path, number):
    assert wall.call(behind.kill_once, tmp_path / "marker", number) == "read"


def test_killed_between_calls_loses_nothing(wall):
    os.kill(wall.call(behind.process), signal.SIGKILL)
    assert wall.call(behind.echo, 1) == 1


def test_killed_twice_is_said(wall):
    assert reason(wall, behind.kill, signal.SIGKILL) == KILLED


def test_endless_loops_end_by_their_processor_time(wall, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 60)
    start = time.monotonic()
    assert reason(wall, behind.loop, seconds=1) == "took more than 1 s"
    assert time.monotonic() - start < 60


def test_waiting_without_end_ends(wall, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    assert reason(wall, behind.wait, 60, seconds=1) == "took more than 1 s"


def test_waiting_for_a_slow_disk_is_no_work(wall):
    assert wall.call(behind.wait, 1.5, seconds=1) == "waited"


def test_time_grows_with_the_files(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"1")
    with large.open("wb") as file:
        file.truncate(20 << 20)
    assert seconds_for(small) == seconds_for(tmp_path / "none") < 10
    assert seconds_for(small, large) == seconds_for(small) + 20


def test_memory_is_bounded(wall):
    assert reason(wall, behind.hog, MEMORY_GIB + 1) == LARGE


def test_memory_that_earlier_files_took_does_not_count(wall, tmp_path):
    assert wall.call(behind.full_once, tmp_path / "marker") == "read"


@pytest.mark.parametrize(("function", "word"), [(behind.panic, "Panic"), (behind.leave_python, "SystemExit")])
def test_panics_are_reasons(wall, function, word):
    assert reason(wall, function) == f"unexpected {word}"


def test_an_interrupt_is_for_the_parent(wall):
    assert wall.call(behind.interrupt) == "read"


def test_what_is_printed_is_heard_and_not_shown(wall, capfd):
    said = wall.call(behind.speak, "Doe^Jane 4711")
    assert said.count(b"Doe^Jane 4711") == 4
    assert wall.call(behind.heard) == b""
    reason(wall, behind.kill, signal.SIGABRT)
    assert capfd.readouterr() == ("", "")


def test_words_of_one_file_are_not_those_of_the_next(wall):
    wall.call(behind.shout, 1)
    assert wall.call(behind.heard) == b""


def test_endless_words_do_not_block(wall):
    assert wall.call(behind.shout, 8) == "done"


def test_a_result_that_cannot_be_sent_is_a_reason(wall):
    assert reason(wall, behind.unpicklable) == "unexpected TypeError"


def test_no_words_are_heard_outside():
    assert module.printed() == b""


def test_a_closed_wall_leaves_no_process_and_starts_again():
    with Wall() as one:
        pid = one.call(behind.process)
    assert ended(pid)
    assert one.call(behind.echo, 2) == 2
    one.close()


def test_a_process_that_does_not_start_is_no_fault_of_the_file(monkeypatch):
    monkeypatch.setattr(module, "BOOT", "raise SystemExit(1)")
    with pytest.raises(RaddinoError, match="could not be started") as error, Wall() as one:
        one.call(behind.echo, 1)
    assert not isinstance(error.value, UnreadableImage)


def test_a_missing_module_is_no_fault_of_the_file(monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("tests")])
    with pytest.raises(RaddinoError, match="ModuleNotFoundError") as error, Wall() as one:
        one.call(behind.echo, 1)
    assert not isinstance(error.value, UnreadableImage)


def test_modules_of_the_working_folder_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "pydicom.py").write_text("raise SystemExit('taken from the working folder')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    with Wall() as one:
        assert one.call(behind.echo, 3) == 3
        assert "" not in one.call(behind.paths)


def test_an_interrupted_call_does_not_leave_its_answer_to_the_next(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with Wall() as one:
        one.call(behind.echo, 0)
        with monkeypatch.context() as patched:
            patched.setattr(module.Connection, "poll", interrupted)
            with pytest.raises(KeyboardInterrupt):
                one.call(behind.echo, "old")
        assert one.call(behind.echo, "new") == "new"


def test_ctrl_c_while_a_process_starts_is_not_lost():
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)


SCRIPT = """
import sys
import behind_wall as behind
from raddino.images.wall import Wall
wall = Wall()
print(wall.call(behind.process), flush=True)
wall.call(getattr(behind, sys.argv[1]), *map(float, sys.argv[2:]), seconds=4)
"""


@pytest.mark.parametrize("busy", [["wait", "100"], ["loop"]])
def test_the_process_ends_when_its_parent_is_killed(tmp_path, busy):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    parent = subprocess.Popen(
        [sys.executable, script, *busy],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    )
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.kill()
    parent.communicate()
    wait_until(lambda: ended(child), 10)


@pytest.mark.parametrize("home", ["raddino.corpus.render", "raddino.tasks.segmentation.read"])
def test_what_runs_behind_it_starts_without_torch_and_pandas(home):
    code = f"import sys, {home}; print(sorted({{'torch', 'pandas', 'pydantic', 'pyarrow'}} & set(sys.modules)))"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.stdout.strip() == b"[]"
