"""Shards on all cores: spawned workers that count images, stop when told, and never outlive their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

from raddino.cores import usable_cores
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
        RaddinoError: a worker process died, or the disk is full.
    """
    workers = min(workers or usable_cores(), len(tasks))
    try:
        if workers > 1:
            _pack_in_processes(tasks, workers, bar)
        else:
            for task in tasks:
                pack_shard(task, bar.advance)
    except BrokenProcessPool:
        raise RaddinoError(
            "a worker process died (out of memory, or killed); run the same command again to continue. "
            "In a script of your own, call prepare under: if __name__ == '__main__'"
        ) from None
    except OSError as error:
        raise RaddinoError(f"cannot write the corpus ({error.strerror}); run again to continue") from None


def _pack_in_processes(tasks: list[ShardTask], workers: int, bar: Bar) -> None:
    context = multiprocessing.get_context("spawn")
    count, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(workers, context, _start, (count, stop)) as pool:
        try:
            with _uninterrupted():
                waiting = {pool.submit(_work, task) for task in tasks}
            shown = 0
            while waiting:
                done, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                bar.advance(count.value - shown)
                shown = count.value
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: processes started in it never get one, and this process gets it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(count: Synchronized, stop: Event) -> None:
    """In each worker: leave Ctrl-C to the parent, which says when to stop, and end when the parent ends."""
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
