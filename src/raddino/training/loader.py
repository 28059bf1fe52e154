"""Which sample stands at which position, and batches of them: the same on any number of workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from raddino.corpus.dataset import Corpus
from raddino.ssl import Views
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from raddino.views.masks import batch_masks
from raddino.views.randomness import generator, integer


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
    """One micro-batch before its views are made.

    Attributes:
        images: (B, H, W) uint8, or float32 in [0, 1] from 16-bit images, padded at the bottom and right.
        plan: what to do with each.
        masks: (2B, N) boolean.
        rows: (B,) int64 row numbers of the corpus.
    """

    images: Tensor
    plan: ViewPlan
    masks: Tensor
    rows: Tensor

    def pin_memory(self) -> Batch:
        """Page-locked contents, for asynchronous copies to the GPU."""
        self.images, self.masks, self.plan = self.images.pin_memory(), self.masks.pin_memory(), self.plan.pin_memory()
        return self


class Samples(Dataset):
    """The stream of samples: position to (image, plan, row)."""

    def __init__(self, corpus: Corpus, rows: np.ndarray, views: ViewsConfig, seed: int) -> None:
        self.corpus, self.views, self.seed = corpus, views, seed
        self.order = Order(rows, corpus.manifest["source"].to_numpy()[rows], corpus.weights, seed)

    def __getitem__(self, position: int) -> tuple[int, Tensor, ViewPlan, int]:
        row = self.order(position)
        image = self.corpus.read(row)
        pixels = torch.from_numpy(image if image.dtype == np.uint8 else (image / np.float32(65535)))
        return position, pixels, ViewPlan.draw(self.views, image.shape[0], image.shape[1], self.seed, position), row


class Collate:
    """Samples to a :class:`Batch`; masks are drawn by the number of the micro-batch."""

    def __init__(self, views: ViewsConfig, seed: int, grid: tuple[int, int], masked: bool) -> None:
        self.views, self.seed, self.grid, self.masked = views, seed, grid, masked

    def __call__(self, samples: list[tuple[int, Tensor, ViewPlan, int]]) -> Batch:
        positions, images, plans, rows = zip(*samples, strict=True)
        size = (max(i.shape[0] for i in images), max(i.shape[1] for i in images))
        padded = torch.zeros(len(images), *size, dtype=images[0].dtype)
        for target, image in zip(padded, images, strict=True):
            target[: image.shape[0], : image.shape[1]] = image
        count = 2 * len(images)
        masks = np.zeros((count, self.grid[0] * self.grid[1]), dtype=bool)
        if self.masked:
            masks = batch_masks(self.seed, positions[0] // len(images), count, self.grid, self.views.masks)
        return Batch(padded, ViewPlan.stack(list(plans)), torch.from_numpy(masks), torch.tensor(rows))


class Positions(Sampler):
    """Consecutive positions, ``size`` at a time, from micro-batch ``start`` to ``stop``."""

    def __init__(self, size: int, start: int, stop: int) -> None:
        self.size, self.start, self.stop = size, start, stop

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start, self.stop):
            yield list(range(batch * self.size, (batch + 1) * self.size))

    def __len__(self) -> int:
        return self.stop - self.start


def make_loader(samples: Samples, collate: Collate, positions: Positions, workers: int, pin: bool) -> DataLoader[Batch]:
    """A loader of micro-batches in order; ``workers`` 0 decodes in this process."""
    return DataLoader(
        samples,
        batch_sampler=positions,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_stopping_to_the_loop,
    )


def _leave_stopping_to_the_loop(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def make_views(batch: Batch, multicrop: Multicrop, device: torch.device) -> Views:
    """Render a batch's views on the device."""
    images = batch.images.to(device, non_blocking=True)
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    global_crops, local_crops = multicrop(images, batch.plan)
    return Views.build(global_crops, local_crops, batch.masks)
