"""Speed of embedding: images per second beside the peers', and the share of this machine's matrix-product rate.

    python benchmarks/embed.py [--model base] [--size 518] [--images 16] [--rounds 3] [--device cpu]

In one process, on the same images (synthetic radiographs) and the same random weights, in turn: ``raddino.embed``
in fp32 and bf16, Transformers' ``image-feature-extraction`` pipeline as it comes, and the ``rad-dino`` package where
it is installed. The rate is that of plain ``linear`` products of the network's own four widths, timed between them; the
arithmetic of an image is counted by torch's FLOP counter. Times include reading and preprocessing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear
from torch.utils.flop_counter import FlopCounterMode

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.encoders.base import Provenance
from raddino.encoders.ours import VitEncoder, save_encoder
from raddino.features.extract import embed
from raddino.sample.generate import sample
from raddino.vit import VisionTransformer, VitConfig

MODELS = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOKENS = 2740
Way = Callable[[], np.ndarray]


def main() -> None:
    """Parse options, run all ways in turn, print one line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base", choices=MODELS)
    parser.add_argument("--size", type=int, default=518, help="pixels, a multiple of 14")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0, help="reader processes of raddino.embed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, Dinov2-{options.model}, {options.size} px, {options.images} images")
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder), device)


def compare(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Time every way ``rounds`` times in turn, with the matrix products between, and print the medians."""
    weights = random_weights(folder / "encoder", options.model, options.size)
    files, corpus = draw(folder, options.images, options.size)
    encoder = VitEncoder.load(weights, device=options.device)
    ways: dict[str, tuple[str, Way]] = {
        f"raddino {precision}": (precision, our_way(corpus, encoder, options, precision)) for precision in DTYPES
    }
    ways["transformers pipeline"] = ("fp32", pipeline_way(weights, files))
    package = package_way(weights, files, options, device)
    if package is None:
        print("rad-dino: not installed, left out (pip install rad-dino)")
    else:
        ways["rad-dino package"] = ("fp32", package)
    flops = arithmetic(encoder)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {precision: [] for precision in DTYPES}
    found = {name: way() for name, (_, way) in ways.items()}
    for _ in range(options.rounds):
        for name, (_, way) in ways.items():
            seconds[name].append(timed(way, device))
        for precision, values in rates.items():
            values.append(matrix_rate(encoder, DTYPES[precision], device))
    peer = statistics.median(seconds["transformers pipeline"])
    for name, (precision, _) in ways.items():
        median, rate = statistics.median(seconds[name]), statistics.median(rates[precision])
        a, b = found[name], found["transformers pipeline"]
        cosine = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()
        print(
            f"{name:22} {len(files) / median:8.2f} images/s ({len(files) / max(seconds[name]):.2f} to "
            f"{len(files) / min(seconds[name]):.2f})  {peer / median:5.2f} x pipeline  "
            f"{flops * len(files) / median / 1e9:8.1f} of {rate / 1e9:8.1f} GFLOP/s: "
            f"{flops * len(files) / median / rate:4.0%}  cosine to pipeline {cosine:.6f}"
        )


def random_weights(folder: Path, model: str, size: int) -> Path:
    """A Dinov2Model folder with random weights."""
    dim, depth, heads = MODELS[model]
    config = VitConfig(embed_dim=dim, depth=depth, num_heads=heads, image_size=size, layerscale_init=1.0)
    network = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0))
    return save_encoder(folder, network, size=size, mean=0.53, std=0.26, name="random", provenance=Provenance())


def draw(folder: Path, images: int, size: int) -> tuple[list[Path], Corpus]:
    """A corpus of synthetic radiographs, and the same pixels in the same order as PNG files."""
    sample(folder / "drawn", images, size=size)
    corpus = prepare(str(folder / "drawn" / "manifest.csv"), folder / "corpus", shorter_side=size)
    files = [folder / f"{row:05}.png" for row in range(len(corpus))]
    for row, file in enumerate(files):
        Image.fromarray(corpus.read(row)).save(file)
    return files, corpus


def our_way(corpus: Corpus, encoder: VitEncoder, options: argparse.Namespace, precision: str) -> Way:
    """``raddino.embed`` into an empty cache."""

    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory() as cache:
            return embed(
                corpus, encoder, batch_size=options.batch_size, workers=options.workers, cache=Path(cache),
                precision=precision,
            ).cls  # fmt: skip

    return run


def pipeline_way(weights: Path, files: list[Path]) -> Way:
    """Transformers' pipeline with its defaults, given file names."""
    from transformers import pipeline

    extract = pipeline("image-feature-extraction", model=str(weights))
    return lambda: np.array([extract(str(file))[0][0] for file in files], np.float32)


def package_way(weights: Path, files: list[Path], options: argparse.Namespace, device: torch.device) -> Way | None:
    """The ``rad-dino`` package on our weights; None where it is not installed."""
    try:
        from rad_dino import RadDino
    except ImportError:
        return None

    class Local(RadDino):
        _REPO = str(weights)

    model = Local().to(device)

    def run() -> np.ndarray:
        found = []
        for start in range(0, len(files), options.batch_size):
            images = [Image.open(file).convert("RGB") for file in files[start : start + options.batch_size]]
            found.append(model.extract_cls_token(images).float().cpu().numpy())
        return np.concatenate(found)

    return run


def arithmetic(encoder: VitEncoder) -> int:
    """Floating-point operations of one image."""
    batch = torch.zeros(1, 1, encoder.size, encoder.size, device=encoder.device)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        encoder.model(batch)
    return counter.get_total_flops()


def matrix_rate(encoder: VitEncoder, dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second in the four products of a block."""
    dim = encoder.dim
    flops, seconds = 0, 0.0
    for out, width in ((3 * dim, dim), (dim, dim), (4 * dim, dim), (dim, 4 * dim)):
        x = torch.randn(TOKENS, width, device=device, dtype=dtype)
        weight = torch.randn(out, width, device=device, dtype=dtype)
        with torch.inference_mode():
            linear(x, weight)
            repeats = 10 if device.type == "cpu" else 1000
            seconds += timed(
                lambda x=x, weight=weight, n=repeats: [linear(x, weight) for _ in range(n)] and None, device
            )
        flops += repeats * 2 * x.numel() * out
    return flops / seconds


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
