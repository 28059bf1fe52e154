"""Processes beside this one: how many are worth starting here, and that none outlives the one that started it."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may run on, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started meanwhile leave Ctrl-C to this one, from their first breath; from the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


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
