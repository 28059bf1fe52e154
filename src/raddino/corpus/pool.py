"""Shards on all cores: threads that pack and count, each with its own wall to decode behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from raddino.cores import usable_cores
from raddino.corpus.pack import ShardTask, pack_shard
from raddino.images.wall import Wall
from raddino.progress import Bar

POLL_SECONDS = 0.3


class Stopped(BaseException):
    """Raised between two images when the work has been given up."""


class _Work:
    """Shards to be done, the images that are, and whether to stop; shared by the threads."""

    def __init__(self, tasks: list[ShardTask]) -> None:
        self.done = 0
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._tasks: Iterator[ShardTask] = iter(tasks)

    def run(self) -> None:
        """Pack shards until there are none."""
        with Wall() as wall:
            try:
                while (task := self._next()) is not None:
                    pack_shard(task, wall, self._advance)
            except Stopped:
                return

    def _next(self) -> ShardTask | None:
        with self._lock:
            return next(self._tasks, None)

    def _advance(self) -> None:
        with self._lock:
            self.done += 1
        if self.stop.is_set():
            raise Stopped


def pack_all(tasks: list[ShardTask], workers: int | None, bar: Bar) -> None:
    """Pack every task; on Ctrl-C or an error, whole shards stay and half ones vanish.

    Args:
        tasks: in order.
        workers: processes that decode; None for one a core.
        bar: moved on by one an image.

    Raises:
        RaddinoError: no process can be started.
        OSError: the disk is full.
    """
    work = _Work(tasks)
    workers = min(workers or usable_cores(), len(tasks))
    if not workers:
        return
    with ThreadPoolExecutor(workers) as threads:
        try:
            waiting = {threads.submit(work.run) for _ in range(workers)}
            shown = 0
            while waiting:
                ended, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
                for one in ended:
                    one.result()
                bar.advance(work.done - shown)
                shown = work.done
        finally:
            work.stop.set()
