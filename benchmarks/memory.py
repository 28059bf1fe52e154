"""The estimate of a training step's memory beside what real runs take, as a Markdown table.

    python benchmarks/memory.py [--device cpu] [--size 224] [--only ti-4-2-fp32 s-16-8-bf16-lean]

Each shape trains for three steps, each saved, in a process of its own, by ``raddino.pretrain`` on synthetic images.
On a CPU the peak is the kernel's ``VmHWM`` beyond what the process held before (Linux only), on a GPU what torch's
allocator reserved. ``tensors`` is the estimate of what is alive at once, ``needed`` what ``pretrain`` holds against the
free memory: it should be the larger one everywhere, and not by much.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import torch

from raddino.config import load_config
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.sample.generate import sample
from raddino.training.memory import Room
from raddino.training.parallel import ALONE
from raddino.training.pretrain import PretrainConfig, pretrain

WIDTHS = {"ti": (192, 3), "s": (384, 6), "b": (768, 12)}
STATUS = Path("/proc/self/status")


def main() -> None:
    """Parse options, run every shape, print a row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=224, help="pixels of a global view")
    parser.add_argument("--only", nargs="+", help="WIDTH-BATCH-LOCALVIEWS-PRECISION[-lean], not all of them")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child.split(","), options.device)))
        return
    shapes = options.only or [
        f"{width}-{batch}-{views}-{precision}{lean}"
        for width, batch, views, precision, lean in product(
            ("ti", "s"), (4, 16), (2, 8), ("fp32", "bf16"), ("", "-lean")
        )
    ]
    print("| shape | measured, MB | tensors, MB | needed, MB | needed / measured |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        sample(Path(folder) / "drawn", 48, size=options.size)
        prepare(Path(folder) / "drawn", Path(folder) / "corpus", shorter_side=options.size)
        for shape in shapes:
            child = subprocess.run(
                [sys.executable, __file__, "--device", options.device, "--child",
                 f"{folder}/corpus,{folder}/{shape},{shape},{options.size}"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
            )  # fmt: skip
            if child.returncode:
                print(f"| {shape} | failed | | | |", flush=True)
                continue
            taken, tensors, needed = json.loads(child.stdout)
            print(
                f"| {shape} | {taken / 1e6:.0f} | {tensors / 1e6:.0f} | {needed / 1e6:.0f} | {needed / taken:.2f} |",
                flush=True,
            )


def measure(arguments: list[str], device: str) -> tuple[float, float, float]:
    """Bytes that three steps, each saved, took, and the two estimates."""
    corpus, out, shape, size = arguments
    width, batch, views, precision, *lean = shape.split("-")
    dim, heads = WIDTHS[width]
    config = load_config(PretrainConfig, "small-batch", [
        "steps=3", "checkpoint_every=1", f"batch_size={batch}", f"precision={precision}",
        f"activation_checkpointing={bool(lean)}",
        f"vit.embed_dim={dim}", f"vit.num_heads={heads}", f"vit.image_size={size}", f"views.global_size={size}",
        f"views.local_views={views}", "monitor.images=16", "schedule.warmup_steps=1",
        "schedule.teacher_temperature_steps=1",
    ])  # fmt: skip
    place = torch.device(device)
    room = Room.here(place, ALONE)
    tensors, needed = room.cost(config).peak_bytes, room.needed(config)
    before = 0 if place.type == "cuda" else kilobytes("VmRSS") * 1024
    if place.type == "cpu":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    pretrain(Corpus.open(corpus), out, config, device=device, workers=1)
    taken = torch.cuda.max_memory_reserved() if place.type == "cuda" else kilobytes("VmHWM") * 1024 - before
    return taken, tensors, needed


def kilobytes(what: str) -> int:
    """A line of the kernel's on this process."""
    return int(re.findall(rf"^{what}:\s*(\d+) kB", STATUS.read_text(encoding="utf-8"), re.M)[0])


if __name__ == "__main__":
    main()
