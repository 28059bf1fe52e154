"""Whatever fails in ``pretrain`` ends it soon, with one line and nothing left behind; then the run goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from raddino.config import validate
from raddino.errors import RaddinoError
from raddino.files import lock
from raddino.training.checkpoint import latest_step
from raddino.training.pretrain import PretrainConfig, pretrain
from training.test_pretrain import figures, same_weights

VALUES = {"steps": 4, "checkpoint_every": 2, "monitor": {"every": 3, "images": 16, "patience": 99}}
ERROR = 2
INTERRUPTED = 130
MADE_ROOM = 75
DIED = "a loader process died"
EVERYWHERE = {
    "step: bug": (ERROR, r"unforeseen ValueError in faults\.py, line \d+; RADDINO_TRACEBACK=1"),
    "sample: damaged": (ERROR, "shard x is damaged$"),
    "sample: bug": (ERROR, "unforeseen KeyError"),
    "monitor": (ERROR, "unforeseen ValueError"),
    "checkpoint: full": (ERROR, r"checkpoints/step_4 cannot be written \(File too large\): free some space"),
    "export: full": (ERROR, r"encoder cannot be written \(File too large\): free some space"),
    "metrics: full": (ERROR, r"metrics.jsonl cannot be written \(File too large\): free some space"),
    "interrupt": (INTERRUPTED, None),
    "interrupt twice": (INTERRUPTED, None),
    "terminate": (INTERRUPTED, None),
    "terminate twice": (INTERRUPTED, None),
    "make room": (MADE_ROOM, None),
    "hang up": (-signal.SIGHUP, None),
    "killed": (-signal.SIGKILL, None),
}
WITH_ONE = {
    "step: GPU memory": (ERROR, r"out of memory: take smaller batches \(pretrain: --set accumulate=2"),
    "step: memory": (ERROR, "out of memory"),
    "sample: disk": (ERROR, r"corpus .* cannot be read \(Input/output error\)"),
    "sample: memory": (ERROR, "out of memory"),
    "monitor: start": (ERROR, "shard x is damaged$"),
    "checkpoint: rights": (ERROR, r"step_4 cannot be written \(Permission denied\): get the right"),
    "export: bug": (ERROR, "unforeseen ValueError"),
    "make room twice": (MADE_ROOM, None),
    "initial: full": (ERROR, r"initial cannot be written \(File too large\)"),
    "config: full": (ERROR, r"environment.json cannot be written \(File too large\)"),
    "interrupt: start": (INTERRUPTED, None),
    "terminate: start": (-signal.SIGTERM, None),
    "hang up: start": (-signal.SIGHUP, None),
    "worker: killed": (ERROR, DIED),
}
WITH_TWO = {
    "worker: killed": (ERROR, DIED),
    "worker: fault": (ERROR, DIED),
    "worker: bus": (ERROR, DIED),
    "worker: hangs": (ERROR, "the loader gave nothing for 2 s"),
    "worker: killed in step": (ERROR, DIED),
    "worker: killed in checkpoint": (ERROR, DIED),
    "worker: killed in monitor": (ERROR, DIED),
    "worker: killed in export": (ERROR, DIED),
    "worker: cannot start": (ERROR, r"no loader process can be started \(Resource temporarily unavailable\)"),
}
CASES = [
    *((fault, workers, *came) for fault, came in EVERYWHERE.items() for workers in (0, 2)),
    *((fault, 1, *came) for fault, came in WITH_ONE.items()),
    *((fault, 2, *came) for fault, came in WITH_TWO.items()),
]


@pytest.fixture(scope="module")
def server():
    """Takes a case, gives what came of it."""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("faults.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment,
    ) as process:  # fmt: skip

        def ask(fault, argv, mark):
            process.stdin.write(json.dumps({"fault": fault, "argv": argv, "mark": str(mark)}) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def whole(corpus, tiny, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    pretrain(corpus, out, validate(PretrainConfig, tiny | VALUES), device="cpu", workers=0)
    return out


def is_free(out, seconds=2) -> bool:
    """Whether the lock is soon to be had: a process that was killed keeps its files a moment longer than its name."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(RaddinoError):
            lock(out, "held").close()
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(("fault", "workers", "status", "words"), CASES, ids=[f"{one[0]}, {one[1]}" for one in CASES])
def test_a_fault_ends_the_run_and_nothing_else(server, whole, corpus, tiny, tmp_path, fault, workers, status, words):
    out, preset = tmp_path / "run", tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump(tiny | VALUES), encoding="utf-8")
    argv = ["pretrain", str(corpus.path), "--out", str(out), "--preset", str(preset), "--device", "cpu"]
    came = server(fault, [*argv, "--workers", str(workers)], tmp_path / "mark")
    told = came["told"]
    assert came["status"] == status, told
    assert came["left"] == 0
    assert came["seconds"] < 10
    assert "Traceback" not in told
    assert "Mustermann" not in told
    errors = [line for line in told.splitlines() if line.startswith("error: ")]
    if words:
        assert len(errors) == 1
        assert told.endswith(errors[0] + "\n")
        assert re.search(words, errors[0])
    else:
        assert not errors
    assert is_free(out)
    if status not in (-signal.SIGKILL, -signal.SIGHUP):
        assert not list(out.rglob("*.draft"))
    assert (latest_step(out / "checkpoints") or 0) < 4
    pretrain(corpus, out, validate(PretrainConfig, tiny | VALUES), device="cpu", workers=0)
    assert same_weights(whole, out)
    assert figures(whole) == figures(out)
    assert not list(out.rglob("*.draft"))


@pytest.mark.parametrize("fault", ["interrupt ignored", "terminate ignored", "make room ignored"])
def test_what_is_ignored_from_the_start_stays_so(server, whole, corpus, tiny, tmp_path, fault):
    """As ``nohup`` and a shell's ``&`` in a script ask for."""
    out, preset = tmp_path / "run", tmp_path / "preset.yaml"
    preset.write_text(yaml.safe_dump(tiny | VALUES), encoding="utf-8")
    argv = ["pretrain", str(corpus.path), "--out", str(out), "--preset", str(preset), "--device", "cpu"]
    came = server(fault, [*argv, "--workers", "1"], tmp_path / "mark")
    assert came["status"] == 0, came["told"]
    assert same_weights(whole, out)
