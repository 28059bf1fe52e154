"""Processes beside this one: how many are worth starting here, and that none outlives the one that started it."""

import multiprocessing
import os
import shutil
import threading
from multiprocessing.connection import wait
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may run on, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(place: Path | None = None) -> None:
    """Let this process of multiprocessing end at once, without words, when the one that started it has, however.

    Args:
        place: a folder to be removed then.
    """
    threading.Thread(target=_end_with_parent, args=(place,), daemon=True).start()


def _end_with_parent(place: Path | None) -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        os._exit(1)
