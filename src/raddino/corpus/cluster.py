"""Packing over a Ray cluster: the same function, in actors that share the corpus folder."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from raddino.cores import usable_cores
from raddino.corpus.pack import ShardTask, pack_shard
from raddino.errors import RaddinoError
from raddino.files import owner_only
from raddino.images.wall import Wall
from raddino.progress import Bar

TASKS_AT_ONCE = 64
"""Tasks an actor that wait in Ray's object store, which goes to a disk when it is full."""


FAILED = "an actor of the Ray cluster failed ({}). Whole shards stay: run the same command again to continue"


class PackActor:
    """Packs shards behind a wall of its own, and says how many images it has seen or what failed."""

    def __init__(self, key: str, private: bool) -> None:
        self.key, self.private, self.wall = key, private, Wall()

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, Any]:
        images, error, number, file = 0, "", 0, ""
        try:
            task: ShardTask = pickle.loads(block["task"][0])
            with owner_only(self.private):
                pack_shard(replace(task, key=self.key), self.wall)
            images = len(task.items)
        except RaddinoError as told:
            error = str(told)
        except OSError as told:
            error, number, file = str(told.strerror), told.errno or 0, str(told.filename or "")
        except Exception as told:  # Ray would log it, and it may tell of a file
            error = FAILED.format(type(told).__name__)
        return {"images": [images], "error": [error], "number": [number], "file": [file]}


def pack_on_cluster(tasks: list[ShardTask], workers: int | None, bar: Bar, private: bool) -> None:
    """Pack every task by Ray Data; joins the cluster of ``RAY_ADDRESS``, or starts one on this machine.

    Args:
        tasks: in order. What they hold, names of files among it, passes through Ray's object store; the key does not.
        workers: actors, each with one core; None for one a core of this machine.
        bar: moved on by each shard's images.
        private: what is written is open to its owner alone.

    Raises:
        RaddinoError: Ray is not installed, or an actor failed.
        OSError: the disk is full.
    """
    if not tasks:
        return
    try:
        import ray
    except ImportError:
        raise RaddinoError("engine ray needs Ray Data: pip install 'raddino[cluster]'") from None

    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    actors = min(workers or usable_cores(), len(tasks))
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        for start in range(0, len(tasks), TASKS_AT_ONCE * actors):
            _pack(ray, tasks[start : start + TASKS_AT_ONCE * actors], actors, bar, private)
    except ray.exceptions.RayError as error:
        raise RaddinoError(FAILED.format(type(error).__name__)) from None
    finally:
        if started:
            ray.shutdown()


def _pack(ray: Any, tasks: list[ShardTask], actors: int, bar: Bar, private: bool) -> None:
    """Some of the tasks."""
    blocks = [pd.DataFrame({"task": [pickle.dumps(replace(task, key=""), protocol=5)]}) for task in tasks]
    finished = ray.data.from_pandas(blocks).map_batches(
        PackActor,
        fn_constructor_args=(tasks[0].key, private),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(tasks))),
        num_cpus=1,
    )
    for batch in finished.iter_batches(batch_size=None):
        columns = (batch[name] for name in ("images", "error", "number", "file"))
        for images, error, number, file in zip(*columns, strict=True):
            if number:
                raise OSError(int(number), str(error), str(file) or None)
            if error:
                raise RaddinoError(str(error))
            bar.advance(int(images))
