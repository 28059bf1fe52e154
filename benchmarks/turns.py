"""Processes that measure in turn: each waits for a line on stdin, does a round of steps and answers with JSON.

Nothing but the standard library is used, so that a process in any environment can take part.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 2
"""Steps at the start of a round that are not measured: their data may have been made while another had its turn."""
PARTS = ("data", "step")


class Turns:
    """The side of a process that is measured. Its own words on stdout go to stderr from here on.

    A step has two parts: its data begins with :meth:`fetching`, the rest with :meth:`stepping`.

    Args:
        facts: what every answer tells besides the figures.
        wait: waits for the device before the time is read.
    """

    def __init__(self, facts: dict[str, Any], wait: Callable[[], None]) -> None:
        self._facts, self._wait = facts, wait
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._steps = self._left = 0
        self._seconds: dict[str, float] = {}
        self._since: tuple[float, float] | None = None

    def fetching(self) -> None:
        """A step begins. Waits for a turn where a round is done; ends the process where there is no other."""
        if self._since is not None:
            self._add("step")
            self._left -= 1
        if not self._left:
            self._answer()
            if not (line := sys.stdin.readline()):
                os._exit(0)  # what training leaves behind is of no use
            self._steps = int(line)
            self._left = self._steps + WARM_UP
            self._seconds = {name + kind: 0.0 for name in PARTS for kind in ("", "_processor")}
            self._since = time.perf_counter(), time.process_time()

    def stepping(self) -> None:
        """The step's data is there."""
        self._add("data")

    def _add(self, part: str) -> None:
        self._wait()
        now, before = (time.perf_counter(), time.process_time()), self._since
        if before is not None and self._left <= self._steps:
            self._seconds[part] += now[0] - before[0]
            self._seconds[f"{part}_processor"] += now[1] - before[1]
        self._since = now

    def _answer(self) -> None:
        """Seconds a step by the clock and of the processor, and the most memory held so far."""
        figures = {name: seconds / self._steps for name, seconds in self._seconds.items()}
        figures["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(self._facts | figures), file=self._answers, flush=True)
