"""Images read and preprocessed ahead of the encoder, by threads of this process or by processes of their own."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

THREADS = 4
BATCHES_AHEAD = 2


class Prepared(Dataset):
    """Position to the preprocessed image (1, C, S, S) of that row, or the error that stands in its place."""

    def __init__(self, corpus: Corpus, encoder: Encoder, rows: np.ndarray) -> None:
        self.corpus, self.encoder, self.rows = corpus, encoder, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Tensor | RaddinoError:
        try:
            return self.encoder.preprocess([self.corpus.read(int(self.rows[position]))])
        except RaddinoError as error:
            return error


def read_batches(
    corpus: Corpus, encoder: Encoder, rows: np.ndarray, batch_size: int, workers: int, pin: bool
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Batches (rows, preprocessed images) in the order of ``rows``; the same for any ``workers``.

    Args:
        workers: processes; 0 reads in threads of this process, which is enough beside a network on the CPU.
        pin: give batches out in page-locked memory, for asynchronous copies to a GPU.

    Raises:
        RaddinoError: an image that cannot be read or preprocessed.
    """
    samples = Prepared(corpus, encoder, rows)
    batches = _by_processes(samples, batch_size, workers, pin) if workers else _by_threads(samples, batch_size, pin)
    for start, batch in zip(range(0, len(rows), batch_size), batches, strict=True):
        if isinstance(batch, RaddinoError):
            raise batch
        yield rows[start : start + batch_size], batch


def _collate(images: list[Tensor | RaddinoError]) -> Tensor | RaddinoError:
    found: list[Tensor] = []
    for image in images:
        if isinstance(image, RaddinoError):
            return image
        found.append(image)
    return torch.cat(found)


def _by_processes(samples: Prepared, batch_size: int, workers: int, pin: bool) -> Iterator[Tensor | RaddinoError]:
    # forked, so that networks need not be sent; worker processes never touch them
    fork = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    loader = DataLoader(
        samples,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        multiprocessing_context=fork,
        worker_init_fn=_leave_stopping_to_the_parent,
    )
    try:
        yield from loader
    except (OSError, EOFError) as error:
        if str(error).startswith("Caught "):  # raised in a process, which lives
            raise
        raise _death() from None


@contextmanager
def deaths_told() -> Iterator[None]:
    """A killed reading process as one line: torch's handler of SIGCHLD raises wherever this thread is just then."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or str(error).startswith("Caught "):
            raise
        raise _death() from None


def _death() -> RaddinoError:
    """What to tell; torch's handler, which would raise once more, is taken off."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return RaddinoError(
        "a process that reads images died (out of memory or of shared memory, /dev/shm, or killed): run the same "
        "command again to continue, with fewer workers or with 0 for threads"
    )


def _leave_stopping_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _by_threads(samples: Prepared, batch_size: int, pin: bool) -> Iterator[Tensor | RaddinoError]:
    with ThreadPoolExecutor(THREADS) as threads:
        try:
            images = _ahead(threads, samples.__getitem__, len(samples), BATCHES_AHEAD * batch_size)
            for start in range(0, len(samples), batch_size):
                batch = _collate([next(images) for _ in range(min(batch_size, len(samples) - start))])
                yield batch.pin_memory() if pin and isinstance(batch, Tensor) else batch
        finally:
            threads.shutdown(cancel_futures=True)


def _ahead(threads: ThreadPoolExecutor, call: Callable[[int], Any], count: int, depth: int) -> Iterator[Any]:
    """``call(0), call(1), …`` in order, with at most ``depth`` of them done or under way before they are asked for."""
    waiting: deque[Future] = deque(threads.submit(call, i) for i in range(min(depth, count)))
    for following in range(len(waiting), len(waiting) + count):
        result = waiting.popleft().result()
        if following < count:
            waiting.append(threads.submit(call, following))
        yield result
        if not waiting:
            return
