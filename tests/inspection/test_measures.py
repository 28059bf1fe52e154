"""Measures are a function of each image alone, made once, and never taken from a damaged file."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import MappingProxyType

import numpy as np
import pytest

from raddino.corpus.dataset import Corpus
from raddino.errors import RaddinoError
from raddino.inspection import measures
from raddino.inspection.exposure import Exposure
from raddino.inspection.measures import measure, measure_images


class Counting:
    """Mean grey of each image; counts how many it was shown."""

    name, version = "counting", 1
    reasons = MappingProxyType({})

    def __init__(self):
        self.seen = 0

    def measure(self, images):
        self.seen += len(images)
        return [{"mean": float(image.mean())} for image in images]

    def judge(self, manifest, measured):
        return []


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(measures, "PART_IMAGES", 5)
    monkeypatch.setattr(measures, "BATCH", 2)


def test_rows_are_those_of_the_corpus(corpus):
    found = measure(corpus, [Counting()], workers=1)["counting"]
    assert found["mean"].tolist() == [corpus.read(row).mean() for row in range(len(corpus))]


def test_nothing_is_measured_twice_and_an_interrupted_pass_goes_on(corpus):
    measure(corpus, [Counting()], workers=1)
    again = Counting()
    first = measure(corpus, [again], workers=1)
    assert again.seen == 0
    parts = sorted((corpus.path / "inspection").rglob("*.json"))
    assert len(parts) == 3
    parts[1].unlink()
    assert measure(corpus, [again], workers=1)["counting"].equals(first["counting"])
    assert again.seen == 5


def test_another_version_and_another_check_are_measured_anew(corpus):
    measure(corpus, [Counting()], workers=1)
    newer = Counting()
    newer.version = 2
    measure(corpus, [newer, Exposure()], workers=1)
    assert newer.seen == len(corpus)


def test_processes_do_not_change_the_result(corpus):
    one = measure(corpus, [Exposure()], workers=1)
    shutil.rmtree(corpus.path / "inspection")
    two = measure(corpus, [Exposure()], workers=2)
    assert one["exposure"].equals(two["exposure"])


@pytest.mark.parametrize("harm", ["flip", "cut", "fewer"])
def test_a_damaged_part_is_refused(corpus, harm):
    measure(corpus, [Counting()], workers=1)
    part = sorted((corpus.path / "inspection").rglob("*.json"))[0]
    data = bytearray(part.read_bytes())
    if harm == "flip":
        data[data.index(b".") + 1] ^= 1
    elif harm == "cut":
        data = data[: len(data) // 2]
    else:
        data = bytearray(json.dumps({"measures": [{"mean": 1.0}]}).encode())
    part.write_bytes(data)
    with pytest.raises(RaddinoError, match="inspect again"):
        measure(corpus, [Counting()], workers=1)


def test_a_folder_that_cannot_be_written_is_one_line_or_another_is_taken(corpus, tmp_path):
    (corpus.path / "inspection").write_text("", encoding="utf-8")
    with pytest.raises(RaddinoError, match="a file stands where a folder should be"):
        measure(corpus, [Counting()], workers=1)
    first, again = Counting(), Counting()
    found = measure(corpus, [first], tmp_path / "spare", workers=1)
    assert first.seen == len(corpus)
    assert measure(corpus, [again], tmp_path / "spare", workers=1)["counting"].equals(found["counting"])
    assert again.seen == 0
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RaddinoError, match="a file stands where a folder should be"):
        measure(corpus, [Counting()], tmp_path / "file", workers=1)


def test_a_killed_process_is_one_line_and_the_rest_goes_on(corpus):
    words = (
        "import sys; from raddino.corpus.dataset import Corpus; from raddino.inspection import measures\n"
        "from tests_slow_check import Slow\n"
        "measures.PART_IMAGES = 2\n"
        "measures.measure(Corpus.open(sys.argv[1]), [Slow()], workers=2)"
    )
    slow = corpus.path.parent / "tests_slow_check.py"
    slow.write_text(
        "import os, time, pathlib\n"
        "class Slow:\n"
        "    name, version, reasons = 'slow', 1, {}\n"
        "    def measure(self, images):\n"
        f"        pathlib.Path({str(corpus.path.parent)!r}, f'{{os.getpid()}}.pid').touch(); time.sleep(60)\n",
        encoding="utf-8",
    )
    where = os.pathsep.join([str(slow.parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", words, str(corpus.path)], env={**os.environ, "PYTHONPATH": where}, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while not (pids := list(slow.parent.glob("*.pid"))) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(int(pids[0].stem), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert b"a process that inspects images died" in errors


def test_each_image_is_measured_by_itself(noise):
    together = measure_images([Exposure()], noise)["exposure"]
    assert together == [measure_images([Exposure()], [image])["exposure"][0] for image in noise]


def test_a_damaged_image_is_refused(corpus):
    shard = next((corpus.path / "shards").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    at = data.index(b"IDAT") + 30
    data[at] ^= 255
    shard.write_bytes(data)
    with pytest.raises(RaddinoError, match="damaged"):
        measure(Corpus.open(corpus.path), [Exposure()], workers=1)
    assert np.all([part.stat().st_size for part in (corpus.path / "inspection").rglob("*.json")])
