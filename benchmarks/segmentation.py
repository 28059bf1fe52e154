"""Time to a validation Dice of lungs: patch features computed once and cached, against images encoded for every batch.

    python benchmarks/segmentation.py [--encoder raddino-tiny --train 160 --val 40 --dice 0.86 --head linear]

Synthetic radiographs are drawn and packed first, in a folder of their own that is removed. Then both ways train the
same head from the same weights on the same batches, one after the other in this process, each until its validation
Dice reaches --dice or --steps are done. The time of the cached way includes embedding every image; both include
validation every --every steps. The features differ by half precision only. Goal: 5 times or more.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from raddino.config import validate
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.encoders.load import load_encoder
from raddino.features.extract import embed
from raddino.sample.generate import sample
from raddino.tasks.segmentation.feeds import FeatureFeed, PictureFeed, read_squares
from raddino.tasks.segmentation.network import build_network
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.targets import Targets
from raddino.tasks.segmentation.train import Progress, train


class Reached(Exception):
    """Validation Dice is high enough."""


def main() -> None:
    """Parse options, draw the images, time both ways, print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="raddino-tiny")
    parser.add_argument("--train", type=int, default=160, help="images")
    parser.add_argument("--val", type=int, default=40, help="images")
    parser.add_argument("--size", type=int, default=160, help="pixels on a side")
    parser.add_argument("--head", default="linear")
    parser.add_argument("--dice", type=float, default=0.86, help="validation Dice to reach")
    parser.add_argument("--steps", type=int, default=600, help="at most")
    parser.add_argument("--every", type=int, default=25, help="steps between validations")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    plan = {"classes": {"lungs": 255}, "head": given.head, "steps": given.steps, "evaluate_every": given.every}
    options = validate(SegmentationConfig, plan | {"patience": given.steps, "lr": 5e-3, "warmup": 20})
    encoder = load_encoder(given.encoder, given.device)
    device = torch.device(getattr(encoder, "device", "cpu"))
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; {given.encoder}, {given.head} head, {given.train} + {given.val} images")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        corpus = draw(folder, given.train + given.val, given.size)
        rows = np.split(np.arange(given.train + given.val), [given.train])
        cached = timed(folder / "cached", corpus, encoder, options, rows, given.dice, device, cache=True)
        anew = timed(folder / "anew", corpus, encoder, options, rows, given.dice, device, cache=False)
    print(f"{'way':<8} {'seconds':>8} {'steps':>6} {'validation Dice':>16}")
    for way, (seconds, progress) in (("cached", cached), ("anew", anew)):
        reached = "" if progress.best >= given.dice else "  (not reached)"
        print(f"{way:<8} {seconds:8.1f} {progress.step:6} {progress.best:16.4f}{reached}")
    print(f"ratio: {anew[0] / cached[0]:.1f}x")


def draw(folder: Path, images: int, size: int) -> Corpus:
    """A packed corpus of synthetic radiographs."""
    sample(folder / "images", images, size=size)
    return prepare(folder / "images", folder / "corpus", shorter_side=size)


def timed(folder, corpus, encoder, options, rows, dice, device, *, cache: bool) -> tuple[float, Progress]:
    """Seconds until the Dice is reached, and how far training was then."""
    network = build_network(encoder, options, seed=0)
    targets = Targets(corpus, "lungs", options)
    bits = [read_squares(targets, one, network.side, network.margin) for one in rows]
    last = Progress()

    def watch(progress: Progress) -> None:
        nonlocal last
        last = progress
        if progress.best >= dice:
            raise Reached

    begun = time.perf_counter()
    if cache:
        all_rows = np.concatenate(rows)
        found = embed(corpus, network.encoder, rows=all_rows, patches=True, cache=folder / "features").patches
        places = np.split(np.arange(len(all_rows)), [len(rows[0])])
        feeds = [FeatureFeed(found.take(at), one) for at, one in zip(places, bits, strict=True)]
    else:
        feeds = [PictureFeed(corpus, at, one, network) for at, one in zip(rows, bits, strict=True)]
    with contextlib.suppress(Reached):
        last = train(network, *feeds, options, folder=folder, key="benchmark", device=device, notify=watch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun, last


if __name__ == "__main__":
    main()
