"""Speed of ``raddino sample``: images/s with all masks written, beside the cost of writing the files alone.

Run ``python benchmarks/sample.py [--sizes 518 128] [-n 64] [--workers 2]``. The peer is Pillow: the same
pictures and masks, drawn already, written by as many processes with its default PNG settings. The processes'
start is left out of both.
"""

import argparse
import multiprocessing
import multiprocessing.pool
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from raddino.sample.generate import STRUCTURES, make_image, workers_heap


def draw(job: tuple[str, int, int]) -> float:
    """Draw and write image ``index`` of ``size`` pixels as ``sample`` does; processor seconds."""
    folder, index, size = job
    start = time.process_time()
    make_image((folder, index, 0, size, "png"))
    return time.process_time() - start


def rewrite(job: tuple[str, int, int]) -> float:
    """Read the same image and its structures' masks, and write them by ``Image.save``; seconds."""
    folder, index, _ = job
    start = time.process_time()
    masks = [f"masks/{index:06d}_{name}.png" for name in STRUCTURES]
    for path in (Path(folder) / name for name in (f"images/{index:06d}.png", *masks)):
        if path.exists():
            Image.fromarray(np.asarray(Image.open(path))).save(path.with_suffix(".peer.png"))
    return time.process_time() - start


def rate(pool: multiprocessing.pool.Pool, work: Callable, jobs: list) -> tuple[float, float]:
    """Jobs per second of wall clock, and per second of one processor."""
    start = time.perf_counter()
    busy = sum(pool.map(work, jobs, chunksize=4))
    return len(jobs) / (time.perf_counter() - start), len(jobs) / busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[518, 128])
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with workers_heap():
        pool = multiprocessing.get_context("spawn").Pool(options.workers)
    with pool, tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            root = Path(folder) / str(size)
            for part in ("images", "masks"):
                (root / part).mkdir(parents=True)
            jobs = [(str(root), index, size) for index in range(options.n + 8)]
            pool.map(draw, jobs[options.n :])
            ours, peer = rate(pool, draw, jobs[: options.n]), rate(pool, rewrite, jobs[: options.n])
            print(
                f"{size:5d} px, {options.workers} workers: {ours[0]:6.1f} images/s drawn and written "
                f"({ours[1]:.1f} per processor second); Pillow rewrites them at {peer[0]:6.1f}/s "
                f"({peer[1]:.1f}); ratio {ours[1] / peer[1]:.2f}"
            )


if __name__ == "__main__":
    main()
