"""The training step beside LightlyTrain's, in turn and in one run: images/s, share of the products' rate, memory.

    python benchmarks/peers.py --install            # makes LightlyTrain's environment first, where there is none
    python benchmarks/peers.py [--model small] [--precision fp32 bf16] [--images FOLDER] [--rounds 5] [--steps 4]
    python benchmarks/peers.py --threads 1 --precision bf16 --set batch_size=2    # for the column of the views

LightlyTrain is AGPL: no part of raddino imports it, and it is measured by a process of its own in an environment of its
own (``--environment``), as ours is by another. Both train a ViT/14 from random weights with DINOv2's objective on the
same grey images: LightlyTrain reads them as PNG files, ours from a corpus. What the preset and ``--set`` say of crops,
augmentations, masks, heads, prototypes, centring, drop path and batch is given to both; LightlyTrain sees the grey
images as it reads them by default, in three channels, and its registers, loggers, checkpoints and exports are off. Its
usage events are off (``LIGHTLY_TRAIN_EVENTS_DISABLED``) and its weights random, so that it needs no network.

Every round gives each side a turn of some steps, of which the first two are not counted. Columns:

* step: from a batch whose views are made to the updated teacher; data is made in between, in the same process.
* share: the arithmetic of our step, by torch's FLOP counter, at that rate, of the rate of plain ``linear`` products of
  its widths and type, timed here between the turns.
* views: from the image's file to normalised views, in images a second of the processor. With one thread it is per
  core; with more, ours counts threads that wait for each other too.
* all: data included, with ``--workers`` processes that read and, for LightlyTrain, make the views. Ours makes them
  in the main process.
* memory: the most of the machine's that the main process has held, without workers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import linear

from raddino.config import load_config
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.sample.generate import sample
from raddino.training.pretrain import PretrainConfig

HERE = Path(__file__).parent
PACKAGE = "lightly-train==0.18.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raddino" / "lightly-train"
MODELS = {"small": (384, 12, 6, "vits14"), "base": (768, 12, 12, "vitb14"), "large": (1024, 24, 16, "vitl14")}
"""By name: width, depth, heads, LightlyTrain's name."""
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
SAMPLES = 64
PRODUCTS = 20
REPEATED = 100
"""How often the folder of images is given to LightlyTrain: what it does after an epoch is not to be measured."""
OFFLINE = {"LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "HF_HUB_OFFLINE": "1"}
Answer = dict[str, Any]


def main() -> None:
    """Parse options, make what is missing, print a table a precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=CACHE, help="folder of LightlyTrain's environment")
    parser.add_argument("--install", action="store_true", help=f"make the environment with {PACKAGE}")
    parser.add_argument("--model", default="small", choices=MODELS)
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=PRECISIONS)
    parser.add_argument("--images", type=Path, help="folder of image files; default: synthetic radiographs")
    parser.add_argument("--size", type=int, default=256, help="shorter side of the images in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="measured, of a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--preset", default="small-batch")
    parser.add_argument("--set", nargs="*", default=[], help="config overrides, for example batch_size=16")
    options = parser.parse_args()
    if min(options.rounds, options.steps, options.threads) < 1:
        parser.error("--rounds, --steps and --threads are 1 or more")
    if options.install:
        install(options.environment)
    if not python(options.environment).is_file():
        parser.error(f"no environment in {options.environment}: --install makes it")
    torch.set_num_threads(options.threads)
    width, depth, heads, _ = MODELS[options.model]
    options.set = [
        f"vit.embed_dim={width}", f"vit.depth={depth}", f"vit.num_heads={heads}", "views.local_views=8", "batch_size=8",
        "accumulate=1", "init=none", *options.set,
    ]  # fmt: skip
    config = load_config(PretrainConfig, options.preset, options.set)
    with tempfile.TemporaryDirectory() as folder:
        corpus = grey_images(Path(folder), options.images, options.size)
        for precision in options.precision:
            compare(config, corpus, precision, options)


def python(environment: Path) -> Path:
    """The interpreter of an environment."""
    return environment / "bin" / "python"


def install(environment: Path) -> None:
    """Make LightlyTrain's environment, unless it is there."""
    if not python(environment).is_file():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    subprocess.run([str(python(environment)), "-m", "pip", "install", "--quiet", PACKAGE], check=True)


def grey_images(folder: Path, images: Path | None, side: int) -> Corpus:
    """A corpus, and in ``folder / "png"`` its images as PNG files of 8 bits."""
    if images is None:
        images = folder / "images"
        sample(images, SAMPLES, size=side + 64)
    corpus = prepare(images, folder / "corpus", shorter_side=side)
    (folder / "png").mkdir()
    for row in range(len(corpus)):
        Image.fromarray(corpus.read(row)).save(folder / "png" / f"{row:06}.png")
    return corpus


def compare(config: PretrainConfig, corpus: Corpus, precision: str, options: argparse.Namespace) -> None:
    """Give turns, without workers and with, and print the table."""
    seen: dict[str, list[list[Answer]]] = {"raddino": [], "LightlyTrain": []}
    rates = []
    for workers in sorted({0, options.workers}):
        ours = {"preset": options.preset, "set": options.set, "corpus": str(corpus.path), "workers": workers}
        ours |= {"device": options.device, "precision": precision}
        theirs = arguments(config, corpus.path.parent / "png", precision, workers, options)
        commands = {
            "raddino": [sys.executable, str(HERE / "peers_ours.py"), json.dumps(ours)],
            "LightlyTrain": [str(python(options.environment)), str(HERE / "peers_lightly.py"), json.dumps(theirs)],
        }
        with started(commands, options) as sides:
            for answers in seen.values():
                answers.append([])
            for _ in range(options.rounds):
                for name, side in sides.items():
                    seen[name][-1].append(side.turn(options.steps))
                rates.append(products_rate(config, precision, torch.device(options.device)))
    show(config, precision, seen, statistics.median(rates), options)


def arguments(
    config: PretrainConfig, images: Path, precision: str, workers: int, options: argparse.Namespace
) -> dict[str, Any]:
    """What ``lightly_train.pretrain`` is given, the same as ours as far as it goes."""
    v, head, ssl = config.views, config.ssl.head, config.ssl
    jitter = {"prob": v.jitter, "strength": 1.0, "brightness": v.brightness, "contrast": v.contrast}
    crop = dict(zip(("min_scale", "max_scale"), v.global_scale, strict=True))
    local = dict(zip(("min_scale", "max_scale"), v.local_scale, strict=True))
    low, high = v.masks.ratio
    return {
        "data": [str(images)] * REPEATED,
        "model": f"dinov2/{MODELS[options.model][3]}-noreg-notpretrained",
        "model_args": {"drop_path_rate": config.vit.drop_path},
        "method": "dinov2",
        "method_args": {
            "hidden_dim": head.hidden, "dino_bottleneck_dim": head.bottleneck, "ibot_bottleneck_dim": head.bottleneck,
            "output_dim": head.prototypes, "ibot_separate_head": ssl.ibot_head is not None,
            "center_method": ssl.centering, "student_freeze_last_layer_steps": 0,
            "dino_loss_weight": ssl.dino_weight, "ibot_loss_weight": ssl.ibot_weight,
            "koleo_loss_weight": ssl.koleo_weight, "mask_probability": v.masks.probability, "mask_ratio_min": low,
            "mask_ratio_max": high, "gradient_clip_val": config.optim.clip_grad,
        },
        "transform_args": {
            "image_size": [v.global_size] * 2, "random_resize": crop, "random_flip": {"horizontal_prob": v.flip},
            "color_jitter": jitter | {"saturation": 0.0, "hue": 0.0}, "random_gray_scale": None, "solarize": None,
            "normalize": {"mean": [v.mean] * 3, "std": [v.std] * 3}, "gaussian_blur": blur(v.blur[0]),
            "global_view_1": {"gaussian_blur": blur(v.blur[1]), "solarize": None},
            "local_view": {"num_views": v.local_views, "view_size": [v.local_size] * 2, "random_resize": local,
                           "gaussian_blur": blur(v.blur[2])},
        },
        "epochs": 1, "batch_size": config.batch_size, "num_workers": workers, "precision": PRECISIONS[precision],
        "accelerator": "gpu" if options.device == "cuda" else "cpu", "devices": 1,
    }  # fmt: skip


def blur(probability: float) -> dict[str, Any]:
    """LightlyTrain's words for a Gaussian blur of 9 taps."""
    return {"prob": probability, "sigmas": [0.1, 2.0], "blur_limit": [9, 9]}


@contextmanager
def started(commands: dict[str, list[str]], options: argparse.Namespace) -> Iterator[dict[str, Side]]:
    """Processes that take turns; each has said that it is ready."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | OFFLINE
    environment |= {"OMP_NUM_THREADS": str(options.threads)}
    environment |= {"LIGHTLY_TRAIN_CACHE_DIR": str(options.environment / "cache")}
    sides = {}
    try:
        for name, command in commands.items():
            own = {"PYTHONPATH": str(HERE.parent / "src")} if name == "raddino" else {}
            sides[name] = Side(command, environment | own)
            sides[name].answer()
        yield sides
    finally:
        for side in sides.values():
            side.end()


class Side:
    """A process that takes turns (``turns.py``)."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._name, self._words = Path(command[1]).name, tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words
        )

    def turn(self, steps: int) -> Answer:
        """Let it do a round."""
        self._process.stdin.write(b"%d\n" % steps)
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Answer:
        """Its next line; if it has none, its last words end this process."""
        if line := self._process.stdout.readline():
            return json.loads(line)
        self._words.seek(0)
        raise SystemExit(f"{self._name} has ended: {self._words.read().decode(errors='replace')[-2000:]}")

    def end(self) -> None:
        """Kill it; nothing of it is kept."""
        self._process.kill()
        self._process.communicate()
        self._words.close()


def products_rate(config: PretrainConfig, precision: str, device: torch.device) -> float:
    """FLOP/s of plain ``linear`` products of the step's widths."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    tokens = 2 * config.batch_size * ((config.views.global_size // config.vit.patch_size) ** 2 + 1)
    x = torch.randn(tokens, config.vit.embed_dim, device=device, dtype=dtype)
    weight = torch.randn(int(config.vit.embed_dim * config.vit.mlp_ratio), config.vit.embed_dim).to(x)

    def seconds() -> float:
        begun = time.perf_counter()
        for _ in range(PRODUCTS):
            linear(x, weight)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    seconds()
    return PRODUCTS * 2 * x.numel() * len(weight) / statistics.median(seconds() for _ in range(3))


def show(
    config: PretrainConfig,
    precision: str,
    seen: dict[str, list[list[Answer]]],
    rate: float,
    options: argparse.Namespace,
) -> None:
    """Print a row a side, and how many times faster ours is, round by round."""
    v, batch = config.views, config.batch_size
    print(
        f"\nViT-{options.model}/14, {precision}, batch {batch}, 2 x {v.global_size} + {v.local_views} x {v.local_size}"
        f", {options.device}, {options.threads} threads, products {rate / 1e9:,.0f} GFLOP/s\n\n"
        f"| | torch | step, images/s | share | views, images/s of processor | all, images/s | memory, GB |\n"
        "|---|---|---|---|---|---|---|"
    )
    flops = seen["raddino"][0][-1]["flops"]
    columns: dict[str, list[list[float]]] = {}
    for name, (alone, *others) in seen.items():
        steps, data = ([batch / one[part] for one in alone] for part in ("step", "data_processor"))
        whole = [batch / (one["step"] + one["data"]) for one in (others or [alone])[0]]
        columns[name] = [steps, data, whole]
        title = " ".join([name, alone[-1].get("version", "")]).strip()
        print(
            f"| {title} | {alone[-1]['torch']} | {spread(steps)} | {flops * statistics.median(steps) / rate:.0%} | "
            f"{spread(data)} | {spread(whole)} | {alone[-1]['gigabytes']:.2f} |"
        )
    step, data, whole = (
        spread([one / other for one, other in zip(*both, strict=True)]) for both in zip(*columns.values(), strict=True)
    )
    print(f"| ours is faster by | | {step} | | {data} | {whole} | |")


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
