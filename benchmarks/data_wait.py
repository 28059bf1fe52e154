"""Does data keep the step waiting? Images per second of ``raddino pretrain``, and its share of waiting for data.

    python benchmarks/data_wait.py [--preset cpu-smoke small-batch] [--workers 0 1] [--corpus FOLDER]
                                   [--baseline ../raddino-before] [--rounds 3] [--set KEY=VALUE ...]

Every round runs the whole command in processes of their own, once for each number of workers, with this checkout and
with the baseline's ``src``, in turn. The first ten steps are left out: the loader fills its queue before them. Figures
are medians over the rounds, each read from ``metrics.jsonl``; the processor's time is that of the command and its
workers from start to end, and tells ways apart where the machine is not idle. Without ``--corpus`` synthetic
radiographs are drawn and prepared first, to the shorter side that a preset is meant for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from raddino.config import load_config
from raddino.corpus.prepare import prepare
from raddino.sample.generate import sample
from raddino.training.pretrain import PretrainConfig

HERE = Path(__file__).resolve().parents[1]
SHORTER_SIDE = {"cpu-smoke": 96}
"""Of the corpus that a preset is meant for; 518 where it is not named."""
IMAGES = 240
RECORDED = 10
"""Steps whose rate ``metrics.jsonl`` gives as one."""


class Figures(NamedTuple):
    """Of one run: images/s and the share of the time spent waiting, warm; ms of the processor an image, in all."""

    rate: float
    waiting: float
    processor: float


def main() -> None:
    """Parse options and print a table a preset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["cpu-smoke", "small-batch"])
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--corpus", type=Path, help="train on this one")
    parser.add_argument("--baseline", type=Path, help="a checkout of another commit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="measured, a multiple of 10")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, for example batch_size=8")
    options = parser.parse_args()
    if options.steps < RECORDED or options.steps % RECORDED:
        parser.error(f"--steps must be a multiple of {RECORDED}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        for preset in options.preset:
            corpus = options.corpus or synthetic(Path(folder), SHORTER_SIDE.get(preset, 518))
            compare(preset, corpus, options)


def synthetic(folder: Path, side: int) -> Path:
    """A corpus of synthetic radiographs whose shorter side is ``side``; made once."""
    out = folder / f"corpus-{side}"
    if not out.exists():
        sample(folder / f"images-{side}", IMAGES, size=side + 64)
        prepare(folder / f"images-{side}", out, shorter_side=side)
    return out


def compare(preset: str, corpus: Path, options: argparse.Namespace) -> None:
    """Run all ways in turn and print the medians of each."""
    config = load_config(PretrainConfig, preset, [*options.set, "init=none"])
    sources = [HERE, options.baseline.resolve()] if options.baseline else [HERE]
    ways = [(source, workers) for workers in options.workers for source in sources]
    seen: dict[tuple[Path, int], list[Figures]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for source, workers in ways:
            seen[source, workers].append(run(preset, corpus, source, workers, config.batch_size, options))
    print(f"\n| {preset}, batch {config.batch_size} | images/s | waits for data | processor, ms an image |")
    print("|---|---|---|---|")
    for (source, workers), figures in seen.items():
        rates, waiting, processor = zip(*figures, strict=True)
        of = "" if source == HERE else ", baseline"
        print(
            f"| workers {workers}{of} | {statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) | "
            f"{statistics.median(waiting):.2%} | {statistics.median(processor):.2f} |"
        )


def run(preset: str, corpus: Path, source: Path, workers: int, batch: int, options: argparse.Namespace) -> Figures:
    """Train for the warm-up and the measured steps."""
    steps = 1 + RECORDED + options.steps
    settings = [*options.set, f"steps={steps}", f"checkpoint_every={steps}", f"monitor.every={steps}"]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "raddino", "pretrain", str(corpus), "--preset", preset, "--init", "none"]
        command += ["--out", f"{out}/run", "--workers", str(workers), "--device", options.device]
        command += [word for setting in [*settings, "monitor.images=16"] for word in ("--set", setting)]
        environment = os.environ | {"PYTHONPATH": str(source / "src")}
        before = os.times()
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
        if done.returncode:
            raise SystemExit(f"{source}: {done.stderr[-2000:]}")
        after = os.times()
        lines = (Path(out) / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    warm = [line for line in map(json.loads, lines) if "data_wait" in line and line["step"] > RECORDED]
    seconds = sum(batch / line["images_per_second"] for line in warm)
    waited = sum(line["data_wait"] for line in warm)
    return Figures(batch * len(warm) / seconds, waited / seconds, 1e3 * processor / (batch * steps))


if __name__ == "__main__":
    main()
