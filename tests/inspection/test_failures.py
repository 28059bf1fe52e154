"""``inspect`` killed, interrupted, twice at once, with damaged parts and where nothing can be written; ``prepare`` that
mends and looks for copies, killed: one line, nothing half, and then what an undisturbed run leaves."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from cloudy import picture
from corpus.test_prepare_faults import before_operation, contents
from packed_corpus import KEY, pack
from raddino import cli
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import RaddinoError
from raddino.files import lock
from raddino.inspection import CHECKS, measures
from raddino.inspection.exposure import Exposure
from raddino.inspection.measures import measure
from raddino.inspection.mend import Mending
from raddino.inspection.moves import Move
from training.faults import of_session

FEW = ("exposure", "duplicates", "intensity")
PART = 4


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(measures, "PART_IMAGES", PART)


def command(corpus: Path, checks: Sequence[str] = FEW) -> int:
    """Exit status of ``raddino inspect`` in this process."""
    chosen = [word for check in checks for word in ("--check", check)]
    before, sys.argv = sys.argv, ["raddino", "inspect", str(corpus), *chosen, "--workers", "1", "--no-drift"]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def killed(number: int, work) -> bool:
    """Whether a fork of this process was killed before that file operation of ``work``."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        with before_operation(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_kill_9_and_the_same_command_again(corpus, tmp_path, monkeypatch):
    whole = shutil.copytree(corpus.path, tmp_path / "whole" / "corpus")
    assert command(whole) == 0
    with before_operation(0, lambda: None) as operations:
        assert command(shutil.copytree(corpus.path, tmp_path / "counted" / "corpus")) == 0
    assert operations[0] > 30
    parts = {(check, at) for check in FEW for at in range(0, len(corpus), PART)}
    measured: list[tuple[str, int]] = []
    real = measures._measure_part

    def told(held, checks, part):
        measured.extend((check.name, part.start) for check in checks)
        return real(held, checks, part)

    monkeypatch.setattr(measures, "_measure_part", told)
    for number in range(1, operations[0] + 1, 6):
        place = shutil.copytree(corpus.path, tmp_path / str(number) / "corpus")
        assert killed(number, lambda at=place: command(at))
        files = (place / "inspection").rglob("0*.json")
        done = {(one.parent.name.split("-")[0], int(one.stem)) for one in files if ".draft" not in str(one)}
        measured.clear()
        assert command(place) == 0
        assert sorted(measured) == sorted(parts - done)
        assert contents(place) == contents(whole), number


SLOW = """
import os, pathlib, time
class Slow:
    name, version, reasons = "slow", 1, {}
    def measure(self, images):
        pathlib.Path(PLACE, f"{os.getpid()}.pid").touch()
        time.sleep(0.3)
        return [{"mean": float(image.mean())} for image in images]
    def judge(self, manifest, measured):
        return []
"""
RUN = """
import sys
from raddino import cli
from raddino.inspection import CHECKS, measures
from raddino.inspection.base import register
from slow_check_of_tests import Slow
measures.PART_IMAGES = 2
register(Slow())
sys.argv = ["raddino", "inspect", sys.argv[1], "--check", "slow", "--workers", "2", "--no-drift"]
cli.main()
"""


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Begins an inspection in a session of its own, in two processes that take their time; this one knows the check."""
    place = tmp_path / "slow"
    place.mkdir()
    text = SLOW.replace("PLACE", repr(str(place)))
    (place / "slow_check_of_tests.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path])}
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(measures, "PART_IMAGES", 2)
    sys.modules.pop("slow_check_of_tests", None)
    monkeypatch.setitem(CHECKS._things, "slow", importlib.import_module("slow_check_of_tests").Slow())

    def begin(corpus: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(corpus)], env=environment, start_new_session=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return begin


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_goes_on_when_the_command_has_ended_and_a_second_one_is_refused_before(
    corpus, tmp_path, slow, capsys, how
):
    whole = shutil.copytree(corpus.path, tmp_path / "whole" / "corpus")
    assert command(whole, checks=("slow",)) == 0
    process = slow(corpus.path)
    wait_until(lambda: list((corpus.path / "inspection").rglob("slow-1/*.json")))
    capsys.readouterr()
    assert command(corpus.path, checks=("slow",)) == 2
    assert capsys.readouterr().err == f"error: another inspect is measuring {corpus.path}: wait for it\n"
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.kill()
    process.wait()
    try:
        wait_until(lambda: not of_session(process.pid), 20)
    finally:
        for left in of_session(process.pid):
            os.kill(left, signal.SIGKILL)
    errors = process.stderr.read()
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in errors
    assert not (corpus.path / "inspection/inspect.csv").exists()
    done = len(list((corpus.path / "inspection").rglob("slow-1/*.json")))
    assert 0 < done < 6
    assert command(corpus.path, checks=("slow",)) == 0
    assert contents(corpus.path) == contents(whole)


def test_a_second_one_is_refused_while_the_first_measures_and_reads_what_is_there(corpus, capsys):
    folder = corpus.path / "inspection" / corpus.fingerprint
    measure(corpus, [Exposure()], workers=1)
    with lock(folder, ""):
        assert len(measure(corpus, [Exposure()], workers=1)["exposure"]) == len(corpus)
        assert command(corpus.path) == 2
        assert not (corpus.path / "inspection/inspect.csv").exists()
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last == f"error: another inspect is measuring {corpus.path}: wait for it"
    assert command(corpus.path) == 0


def test_a_damaged_part_is_one_line_that_says_what_to_delete(corpus, capsys):
    assert command(corpus.path) == 0
    before = contents(corpus.path)
    part = next((corpus.path / "inspection").rglob("exposure-*/*4.json"))
    part.write_bytes(part.read_bytes()[:-9])
    capsys.readouterr()
    assert command(corpus.path) == 2
    folder = corpus.path / "inspection" / corpus.fingerprint
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith(f"error: {part} is damaged")
    assert last.endswith(f"delete {folder} and inspect again")
    shutil.rmtree(folder)
    assert command(corpus.path) == 0
    assert contents(corpus.path) == before


def in_read_only(corpus: Path, *more: str) -> subprocess.CompletedProcess:
    """``raddino inspect`` where nobody may write into the corpus, the superuser neither."""
    asked = ["--check", "exposure", "--workers", "1", *more]
    words = [sys.executable, "-m", "raddino.cli", "inspect", str(corpus), *asked]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-dac_override", *words]
        if not shutil.which("setpriv") or subprocess.run([*words[:2], "true"], capture_output=True).returncode:
            pytest.skip("the superuser's rights cannot be dropped here")
    folders = [corpus, *(path for path in corpus.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        return subprocess.run(words, capture_output=True, encoding="utf-8")
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_a_corpus_that_cannot_be_written_is_inspected_into_another_folder(corpus, tmp_path, monkeypatch):
    monkeypatch.undo()
    refused = in_read_only(corpus.path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"error: {corpus.path}")
    assert refused.stderr.endswith("get the right to write there, or give another place\n")
    out, written = tmp_path / "out", []
    for _ in range(2):
        assert in_read_only(corpus.path, "--out", str(out)).returncode == 0
        written.append({path: path.stat().st_mtime_ns for path in out.rglob("exposure-*/*")})
    assert written[0] == written[1]
    assert len(written[0]) == 1
    assert not (corpus.path / "inspection").exists()
    measure(corpus, [Exposure()], workers=1)
    assert in_read_only(corpus.path, "--out", str(tmp_path / "other")).returncode == 0
    assert {path.name for path in (tmp_path / "other").iterdir()} == {"inspect.csv", "inspect.html", "inspection.json"}


OPTIONS = {
    "together": {"duplicates": "together"},
    "refuse": {"duplicates": "refuse"},
    "all": {"duplicates": "together", "mend": Mending(("geometry",), "blank")},
}


@pytest.fixture
def copies(tmp_path) -> Path:
    """A manifest of 40 pictures in three shards: copies under other patients, some turned, in given splits."""
    images = [picture(seed, (64, 56)) for seed in range(20)]
    turned = [np.ascontiguousarray(Move(quarters=n % 4).apply(image[2:, 1:])) for n, image in enumerate(images)]
    pack(tmp_path / "in", images + turned)
    return tmp_path / "in" / "files.csv"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_prepare_that_mends_or_looks_for_copies_is_killed_and_goes_on(copies, tmp_path, name):
    options = {"key": KEY, "workers": 1, "shorter_side": 48, "splits": (1, 0, 0), **OPTIONS[name]}
    with before_operation(0, lambda: None) as operations:
        whole = prepare(copies, tmp_path / "whole", **options)
    for number in np.linspace(5, operations[0] - 1, 3).astype(int):
        out = tmp_path / f"corpus{number}"
        assert killed(number, lambda at=out: prepare(copies, at, **options))
        assert contents(prepare(copies, out, **options).path) == contents(whole.path), number


def test_copies_that_are_refused_are_refused_again_after_a_kill(copies, tmp_path):
    options = {"key": KEY, "workers": 1, "shorter_side": 48, "duplicates": "refuse"}
    said = []
    for out in (tmp_path / "whole", tmp_path / "corpus"):
        if out.name == "corpus":
            assert killed(12, lambda at=out: prepare(copies, at, **options))
        with pytest.raises(RaddinoError, match="have a copy in another split") as refused:
            prepare(copies, out, **options)
        said.append(str(refused.value))
        with pytest.raises(RaddinoError):
            Corpus.open(out)
    assert said[0] == said[1]
    assert contents(tmp_path / "whole") == contents(tmp_path / "corpus")
