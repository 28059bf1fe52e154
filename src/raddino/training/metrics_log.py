"""``metrics.jsonl``: one line a step and one a look of the monitor, cut back exactly on resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from raddino.files import write_text, writing
from raddino.training.trackers import Tracking

LONGEST_LINE = 2**24


class MetricsLog:
    """Appends JSON lines; every line has a ``step``.

    Args:
        path: the file, made if absent.
        start: first step that will be logged; lines from there on, and a half-written last line, are dropped.
        tracking: is handed every line too.
    """

    def __init__(self, path: Path, start: int, tracking: Tracking | None = None) -> None:
        kept = [line for line in read_metrics(path) if line["step"] < start]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._path, self._held, self._tracking = path, b"", tracking
        self._file = path.open("ab", buffering=0)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; numbers that are not finite become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._held += json.dumps(clean).encode() + b"\n"
        if self._tracking:
            self._tracking.put(clean)

    def flush(self) -> None:
        """Hand what was written to the operating system.

        Raises:
            UnwritableError: it does not take it.
        """
        with writing(self._path):
            while self._held:
                self._held = self._held[self._file.write(self._held) :]

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()


class NoLog(MetricsLog):
    """Of the ranks behind the first: takes everything, writes nothing."""

    def __init__(self) -> None:
        pass

    def write(self, line: dict[str, Any]) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file, in order; a damaged one, or one cut short by a crash, ends the list."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        with path.open("rb") as file:
            while text := file.readline(LONGEST_LINE):
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    break
                if not isinstance(line, dict) or type(line.get("step")) is not int:
                    break
                lines.append(line)
    return lines
