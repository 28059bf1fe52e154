"""Each mutant in a copy of the repository, under the tests of its own file and then of its room."""

import importlib
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .mutants import Mutant

HEAVY = (
    *("numpy", "scipy.stats", "scipy.ndimage", "scipy.optimize", "pandas", "pyarrow.parquet", "torch", "torchvision"),
    *("transformers", "sklearn.linear_model", "sklearn.metrics", "skimage", "pydicom", "PIL.Image", "pydantic", "yaml"),
    *("safetensors.torch", "typer", "rich", "jinja2", "matplotlib.pyplot"),
)
NORMAL_TIMES = 5
MORE_SECONDS = 30


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: ``caught`` by its ``own`` tests or by the ``room``, or nothing: it survived."""

    mutant: Mutant
    caught: str
    seconds: float


class Bench:
    """A copy of the repository in ``place``, in which one fault at a time is put and tests are run.

    Libraries are imported once and every run is a fork of this process, which has not imported raddino. Files of
    tests that take longer than ``most_seconds`` without a fault are not run.
    """

    def __init__(
        self, repository: Path, place: Path, package: str = "src/raddino", most_seconds: float = math.inf
    ) -> None:
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(repository, place, ignore=ignored, symlinks=True)
        self.place, self.package = place.resolve(), place.resolve() / package
        self.normal: dict[str, float] = {}
        self.most_seconds = most_seconds
        self.edits = 0
        if (repository.parent / "shared").is_dir():
            os.environ.setdefault("RADDINO_SHARED", str(repository.parent / "shared"))
        for name in HEAVY:
            with suppress(ImportError):
                importlib.import_module(name)

    def judge(self, mutant: Mutant, whole_room: bool = False) -> Verdict | None:
        """The tests of the mutant's file one by one until one fails, then, if asked or it has none, its room's.

        None where no test failed and one that would have been asked is too slow.
        """
        own, room = own_and_room(mutant.file, self.place / "tests")
        asked = [("own", test) for test in own] + [("room", test) for test in room if whole_room or not own]
        quick = [(stage, test) for stage, test in asked if self._normal_seconds(test) <= self.most_seconds]
        began = time.monotonic()
        caught = next((stage for stage, test in quick if self._catches(mutant, test)), "")
        return Verdict(mutant, caught, time.monotonic() - began) if caught or quick == asked else None

    def _catches(self, mutant: Mutant, test: str) -> bool:
        limit = NORMAL_TIMES * self._normal_seconds(test) + MORE_SECONDS
        path = self.package / mutant.file
        sound, times = path.read_text(encoding="utf-8"), path.stat()
        self.edits += 1
        path.write_text(mutant.apply(sound), encoding="utf-8")
        os.utime(path, (times.st_atime, int(times.st_mtime) + self.edits))  # no stale bytecode
        try:
            return self._run(test, limit) != 0
        finally:
            path.write_text(sound, encoding="utf-8")
            os.utime(path, (times.st_atime, times.st_mtime))

    def _normal_seconds(self, test: str) -> float:
        if test not in self.normal:
            began = time.monotonic()
            status = self._run(test, min(3600, self.most_seconds))
            if status == -1 and self.most_seconds < math.inf:
                self.normal[test] = math.inf
                return math.inf
            if status not in (0, 5):
                raise SystemExit(
                    f"{test} ends with {status} without any fault:\n{(self.place / 'log').read_text(encoding='utf-8')}"
                )
            self.normal[test] = time.monotonic() - began
        return self.normal[test]

    def _run(self, test: str, limit: float) -> int:
        """pytest's exit status in a forked process; -1 for one that ran past ``limit`` seconds or died."""
        child = os.fork()
        if child == 0:
            self._test_and_exit(test)
        deadline = time.monotonic() + limit
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return -1
            time.sleep(0.02)

    def _test_and_exit(self, test: str) -> None:
        status = 99
        try:
            os.setsid()
            log = os.open(self.place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number in (1, 2):
                os.dup2(log, number)
            os.chdir(self.place)
            source = str(self.package.parent)
            os.environ["PYTHONPATH"] = source
            sys.path.insert(0, source)
            pytest = importlib.import_module("pytest")
            status = int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", test]))
        finally:
            sys.stdout.flush()
            os._exit(status)


def own_and_room(file: str, tests: Path) -> tuple[list[str], list[str]]:
    """Tests of ``a/b.py``, and the others of its room.

    Its own: ``tests/a/test_b.py``, or, where that does not exist, those in ``tests/a`` that import it. A room
    without a folder of tests is judged by that of the room above it.
    """
    path = Path(file)
    mirror = tests / path.parent / f"test_{path.stem}.py"
    folder = mirror.parent
    while not folder.is_dir():
        folder = folder.parent
    room = sorted(folder.glob("test_*.py"))
    dotted = ".".join(path.with_suffix("").parts)
    importing = [test for test in room if _imports(test.read_text(encoding="utf-8"), dotted)]
    own = [mirror] if mirror.exists() else importing
    names = [[test.relative_to(tests.parent).as_posix() for test in group] for group in (own, room)]
    return names[0], [name for name in names[1] if name not in names[0]]


def _imports(text: str, dotted: str) -> bool:
    parent, _, stem = f"raddino.{dotted}".rpartition(".")
    return f"{parent}.{stem}" in text or any(
        line.startswith(f"from {parent} import") and stem in line for line in text.splitlines()
    )


class Record:
    """Verdicts in a file of one JSON object a line, so that a run can go on and survivors be tried again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.rows = {row["name"]: row for row in map(json.loads, lines)}

    def add(self, verdict: Verdict) -> None:
        """Writes one verdict; the first one of a mutant stays beside its last."""
        one = verdict.mutant
        before = self.rows.get(one.name)
        row = {
            "name": one.name,
            "line": one.line,
            "operator": one.operator,
            "first": before["first"] if before else verdict.caught,
            "last": verdict.caught,
            "seconds": round(verdict.seconds, 1),
        }
        self.rows[one.name] = row
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def survivors(self) -> set[str]:
        """Names of mutants that nothing has caught so far."""
        return {name for name, row in self.rows.items() if not row["last"]}


def equivalents(path: Path) -> dict[str, str]:
    """Mutants that change nothing anybody could see, each with the reason: ``name | why`` a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [line.rsplit(" | ", 1) for line in lines if line.strip() and not line.startswith("#")]
    return {name.strip(): why.strip() for name, why in pairs}


def report(record: Record, same: dict[str, str]) -> Iterator[str]:
    """Markdown: the shares by room, then every mutant with its verdict."""
    rows = sorted(record.rows.values(), key=lambda row: (row["name"].split(" | ")[0], row["line"]))
    rooms: dict[str, list[dict]] = {}
    for row in rows:
        rooms.setdefault(_room(row["name"]), []).append(row)
    yield "| room | mutants | caught at first: own tests | or the room | caught in the end | equivalent | share |"
    yield "|---|---|---|---|---|---|---|"
    for room, members in [*sorted(rooms.items()), ("**all**", rows)]:
        yield _shares(room, members, same)
    for room, members in sorted(rooms.items()):
        yield f"\n### {room}\n```"
        for row in members:
            yield f"{_verdict(row, same):11} {_described(row)}"
        yield "```"


def _room(name: str) -> str:
    parts = Path(name.split(" | ")[0]).parts
    return "top level" if len(parts) == 1 else "/".join(parts[: 2 if parts[0] == "tasks" and len(parts) > 2 else 1])


def _shares(room: str, rows: Sequence[dict], same: dict[str, str]) -> str:
    equal = [row for row in rows if not row["last"] and row["name"] in same]
    caught = [row for row in rows if row["last"]]
    first = [sum(row["first"] == stage for row in rows) for stage in ("own", "room")]
    judged = len(rows) - len(equal)
    share = f"{100 * len(caught) / judged:.0f} %" if judged else "–"
    return f"| {room} | {len(rows)} | {first[0]} | {first[1]} | {len(caught)} | {len(equal)} | {share} |"


def _verdict(row: dict, same: dict[str, str]) -> str:
    if row["last"]:
        return row["last"] if row["first"] else "new test"
    return "equivalent" if row["name"] in same else "SURVIVED"


def _described(row: dict) -> str:
    file, function, change = row["name"].split(" | ", 2)
    return f"{file}:{row['line']} {function} ({row['operator']}) {change}"
