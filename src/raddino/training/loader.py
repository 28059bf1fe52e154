"""Which sample stands at which position, and batches of them: the same on any number of workers."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from raddino.cores import end_with_parent
from raddino.corpus.dataset import Corpus
from raddino.errors import RaddinoError
from raddino.files import scratch_folder
from raddino.ssl import Views
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from raddino.views.masks import batch_masks
from raddino.views.randomness import generator, integer

LOOK_SECONDS = 1.0
DYING_SECONDS = 0.1
PATIENCE_SECONDS = 300.0
"""How long loader processes may take for a micro-batch before they count as hung."""
END_SECONDS = 5.0
DIED = "a loader process died (killed, or out of memory): the same command continues; fewer --workers take less"
Sample = tuple[int, Tensor, ViewPlan, Tensor]


class Order:
    """Which row stands at which position of an endless stream of shuffled passes.

    With weights, a source of n rows takes round(weight x n) places in each pass, filled from its own endless stream
    of shuffled passes: over time each of its rows is drawn equally often.

    Args:
        rows: (N,) row numbers.
        sources: (N,) of the rows.
        weights: by source; those not named count 1. None named: every row once a pass.
        seed: of the run.
    """

    def __init__(self, rows: np.ndarray, sources: np.ndarray, weights: Mapping[str, float], seed: int) -> None:
        self.rows, self.seed, self.streams = rows, seed, []
        self.starts = np.array([0, len(rows)])
        if weights:
            names, codes = np.unique(sources.astype(str), return_inverse=True)
            parts = [rows[codes == code] for code in range(len(names))]
            places = [max(1, round(weights.get(name, 1) * len(part))) for name, part in zip(names, parts, strict=True)]
            seeds = [integer(seed, "source", code) for code in range(len(names))]
            self.starts = np.cumsum([0, *places])
            self.streams = [(part, _Passes(own, len(part))) for part, own in zip(parts, seeds, strict=True)]
        self.passes = _Passes(seed, len(self))

    def __len__(self) -> int:
        """Places in a pass."""
        return int(self.starts[-1])

    def __call__(self, position: int) -> int:
        """The row at ``position`` >= 0, a function of seed and position alone."""
        place = self.passes(position)
        if not self.streams:
            return int(self.rows[place])
        source = int(np.searchsorted(self.starts, place, side="right")) - 1
        start, stop = self.starts[source : source + 2]
        rows, passes = self.streams[source]
        return int(rows[passes(position // len(self) * int(stop - start) + place - int(start))])


class _Passes:
    """Position to index of an endless stream of shuffled passes; keeps the newest pass."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count, self.kept = seed, count, (-1, np.empty(0, dtype=np.int64))

    def __call__(self, position: int) -> int:
        number, at = divmod(position, self.count)
        if self.kept[0] != number:
            self.kept = (number, generator(self.seed, "order", number).permutation(self.count))
        return int(self.kept[1][at])


@dataclass
class Batch:
    """One rank's share of a micro-batch before its views are made.

    Attributes:
        images: (B, H, W) uint8, or float32 in [0, 1] from 16-bit images, padded at the bottom and right.
        plan: what to do with each.
        masks: (2B, N) boolean.
        targets: (B, G, 2) of the guides.
    """

    images: Tensor
    plan: ViewPlan
    masks: Tensor
    targets: Tensor = field(default_factory=lambda: torch.empty(0, 0, 2))

    def pin_memory(self) -> Batch:
        """Page-locked contents, for asynchronous copies to the GPU."""
        self.images, self.masks, self.plan = self.images.pin_memory(), self.masks.pin_memory(), self.plan.pin_memory()
        self.targets = self.targets.pin_memory()
        return self

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        """Between processes as one tensor, because each costs the receiver a connection to the sender."""
        plan = [getattr(self.plan, one.name) for one in fields(ViewPlan)]
        tensors = [self.images, self.masks, self.targets, *plan]
        shapes = [(tensor.dtype, tensor.shape) for tensor in tensors]
        by_size = sorted(range(len(tensors)), key=lambda at: -tensors[at].itemsize)  # each begins at a multiple of it
        packed = torch.cat([tensors[at].contiguous().view(-1).view(torch.uint8) for at in by_size])
        return _unpacked, (packed, shapes, by_size)


def _unpacked(packed: Tensor, shapes: list[tuple[torch.dtype, torch.Size]], by_size: list[int]) -> Batch:
    parts = packed.split([shapes[at][0].itemsize * shapes[at][1].numel() for at in by_size])
    tensors = {at: part.view(shapes[at][0]).view(shapes[at][1]) for at, part in zip(by_size, parts, strict=True)}
    images, masks, targets, *plan = (tensors[at] for at in range(len(shapes)))
    return Batch(images, ViewPlan(*plan), masks, targets)


class Samples(Dataset):
    """The stream of samples: position to (position, image, plan, targets).

    Args:
        corpus, rows: what is drawn from.
        views, seed: of the run.
        targets: (len(corpus), G, 2) of the guides; None without guides.
    """

    def __init__(
        self, corpus: Corpus, rows: np.ndarray, views: ViewsConfig, seed: int, targets: Tensor | None = None
    ) -> None:
        self.corpus, self.views, self.seed = corpus, views, seed
        self.targets = torch.empty(len(corpus), 0, 2) if targets is None else targets
        self.order = Order(rows, corpus.manifest["source"].to_numpy()[rows], corpus.weights, seed)

    def __getitem__(self, position: int) -> Sample | RaddinoError:
        """The sample, or the error that stands in its place: an exception would come with its worker's traceback."""
        row = self.order(position)
        try:
            image = self.corpus.read(row)
        except RaddinoError as error:
            return error
        except OSError as error:
            return RaddinoError(
                f"corpus {self.corpus.path} cannot be read ({error.strerror}): is its disk still there?"
            )
        pixels = torch.from_numpy(image if image.dtype == np.uint8 else (image / np.float32(65535)))
        plan = ViewPlan.draw(self.views, image.shape[0], image.shape[1], self.seed, position)
        return position, pixels, plan, self.targets[row]


class Collate:
    """Samples to a :class:`Batch`; masks are drawn for the whole micro-batch, by its number.

    Args:
        views, seed: of the run.
        size: images of a micro-batch, over all ranks.
        grid: patches of a global view.
        masked: whether any patch is.
    """

    def __init__(self, views: ViewsConfig, seed: int, size: int, grid: tuple[int, int], masked: bool) -> None:
        self.views, self.seed, self.size, self.grid, self.masked = views, seed, size, grid, masked

    def __call__(self, samples: list[Sample | RaddinoError]) -> Batch | RaddinoError:
        sound = [sample for sample in samples if not isinstance(sample, RaddinoError)]
        if len(sound) < len(samples):
            return next(sample for sample in samples if isinstance(sample, RaddinoError))
        positions, images, plans, targets = zip(*sound, strict=True)
        size = (max(i.shape[0] for i in images), max(i.shape[1] for i in images))
        padded = torch.zeros(len(images), *size, dtype=images[0].dtype)
        for target, image in zip(padded, images, strict=True):
            target[: image.shape[0], : image.shape[1]] = image
        number, start = divmod(positions[0], self.size)
        masks = np.zeros((2 * self.size, self.grid[0] * self.grid[1]), dtype=bool)
        if self.masked:
            masks = batch_masks(self.seed, number, 2 * self.size, self.grid, self.views.masks)
        own = masks.reshape(2, self.size, -1)[:, start : start + len(images)].reshape(2 * len(images), -1)
        return Batch(padded, ViewPlan.stack(list(plans)), torch.from_numpy(own), torch.stack(targets))


class Positions(Sampler):
    """One rank's consecutive share of ``size`` positions at a time, from micro-batch ``start`` to ``stop``."""

    def __init__(self, size: int, start: int, stop: int, rank: int = 0, ranks: int = 1) -> None:
        self.size, self.start, self.stop = size, start, stop
        self.rank, self.share = rank, size // ranks

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start, self.stop):
            first = batch * self.size + self.rank * self.share
            yield list(range(first, first + self.share))

    def __len__(self) -> int:
        return self.stop - self.start


Loader = DataLoader[Batch | RaddinoError]


def make_loader(samples: Samples, collate: Collate, positions: Positions, workers: int, pin: bool) -> Loader:
    """A loader of micro-batches in order; ``workers`` 0 decodes in this process. To be read by :func:`reading`."""
    return DataLoader(
        samples,
        batch_sampler=positions,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        timeout=LOOK_SECONDS if workers else 0,
    )


@contextmanager
def reading(loader: Loader) -> Iterator[Iterator[Batch]]:
    """The loader's micro-batches; its processes are gone when the block ends, however it ends.

    Raises (from the iterator):
        RaddinoError: a sample that cannot be read; a loader process that died, or gave nothing for 300 s.
    """
    before = set(multiprocessing.active_children())
    handler = signal.getsignal(signal.SIGCHLD)
    workers: set[BaseProcess] = set()
    with ExitStack() as places:
        try:
            with _uninterrupted():
                try:
                    if loader.num_workers:
                        loader.worker_init_fn = partial(_begin_worker, places.enter_context(scratch_folder()))
                    batches = iter(loader)
                except OSError as error:
                    raise RaddinoError(
                        f"no loader process can be started ({error.strerror}): fewer --workers"
                    ) from None
                finally:
                    workers = set(multiprocessing.active_children()) - before
                    _on_child_end(signal.SIG_DFL)  # torch's handler raises wherever the main thread is
            yield _watched(batches, workers)
        finally:
            with _uninterrupted():
                for worker in workers:
                    worker.kill()
                end = time.monotonic() + END_SECONDS
                for worker in workers:
                    worker.join(max(end - time.monotonic(), 0))
                _on_child_end(handler)


def _watched(batches: Iterator[Batch | RaddinoError], workers: set[BaseProcess]) -> Iterator[Batch]:
    while (batch := _next(batches, workers)) is not None:
        if isinstance(batch, RaddinoError):
            raise batch
        yield batch


def _next(batches: Iterator[Batch | RaddinoError], workers: set[BaseProcess]) -> Batch | RaddinoError | None:
    """The next micro-batch, None after the last; looks for dead processes every second."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if not all(worker.is_alive() for worker in workers):
            return RaddinoError(DIED)
        try:
            return next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:  # torch has found nothing yet, or met a process's end
            if str(error).startswith("Too many open files"):
                return RaddinoError("too many open files: take fewer --workers, or raise the limit with 'ulimit -n'")
            if wait([worker.sentinel for worker in workers], DYING_SECONDS):
                return RaddinoError(DIED)
            if not str(error).startswith("DataLoader timed out"):
                raise
    return RaddinoError(
        f"the loader gave nothing for {PATIENCE_SECONDS:g} s: is the disk of the corpus still there? "
        "The same command continues from the last checkpoint"
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for a moment: processes started in it never get one, this one gets it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _on_child_end(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def _begin_worker(place: Path, worker: int) -> None:
    """Leave stopping to the parent, end with it, and die of a fault without words of torch's on the terminal.

    The sockets by which tensors are handed over lie in ``place``: multiprocessing would put them into a folder that
    stays where a process is killed.
    """
    tempfile.tempdir = str(place)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE):
        signal.signal(number, signal.SIG_DFL)
    end_with_parent(place)


class Rendered(Iterator[Views]):
    """The views of micro-batches in order; with ``ahead`` the next ones are made on a stream of their own meanwhile.

    Copies and crops then run beside the training step. The stream first waits for all that the step has been given,
    so that the memory of views that are done with is free by then. What the next micro-batch raises comes before its
    turn.

    Args:
        batches: from :func:`reading`.
        render: makes a batch's views on the device; is called in order.
        device: where.
        ahead: whether one micro-batch is made ahead; None for wherever it runs beside the step, that is on a GPU.

    Attributes:
        waited: seconds so far that the loader had nothing ready.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        render: Callable[[Batch], Views],
        device: torch.device,
        ahead: bool | None = None,
    ) -> None:
        self.waited = 0.0
        self._batches, self._render, self._device = batches, render, device
        self._streams = torch.get_device_module(device)
        self._aside = self._streams.Stream(device)
        self._ahead = device.type == "cuda" if ahead is None else ahead
        self._next: Views | None = None

    def __next__(self) -> Views:
        if not self._ahead:
            views = self._made()
        else:
            views, self._next = self._next or self._made_aside(), None
            self._streams.current_stream(self._device).wait_stream(self._aside)
            self._next = self._made_aside()
        if views is None:
            raise StopIteration
        return views

    def _made_aside(self) -> Views | None:
        self._aside.wait_stream(self._streams.current_stream(self._device))
        with self._streams.stream(self._aside):
            return self._made()

    def _made(self) -> Views | None:
        begun = time.perf_counter()
        batch = next(self._batches, None)
        self.waited += time.perf_counter() - begun
        return None if batch is None else self._render(batch)


def make_views(
    batch: Batch, multicrop: Multicrop, device: torch.device, gram_size: int | None = None, rows: int | None = None
) -> Views:
    """Render a batch's views on the device, the global ones for a Gram teacher too if they have a size of their own.

    ``rows`` as for :meth:`raddino.ssl.Views.build`.
    """
    images = batch.images.to(device, non_blocking=True)
    global_crops, local_crops = multicrop(images, batch.plan)
    gram_crops = multicrop.undistorted(images, batch.plan, gram_size) if gram_size else None
    targets = batch.targets.to(device, non_blocking=True)
    return Views.build(global_crops, local_crops, batch.masks, gram_crops, rows, targets)
