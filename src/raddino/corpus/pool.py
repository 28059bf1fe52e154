"""Shards on all cores: spawned workers that count images, stop when told, and never outlive their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

from raddino.corpus.pack import ShardTask, pack_shard
from raddino.errors import RaddinoError
from raddino.progress import Bar

POLL_SECONDS = 0.3
_count: Synchronized
_stop: Event


class Stopped(BaseException):
    """Raised inside a worker between two images when the parent has given up."""


def pack_all(tasks: list[ShardTask], workers: int | None, bar: Bar) -> None:
    """Pack every task; on Ctrl-C or an error, whole shards stay and half ones vanish.

    Args:
        tasks: in order.
        workers: processes; None for one a core. One works in this process.
        bar: moved on by one an image.

    Raises:
        RaddinoError: a worker process died.
    """
    workers = min(workers or cores(), len(tasks))
    if workers <= 1:
        for task in tasks:
            pack_shard(task, bar.advance)
        return
    context = multiprocessing.get_context("spawn")
    count, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(workers, context, _start, (count, stop)) as pool:
        try:
            waiting = {pool.submit(_work, task) for task in tasks}
            shown = 0
            while waiting:
                done, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                bar.advance(count.value - shown)
                shown = count.value
        except BrokenProcessPool:
            raise RaddinoError(
                "a worker process died (out of memory, or killed); run the same command again and it continues. "
                "In a script of your own, call prepare under: if __name__ == '__main__'"
            ) from None
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(count: Synchronized, stop: Event) -> None:
    """In each worker: leave Ctrl-C to the parent, and end when the parent ends."""
    global _count, _stop
    _count, _stop = count, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _work(task: ShardTask) -> None:
    with contextlib.suppress(Stopped):
        pack_shard(task, _advance)


def _advance() -> None:
    with _count.get_lock():
        _count.value += 1
    if _stop.is_set():
        raise Stopped
