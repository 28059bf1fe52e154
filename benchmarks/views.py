"""Speed of the views on one core: images per second of ours and of DINOv2's torchvision recipe, in alternation.

    python benchmarks/views.py [--preset rad-dino-vit-b-518 cpu-smoke] [--images FOLDER] [--rounds 9]

The recipe is DINOv2's on PIL images, view by view in one process: RandomResizedCrop (bicubic), flip, ColorJitter of
brightness and contrast, GaussianBlur of 9 taps, ToTensor, Normalize, stacked, with the preset's sizes and
probabilities; on grey images as ours, and on three equal channels as that program reads its files. Ours is everything
between decoded images and normalised views: drawing the plans, padding to a batch, rendering. Time is that of the
processor, which other work on the machine changes less than the clock's; both are printed. LightlyTrain's views, which
its public interface makes only while it trains, are timed by ``benchmarks/peers.py``.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from raddino.config import load_config
from raddino.training.loader import Collate
from raddino.training.pretrain import PretrainConfig
from raddino.views import Multicrop, ViewPlan, ViewsConfig
from raddino.views.masks import MaskConfig, batch_masks
from raddino.views.multicrop import BLUR_SIGMA

SHORTER_SIDE = {"cpu-smoke": 96}
"""Of the corpus that a preset is meant for; 518 where it is not named."""
Seconds = tuple[float, float]


def main() -> None:
    """Parse options and print a table a preset, then the time of the masks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["rad-dino-vit-b-518", "cpu-smoke"])
    parser.add_argument("--images", type=Path, help="folder of image files; default: smooth noise of X-ray shapes")
    parser.add_argument("--count", type=int, default=32, help="images a round")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, 1 thread, medians of {options.rounds} alternated rounds of {options.count} images"
    )
    for preset in options.preset:
        config = load_config(PretrainConfig, preset, ["init=none"])
        images = read_images(options.images, options.count, SHORTER_SIDE.get(preset, 518))
        compare(preset, config, images, options.rounds)
    masks = [timed(lambda i=i: batch_masks(0, i, 80, (37, 37), MaskConfig()))[0] for i in range(50)]
    print(f"masks of 80 views, 37 x 37 patches: {statistics.median(masks) * 1e3:.2f} ms")


def compare(preset: str, config: PretrainConfig, images: list[np.ndarray], rounds: int) -> None:
    """Alternate the ways and print each one's rate and how many times faster ours is, round by round."""
    ways = {
        "ours": lambda: render(images, config),
        "recipe, grey": recipe(images, config.views, "L"),
        "recipe, RGB": recipe(images, config.views, "RGB"),
    }
    spent: dict[str, list[Seconds]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name].append(timed(way))
    v = config.views
    print(f"{preset}: 2 x {v.global_size} + {v.local_views} x {v.local_size}")
    for name, seconds in spent.items():
        processor, clock = (statistics.median(column) / len(images) for column in zip(*seconds, strict=True))
        ratio = statistics.median(s[0] / o[0] for s, o in zip(seconds, spent["ours"], strict=True))
        print(
            f"  {name:<14} {1 / processor:8.1f} images/s and core ({processor * 1e3:7.2f} ms)   "
            f"by the clock {1 / clock:8.1f}   ours takes 1 / {ratio:.1f}"
        )


def render(images: list[np.ndarray], config: PretrainConfig) -> None:
    """Plans, batch and views as training makes them, a micro-batch at a time."""
    size = min(len(images), config.batch_size // config.accumulate)
    multicrop, collate = Multicrop(config.views), Collate(config.views, 0, size, (1, 1), masked=False)
    nothing = torch.empty(0, 2)  # no guides
    for start in range(0, len(images), size):
        samples = [
            (at, torch.from_numpy(image), ViewPlan.draw(config.views, *image.shape, 0, at), nothing)
            for at, image in enumerate(images[start : start + size], start)
        ]
        batch = collate(samples)
        multicrop(batch.images, batch.plan)


def recipe(images: list[np.ndarray], v: ViewsConfig, mode: str) -> Callable[[], None]:
    """A function that makes DINOv2's views of every image."""

    def view(size: int, scale: tuple[float, float], blur: float) -> transforms.Compose:
        return transforms.Compose([
            transforms.RandomResizedCrop(size, scale, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.RandomHorizontalFlip(v.flip),
            transforms.RandomApply([transforms.ColorJitter(v.brightness, v.contrast)], v.jitter),
            transforms.RandomApply([transforms.GaussianBlur(9, BLUR_SIGMA)], blur),
            transforms.ToTensor(),
            transforms.Normalize([v.mean], [v.std]),
        ])  # fmt: skip

    views = [view(v.global_size, v.global_scale, blur) for blur in v.blur[:2]]
    views += [view(v.local_size, v.local_scale, v.blur[2])] * v.local_views
    opened = [Image.fromarray(image).convert(mode) for image in images]

    def run() -> None:
        made = [[make(image) for make in views] for image in opened]
        for same in zip(*made, strict=True):
            torch.stack(same)

    return run


def read_images(folder: Path | None, count: int, side: int) -> list[np.ndarray]:
    """Grey images whose shorter side is ``side``."""
    if folder is None:
        rng = np.random.default_rng(0)
        found = [
            Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).resize((round(side * aspect), side))
            for aspect in rng.uniform(0.85, 1.25, count)
        ]
    else:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
        found = [Image.open(path).convert("L") for path in files[:: max(1, len(files) // count)][:count]]
    scaled = []
    for image in found:
        factor = side / min(image.size)
        scaled.append(np.array(image.resize((round(image.width * factor), round(image.height * factor)))))
    return scaled


def timed(call: Callable[[], object]) -> Seconds:
    """Seconds of the processor and of the clock."""
    processor, clock = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - processor, time.perf_counter() - clock


if __name__ == "__main__":
    main()
