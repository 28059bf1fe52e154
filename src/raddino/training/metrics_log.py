"""``metrics.jsonl``: one line a step and one a look of the monitor, cut back exactly on resume."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends JSON lines; every line has a ``step``.

    Args:
        path: the file, made if absent.
        start: first step that will be logged; lines from there on, and a half-written last line, are dropped.
    """

    def __init__(self, path: Path, start: int) -> None:
        kept = [line for line in read_metrics(path) if line["step"] < start]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(partial, path)
        self._file = path.open("a")

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; numbers that are not finite become null."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._file.write(json.dumps(clean) + "\n")

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a metrics file, in order; a damaged one, or one cut short by a crash, ends the list."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                break
            lines.append(line)
    return lines
