"""Runs of ``raddino pretrain`` that are killed at random moments end as undisturbed ones, to the bit.

``python -m tests.soak --kills 100 --minutes 60``: see docs/results/soak.md.
"""

from __future__ import annotations

import argparse
import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from safetensors.numpy import load_file

from raddino import cli
from raddino.files import DRAFTS
from raddino.training.metrics_log import read_metrics

from .training.conftest import TINY
from .training.faults import of_session
from .training.test_pretrain import CLOCK

STEPS = 24
VALUES = TINY | {
    "steps": STEPS,
    "checkpoint_every": 2,
    "keep_every": 8,
    "monitor": {"every": 5, "images": 16, "patience": 99},
}
KILLS_A_RUN = 8
OTHERS_SECONDS = 60
"""Within which ranks end whose neighbour was killed."""
LIFE_SECONDS = 300
AT_ANY_MOMENT, IN_A_CHECKPOINT = "at any moment", "once a checkpoint is begun"


@dataclass
class Findings:
    """What came of a soak.

    Attributes:
        kills: by (ranks, when, who).
        unfinished: kills that left a checkpoint, or another file, half written.
        runs: finished, by ranks.
        slowest: seconds until all processes of a killed run were gone, the longest.
        broken: what was not as it must be.
    """

    kills: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    unfinished: Counter[str] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Markdown."""
        rows = [f"| {ranks} | {when} | {who} | {n} |" for (ranks, when, who), n in sorted(self.kills.items())]
        return "\n".join(
            [
                "| processes | killed | which | times |", "|---|---|---|---|", *rows, "",
                f"{self.kills.total()} kills in {self.runs.total()} runs ({self.runs[1]} of one process, "
                f"{self.runs[2]} of two); {self.unfinished['checkpoint']} left a checkpoint half written, "
                f"{self.unfinished['other']} another file. After a kill all processes were gone in "
                f"{self.slowest:.1f} s or less. "
                f"Runs that differ from the undisturbed one, or break another rule: {len(self.broken)}.",
                *self.broken,
            ]
        )  # fmt: skip


class Soak:
    """Kills and continues runs in ``place``, each life a fork of this process, which has imported everything."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.random, self.found = place, random.Random(seed), Findings()
        self.preset = place / "preset.yaml"
        self.preset.write_text(yaml.safe_dump(VALUES), encoding="utf-8")
        make = (
            "import sys; from pathlib import Path; from raddino.sample.generate import sample\n"
            "from raddino.corpus.prepare import prepare\n"
            "place = Path(sys.argv[1]); sample(place / 'sample', 40, seed=3, size=64, workers=1)\n"
            "prepare(place / 'sample', place / 'corpus', shorter_side=48, workers=1)"
        )
        subprocess.run([sys.executable, "-c", make, str(place)], check=True, capture_output=True)
        self.whole: dict[int, Path] = {}
        self.seconds: dict[int, float] = {}
        for ranks in (1, 2):
            begun, self.whole[ranks] = time.monotonic(), place / f"whole-{ranks}"
            self._finish(self.whole[ranks], ranks)
            self.seconds[ranks] = time.monotonic() - begun

    def run(self, number: int, ranks: int, kills: int) -> None:
        """One run, killed up to ``kills`` times, then finished and compared."""
        out = self.place / f"run-{number}"
        for _ in range(kills):
            if not self._killed_life(out, ranks):
                break
        self._finish(out, ranks)
        self.found.runs[ranks] += 1
        self.found.broken += [f"{out.name} of {ranks}: other {what}" for what in differences(out, self.whole[ranks])]

    def _killed_life(self, out: Path, ranks: int) -> bool:
        """A life that is killed before its end; False where it came to its end."""
        when = self.random.choice([AT_ANY_MOMENT, IN_A_CHECKPOINT])
        victims = self.random.choice([[rank] for rank in range(ranks)] + ([list(range(ranks))] if ranks > 1 else []))
        pids = self._start(out, ranks)
        if when == AT_ANY_MOMENT:
            time.sleep(self.random.uniform(0, self.seconds[ranks]))
        else:
            for _ in range(self.random.randint(1, 4)):
                _wait_until(lambda: _begun(out) or _ended(pids))
                time.sleep(self.random.uniform(0, 0.02))
        if _ended(pids):
            self._end(out, pids)
            return False
        others = [rank for rank in range(ranks) if rank not in victims]
        for rank in victims + others:  # as torchrun ends the others of one that died
            os.kill(pids[rank], signal.SIGTERM if rank in others else signal.SIGKILL)
        statuses = self._end(out, pids)
        if any(statuses[rank] != -signal.SIGKILL for rank in victims):
            return False  # it ended by itself meanwhile
        wrong = [statuses[rank] for rank in others if statuses[rank] not in (0, 2, -signal.SIGTERM)]
        if wrong:
            self.found.broken.append(f"{out.name}: another rank ended with status {wrong}")
        self.found.kills[ranks, when, "all" if len(victims) == ranks else f"rank {victims[0]}"] += 1
        self.found.unfinished["checkpoint"] += bool(list((out / "checkpoints").glob(f"{DRAFTS}/*/new")))
        self.found.unfinished["other"] += bool(list(out.glob(f"{DRAFTS}/*")))
        return True

    def _finish(self, out: Path, ranks: int) -> None:
        pids = self._start(out, ranks)
        _wait_until(lambda: _ended(pids))
        if any(statuses := self._end(out, pids)):
            words = (self.place / f"{out.name}.log").read_text(encoding="utf-8")
            raise RuntimeError(f"{out.name} ended with status {statuses}:\n{words[-3000:]}")

    def _start(self, out: Path, ranks: int) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        argv = ["raddino", "pretrain", str(self.place / "corpus"), "--out", str(out), "--preset", str(self.preset)]
        pids = []
        for rank in range(ranks):
            pid = os.fork()
            if pid == 0:
                group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
                group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "soak"}
                _live(
                    [*argv, "--device", "cpu", "--workers", "1"],
                    {name: str(value) for name, value in group.items()} if ranks > 1 else {},
                    self.place / f"{out.name}.log",
                )
            pids.append(pid)
        return pids

    def _end(self, out: Path, pids: list[int]) -> list[int]:
        """Wait for all processes of a life; statuses by rank."""
        begun, end = time.monotonic(), time.monotonic() + OTHERS_SECONDS
        statuses: list[int] = []
        for pid in pids:
            while not _ended([pid]) and time.monotonic() < end:
                time.sleep(0.005)
            if not _ended([pid]):
                self.found.broken.append(f"{out.name}: a rank still runs {OTHERS_SECONDS} s after another was killed")
                os.kill(pid, signal.SIGKILL)
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        _wait_until(lambda: not any(map(of_session, pids)), 10)
        for left in [one for pid in pids for one in of_session(pid)]:
            self.found.broken.append(f"{out.name}: a loader process was left")
            os.kill(left, signal.SIGKILL)
        self.found.slowest = max(self.found.slowest, time.monotonic() - begun)
        return statuses


def _live(argv: list[str], group: dict[str, str], log: Path) -> None:
    """The command in this process, which ends with it."""
    status = 70
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(group)
        sys.argv = argv
        cli.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stderr.flush()
        os._exit(status)


def _begun(out: Path) -> bool:
    return any((out / "checkpoints").glob(f"{DRAFTS}/*/new/*"))


def _ended(pids: list[int]) -> bool:
    """Whether all have ended, or one has failed; they are waited for later."""
    states = [os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in pids]
    return all(states) or any(one and one.si_status for one in states)


def _wait_until(condition, seconds: float = LIFE_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)


def differences(out: Path, whole: Path) -> list[str]:
    """In what a run differs from an undisturbed one: weights, figures, names of files."""
    return [name for name, read in (("weights", _weights), ("figures", _figures), ("files", _files))
            if read(out) != read(whole)]  # fmt: skip


def _weights(out: Path) -> dict[str, tuple[str, bytes]]:
    """Every tensor of every checkpoint and encoder."""
    return {
        f"{file.relative_to(out)}: {name}": (f"{array.dtype}{array.shape}", array.tobytes())
        for file in out.rglob("*.safetensors")
        for name, array in load_file(file).items()
    }


def _figures(out: Path) -> list[dict]:
    """``metrics.jsonl`` without what a clock says."""
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(out / "metrics.jsonl")]


def _files(out: Path) -> list[str]:
    """Nothing is missing, and nothing left over."""
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))


def soak(place: Path, kills: int, minutes: float, seed: int) -> Findings:
    """At least ``kills``, half of them in runs of two processes, and until ``minutes`` have passed."""
    end = time.monotonic() + 60 * minutes
    one, number = Soak(place, seed), 0
    while (left := kills - one.found.kills.total()) > 0 or time.monotonic() < end:
        ranks = min((1, 2), key=lambda ranks: sum(n for key, n in one.found.kills.items() if key[0] == ranks))
        most = min(KILLS_A_RUN, max(kills // 2, 1), left if left > 0 else KILLS_A_RUN)
        one.run(number, ranks, one.random.randint(1, most))
        number += 1
        print(f"{one.found.kills.total()} kills, {len(one.found.broken)} broken", file=sys.stderr, flush=True)
    return one.found


def main() -> int:
    """0 when the runs ended as undisturbed ones, 1 when one did not."""
    options = argparse.ArgumentParser(prog="python -m tests.soak", description="Training killed again and again.")
    options.add_argument("--kills", type=int, default=100, help="at least so many")
    options.add_argument("--minutes", type=float, default=60, help="at least so long")
    options.add_argument("--seed", type=int, default=0, help="another one gives other moments")
    given = options.parse_args()
    place = Path(tempfile.mkdtemp())  # and no TemporaryDirectory, which forks would remove as they end
    try:
        found = soak(place, given.kills, given.minutes, given.seed)
    finally:
        shutil.rmtree(place)
    print(found.table())
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
