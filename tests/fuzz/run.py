"""Damaged files through the production path, and a table of what became of them."""

from __future__ import annotations

import math
import multiprocessing
import re
import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from raddino.cores import usable_cores
from raddino.progress import Bar, bar

from .mutate import mutate
from .seeds import Seed, image_seeds, manifest_seeds, mask_seeds, picture, saved
from .subject import SOUND, Outcome, serve

IMAGES = ("dicom", "raster")
HEADER = "DICOM header"
LIMIT_S, IDLE_S, START_S, POLL_S = 10.0, 120.0, 120.0, 0.05
LARGEST_MEMORY = 7 * 2**30  # 6 GiB behind the wall, 1 GiB before it
BATCH = 32
BAR = re.compile(r"[\w ]+ \d+/\d+ ")
ALIKE = 0.95
MUSTS = ("ended", "hang", "traceback", "printed", "memory", "others lost")
"""What must never happen: a process of ours ends, a file takes more than 10 s
of processor time or two minutes, an exception that is not ours, text on
the terminal, more memory than the bound, a sound file that is not read because it stands beside a damaged one."""


@dataclass(frozen=True)
class Trial:
    """One damaged file; ``number`` makes it again."""

    number: int
    seed: Seed
    data: bytes = field(repr=False)

    @property
    def row(self) -> str:
        """Of the table: the format, or the header of DICOM where the pixel data stands there whole."""
        return HEADER if self.seed.stream and self.seed.stream in self.data else self.seed.format

    @property
    def redundant(self) -> bool:
        """Whether damage of this kind can be noticed at all."""
        return self.seed.redundant and self.row != HEADER


@dataclass
class Answer:
    """What a subject said of a batch; ``broken`` names the must that it broke, if any."""

    outcomes: list[Outcome]
    broken: str = ""
    words: str = ""


@dataclass
class Tally:
    """Counts of one row: ``tried, read, refused, noted, wrong, silent, shape`` and each of :data:`MUSTS`."""

    counts: Counter[str] = field(default_factory=Counter)
    redundant: bool = False

    @property
    def silent_share(self) -> float:
        """Of the files whose damage mattered (refused, noted, grossly wrong), those wrong without a word."""
        mattered = self.counts["refused"] + self.counts["noted"] + self.counts["silent"]
        return self.counts["silent"] / mattered if mattered else 0.0


@dataclass
class Findings:
    """What a run found."""

    rows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    broken: list[tuple[str, list[Trial], str]] = field(default_factory=list)
    silent: list[Trial] = field(default_factory=list)
    peak: int = 0

    def total(self, name: str) -> int:
        """Of one count, over all rows."""
        return sum(tally.counts[name] for tally in self.rows.values())

    @property
    def sound(self) -> bool:
        """Whether every must held."""
        return not self.broken


def all_seeds() -> list[Seed]:
    """Sound files of every kind."""
    from .archives import archive_seeds
    from .folders import folder_seeds

    return [*image_seeds(), *mask_seeds(), *manifest_seeds(), *archive_seeds(), *folder_seeds()]


def make_trials(seeds: Sequence[Seed], numbers: Sequence[int]) -> Iterator[Trial]:
    """A damaged file for each number, the seeds taken in turn."""
    for number in numbers:
        seed = seeds[number % len(seeds)]
        other = seeds[number * 7919 % len(seeds)]
        yield Trial(number, seed, mutate(seed.data, number, seed.name, other.data))


def fuzz(trials: Sequence[Trial], workers: int | None = None, plant: str | None = None) -> Findings:
    """Try every file; see :data:`MUSTS` for what is looked for.

    Args:
        trials: damaged files.
        workers: processes in which they are tried; None for one a core.
        plant: ``module:function`` to be called first in those processes.
    """
    findings = Findings()
    batches = iter(list(_batches(trials)))
    turn = threading.Lock()

    def work(shown: Bar) -> None:
        with Subject(plant) as subject:
            while True:
                with turn:
                    batch = next(batches, None)
                if batch is None:
                    return
                for part, answer in _try(subject, batch):
                    with turn:
                        _count(findings, part, answer)
                        findings.peak = max(findings.peak, subject.peak)
                        shown.advance(len(part) if answer.outcomes or len(part) == 1 else 0)

    with bar("fuzz", total=len(trials)) as shown, ThreadPoolExecutor(workers or usable_cores()) as pool:
        for done in [pool.submit(work, shown) for _ in range(workers or usable_cores())]:
            done.result()
    return findings


def check_seeds(seeds: Sequence[Seed]) -> list[str]:
    """Which seeds are not read, or not as what they show, when nothing is wrong with them."""
    said = []
    with Subject() as subject:
        for batch in _batches([Trial(number, seed, seed.data) for number, seed in enumerate(seeds)]):
            for trials, answer in _try(subject, batch):
                lost = [Outcome("traceback", answer.broken)] * len(trials)
                for trial, outcome in zip(trials, answer.outcomes or lost, strict=True):
                    words = answer.broken or outcome.words or outcome.notes or outcome.status.removeprefix("read")
                    if not words and trial.seed.pixels is not None and (likeness(trial, outcome) or 0) < 0.99:
                        words = "another picture"
                    if words:
                        said.append(f"{trial.seed.format} ({trial.seed.name}): {words}")
    return said


def likeness(trial: Trial, outcome: Outcome) -> float | None:
    """Pearson's r between what was seen and what the sound file shows; None where their shapes differ."""
    true, seen = trial.seed.pixels, outcome.seen[0]
    if true is None or seen.shape != true.shape:
        return None
    if np.ptp(seen) == 0:
        return 1.0 if np.ptp(true) == 0 else 0.0
    return float(np.corrcoef(seen.ravel(), true.ravel().astype(float))[0, 1])


class Subject:
    """A process that tries files, watched: how long it takes, how much memory it and its children hold, what it prints.

    Attributes:
        peak: most memory so far, bytes.
    """

    def __init__(self, plant: str | None = None) -> None:
        self.plant, self.peak = plant, 0
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Subject:
        self._place = Path(tempfile.mkdtemp(prefix="fuzz"))
        self._log = self._place / "log"
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        shutil.rmtree(self._place, ignore_errors=True)

    def ask(self, trials: Sequence[Trial]) -> Answer:
        """What becomes of ``trials``, which are images, or one of anything."""
        folder = self._place / "files"
        shutil.rmtree(folder, ignore_errors=True)
        names = [_write(folder, trial, at) for at, trial in enumerate(trials)]
        (folder / SOUND).write_bytes(saved(picture(8), "PNG"))
        job = "images" if trials[0].seed.kind in IMAGES else trials[0].seed.kind
        if self._process is None:
            self._start()
        self._log.write_bytes(b"")
        start = self._seconds()
        self._connection.send((job, str(folder), names))
        broken, outcomes = self._wait(IDLE_S, start + LIMIT_S)
        words = self._printed()
        if broken:
            self._end()
            return Answer([], broken, words)
        if (used := self._seconds() - start) > LIMIT_S:
            return Answer(outcomes, "hang", f"{used:.0f} s")
        for outcome in outcomes:
            if outcome.status == "traceback":
                return Answer(outcomes, "traceback", outcome.words)
        if words:
            return Answer(outcomes, "printed", words)
        if job == "images" and outcomes.pop().status != "read":
            return Answer(outcomes, "others lost", outcomes[0].words)
        return Answer(outcomes)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, str(self._log), self.plant))
        self._process.start()
        theirs.close()
        broken, _ = self._wait(START_S)
        if broken:
            raise RuntimeError(f"the process that tries files does not start: {self._log.read_text(encoding='utf-8')}")

    def _wait(self, patience: float, most: float = math.inf) -> tuple[str, list[Outcome]]:
        """The must that was broken while waiting, and the answer; ``most`` is of :meth:`_seconds`."""
        until = time.monotonic() + patience
        while time.monotonic() < until and self._seconds() < most:
            try:
                if self._connection.poll(POLL_S):
                    return "", self._connection.recv()
            except (EOFError, ConnectionError):
                return "ended", []
            self.peak = max(self.peak, held := self._memory())
            if held > LARGEST_MEMORY:
                return "memory", []
        return "hang", []

    def _seconds(self) -> float:
        """Of processor time, children's included: a busy machine makes nothing slower."""
        used = 0.0
        for process in self._tree():
            try:
                used += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
        return used

    def _memory(self) -> int:
        held = 0
        for process in self._tree():
            try:
                held += process.memory_info().rss
            except psutil.Error:
                continue
        return held

    def _tree(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self._process.pid)
            return [*own.children(recursive=True), own]
        except psutil.Error:
            return []

    def _printed(self) -> str:
        """What stands on the terminal beside the progress bar."""
        lines = self._log.read_text(errors="replace", encoding="utf-8").splitlines()
        return "\n".join(line for line in lines if line.strip() and not BAR.match(line))

    def _end(self) -> None:
        if self._process is not None:
            tree = self._tree()
            self._process.kill()
            for child in tree:
                try:
                    child.kill()
                except psutil.Error:
                    continue
            self._process.join()
            self._connection.close()
            self._process = None


def _batches(trials: Sequence[Trial]) -> Iterator[list[Trial]]:
    together = [trial for trial in trials if trial.seed.kind in IMAGES]
    yield from (together[start : start + BATCH] for start in range(0, len(together), BATCH))
    yield from ([trial] for trial in trials if trial.seed.kind not in IMAGES)


def _try(subject: Subject, trials: list[Trial]) -> Iterator[tuple[list[Trial], Answer]]:
    """Answers that tell of each file; a batch that broke a must is halved until the file is found that did it."""
    answer = subject.ask(trials)
    if not answer.broken or len(trials) == 1:
        yield trials, answer
        return
    found = False
    for half in (trials[: len(trials) // 2], trials[len(trials) // 2 :]):
        for part, of_part in _try(subject, half):
            found = found or bool(of_part.broken)
            yield part, of_part
    if not found and answer.broken != "hang":
        yield trials, Answer([], answer.broken, answer.words)


def _write(folder: Path, trial: Trial, at: int) -> str:
    """Put a damaged file, and what stands beside it, into ``folder``; returns its name."""
    images = trial.seed.kind in IMAGES
    name = f"{at}{Path(trial.seed.name).suffix}" if images else trial.seed.name
    for file, data in {**trial.seed.beside, name: trial.data}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)
    return name


def _count(findings: Findings, trials: list[Trial], answer: Answer) -> None:
    if answer.broken:
        findings.broken.append((answer.broken, trials, answer.words))
        findings.rows[trials[0].row].counts[answer.broken] += 1
    for trial, outcome in zip(trials, answer.outcomes or [None] * (len(trials) == 1), strict=False):
        tally = findings.rows[trial.row]
        tally.redundant = trial.redundant
        tally.counts["tried"] += 1
        if outcome is None or outcome.status == "traceback":
            continue
        tally.counts[outcome.status] += 1
        if outcome.status != "read":
            continue
        tally.counts["noted"] += bool(outcome.notes)
        if trial.seed.pixels is not None:
            r = likeness(trial, outcome)
            tally.counts["shape"] += r is None
            wrong = r is not None and r < ALIKE
        else:
            wrong = bool(trial.seed.gives) and not _as_recorded(trial, outcome)
        tally.counts["wrong"] += wrong
        if wrong and not outcome.notes:
            tally.counts["silent"] += 1
            findings.silent.append(trial)


def _as_recorded(trial: Trial, outcome: Outcome) -> bool:
    """Whether a folder gave what it gave before the damage."""
    before, after = trial.seed.gives, outcome.seen
    return len(before) == len(after) and all(map(_equal, before, after))


def _equal(a: np.ndarray, b: np.ndarray | None) -> bool:
    return b is not None and (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def table(findings: Findings) -> str:
    """Rows by format."""
    head = ("tried", "read", "refused", "noted", "wrong", "silent", "share")
    lines = [f"{'':38}" + "".join(f"{word:>9}" for word in head) + "  broken musts"]
    for name, tally in sorted(findings.rows.items()):
        counts = tally.counts
        share = f"{tally.silent_share:9.1%}" if tally.redundant else f"{'no red.':>9}"
        broken = ", ".join(f"{must} {counts[must]}" for must in MUSTS if counts[must])
        lines.append(f"{name:38}" + "".join(f"{counts[word]:9}" for word in head[:-1]) + share + f"  {broken}")
    musts = ", ".join(f"{must} {findings.total(must)}" for must in MUSTS)
    lines += ["", f"{musts}; most memory {findings.peak / 2**20:.0f} MiB"]
    return "\n".join(lines)
