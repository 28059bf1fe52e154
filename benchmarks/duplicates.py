"""Precision and recall of duplicates on copies planted among real radiographs, and what comparing costs.

    python benchmarks/duplicates.py plant MANIFEST [--peer PYTHON]   # also with imagededup, installed for PYTHON
    python benchmarks/duplicates.py different MANIFEST               # likeness of pictures of different patients
    python benchmarks/duplicates.py cost MANIFEST --images 25000     # pictures drawn like the real ones
    python benchmarks/duplicates.py weights MANIFEST                 # writes src/raddino/images/likeness.npy

MANIFEST is a CSV with path (beside it), patient_id, source and split. Weights are made from ``train`` of the sources
nih and kermany; everything else is measured on the other images.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from raddino.images import likeness
from raddino.images.likeness import descriptors, find_copies, thumbnail

PLANTED, SEED = 300, 0
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG and back."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """To 30 to 90 % of each side, the aspect ratio not kept."""
    height, width = (max(int(side * rng.uniform(0.3, 0.9)), 32) for side in image.shape)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def cropped(image: np.ndarray, rng: np.random.Generator, most: float = 0.1) -> np.ndarray:
    """By up to ``most`` of the side at each edge."""
    (top, bottom), (left, right) = (rng.uniform(0, most, 2) * side for side in image.shape)
    return image[int(top) : image.shape[0] - int(bottom), int(left) : image.shape[1] - int(right)]


def windowed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to 8 % of the pixels clipped at either end, and a gamma of 0.6 to 1.7."""
    low, high = np.percentile(image, (rng.uniform(0, 8), rng.uniform(92, 100)))
    return np.round(255 * np.clip((image - low) / max(high - low, 1), 0, 1) ** rng.uniform(0.6, 1.7)).astype(np.uint8)


def marked(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A white box of 12 % of each side in a corner."""
    done = image.copy()
    height, width = (int(0.12 * side) for side in image.shape)
    top, left = (
        rng.choice([size // 20, size - size // 20 - box])
        for size, box in zip(image.shape, (height, width), strict=True)
    )
    done[top : top + height, left : left + width] = 255
    return done


def everything(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cropped, windowed, inverted, mirrored, resized and compressed."""
    return compressed(resized(255 - windowed(cropped(image, rng), rng)[:, ::-1], rng), 50)


CHANGES: dict[str, Change] = {
    "same file": lambda image, rng: image,
    "resized to 30-90 % a side": resized,
    "cropped by up to 5 % an edge": lambda image, rng: cropped(image, rng, 0.05),
    "cropped by up to 10 % an edge": cropped,
    "cropped by up to 15 % an edge": lambda image, rng: cropped(image, rng, 0.15),
    "windowed, gamma 0.6-1.7": windowed,
    "inverted": lambda image, rng: 255 - image,
    "mirrored": lambda image, rng: image[:, ::-1],
    "turned by 90, 180 or 270": lambda image, rng: np.rot90(image, rng.integers(1, 4)),
    "JPEG of quality 20": lambda image, rng: compressed(image, 20),
    "a white box in a corner": marked,
    "all but turns, box": everything,
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plant", "different", "cost", "weights"])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--peer", help="Python with imagededup")
    parser.add_argument("--images", type=int, default=25_000)
    options = parser.parse_args()
    table = pd.read_csv(options.manifest)
    images = [np.asarray(Image.open(options.manifest.parent / path).convert("L")) for path in table["path"]]
    start = time.process_time()
    small = np.stack([thumbnail(image) for image in images])
    print(f"{(time.process_time() - start) / len(images) * 1000:.2f} ms of processor time an image for its thumbnail")
    learnt = (table["split"].eq("train") & table["source"].isin(["nih", "kermany"])).to_numpy()
    if options.what == "weights":
        write_weights(small[learnt])
    elif options.what == "different":
        different(small[~learnt], table["patient_id"].to_numpy()[~learnt])
    elif options.what == "cost":
        cost(small, options.images)
    else:
        plant(images, small, np.flatnonzero(~learnt), options.peer)


def plant(images: list[np.ndarray], small: np.ndarray, held: np.ndarray, peer: str | None) -> None:
    """Plant copies of each kind among all images and print what is found."""
    chosen = np.random.default_rng(SEED).choice(held, PLANTED, replace=False)
    natural, _ = find_copies(small)
    print(f"among the images themselves: {int((natural != np.arange(len(small))).sum())} copies")
    planted = {}
    for number, (name, change) in enumerate(CHANGES.items()):
        rng = np.random.default_rng([SEED, number])
        planted[name] = [change(images[row], rng) for row in chosen]
    print("| copies | found | recall | false |")
    print("|---|---|---|---|")
    for name, copies in planted.items():
        first, _ = find_copies(np.concatenate([small, [thumbnail(copy) for copy in copies]]))
        mates = {row: set(np.flatnonzero(first == first[row]).tolist()) for row in range(len(small), len(first))}
        print(f"| {name} | {' | '.join(told(mates, chosen, natural, len(images)))} |", flush=True)
    if peer:
        for name, mates in ask_peer(peer, images, planted).items():
            print(f"| imagededup PHash: {name} | {' | '.join(told(mates, chosen, natural, len(images)))} |")


def told(mates: dict[int, set[int]], chosen: np.ndarray, natural: np.ndarray, number: int) -> list[str]:
    """Found, recall with its interval, and pairs of a copy with a picture of which it is none."""
    found = false = 0
    for copy, others in mates.items():
        original = chosen[copy - number]
        found += int(original) in others
        right = {row for row in others if row < number and natural[row] == natural[original]}
        false += len({row for row in others if row < number} - right)
        false += sum(
            row >= number and row < copy and natural[chosen[row - number]] != natural[original] for row in others
        )
    low, high = wilson(found, len(mates))
    return [f"{found} of {len(mates)}", f"{found / len(mates):.1%} ({low:.1%} to {high:.1%})", str(false)]


def ask_peer(
    peer: str, images: list[np.ndarray], planted: dict[str, list[np.ndarray]]
) -> dict[str, dict[int, set[int]]]:
    """What imagededup's PHash pairs with each copy, at its own threshold of 10 bits; by kind of copy."""
    words = (
        "import glob, json, sys; from imagededup.methods import PHash\n"
        "method = PHash(verbose=False)\n"
        "coded = {part: {name.split('/')[-1][:-4]: method.encode_image(image_file=name)"
        " for name in sorted(glob.glob(f'{sys.argv[1]}/{part}/*.bmp'))} for part in sys.argv[3:]}\n"
        "found = {part: method.find_duplicates(encoding_map=coded['all'] | coded[part], max_distance_threshold=10,"
        " num_dist_workers=0) for part in sys.argv[4:]}\n"
        "json.dump(found, open(sys.argv[2], 'w'))"
    )
    number = len(images)
    with tempfile.TemporaryDirectory() as folder:
        parts = {"all": images} | {str(kind): copies for kind, copies in enumerate(planted.values())}
        for part, pictures in parts.items():
            Path(folder, part).mkdir()
            for row, image in enumerate(pictures, start=0 if part == "all" else number):
                Image.fromarray(np.ascontiguousarray(image)).save(Path(folder, part, f"{row}.bmp"))
        answer = Path(folder, "answer.json")
        subprocess.run([peer, "-c", words, folder, str(answer), *parts], check=True, capture_output=True)
        found = json.loads(answer.read_text(encoding="utf-8"))
    return {
        name: {row: {*map(int, found[str(kind)][str(row)]), row} for row in range(number, number + len(copies))}
        for kind, (name, copies) in enumerate(planted.items())
    }


def different(small: np.ndarray, patients: np.ndarray) -> None:
    """Count pairs of different patients by likeness, the best over windows and moves."""
    whole = descriptors(small)
    best: dict[tuple[int, int], float] = {}
    for start in range(0, len(small), likeness.BLOCK):
        for one, other, alike in likeness._copies(small[start : start + likeness.BLOCK], small, whole, start, 0.7):
            for a, b, value in zip(one.tolist(), other.tolist(), alike.tolist(), strict=True):
                if patients[a] != patients[b]:
                    best[min(a, b), max(a, b)] = max(value, best.get((min(a, b), max(a, b)), 0))
    pairs = sum(int((patients[row + 1 :] != patients[row]).sum()) for row in range(len(patients)))
    values = np.array(list(best.values()))
    print(f"{pairs} pairs of different patients")
    for least in (0.75, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94, 0.96):
        print(f"likeness {least:.2f} or more: {int((values >= least).sum())}")


def cost(small: np.ndarray, number: int) -> None:
    """Processor time and memory of comparing ``number`` pictures with the mean and covariance of the real ones."""
    rng = np.random.default_rng(SEED)
    flat = small.reshape(len(small), -1).astype(np.float32)
    mean, spread = flat.mean(0), (flat - flat.mean(0)) / np.sqrt(len(flat))
    drawn = np.empty((number, likeness.SIDE, likeness.SIDE), np.uint8)
    for at in range(0, number, 1000):
        part = mean + rng.normal(size=(min(1000, number - at), len(flat))).astype(np.float32) @ spread
        ranks = part.argsort(1).argsort(1) / part.shape[1] * 255
        drawn[at : at + 1000] = ranks.reshape(-1, likeness.SIDE, likeness.SIDE)
    planted = rng.choice(number // 2, number // 100, replace=False)
    drawn[-len(planted) :] = 255 - drawn[planted][:, :, ::-1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    first, _ = find_copies(drawn)
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = int((first[-len(planted) :] == planted).sum())
    others = int((first != np.arange(number)).sum()) - found
    print(
        f"{number} pictures: {seconds:.0f} s of processor time, {(after - before) / 1024:.0f} MiB more at most "
        f"(peak {after / 1024:.0f}); {found} of {len(planted)} planted copies, {others} others"
    )


def write_weights(small: np.ndarray) -> None:
    """Inverse square roots of the second moments of even and odd cosines, a twentieth of the mean added."""
    axis = likeness._cosines(0, 0)
    flat = (axis @ small.astype(np.float32) @ axis.T).reshape(len(small), -1)
    flat /= np.linalg.norm(flat[:, 1:], axis=1, keepdims=True)
    side = int(likeness.ODD.sum())
    weights = np.zeros((2, side, side), np.float32)
    for place, chosen in enumerate((likeness.EVEN, likeness.ODD)):
        values, axes = np.linalg.eigh(flat[:, chosen].T @ flat[:, chosen] / len(flat))
        width = len(values)
        weights[place, :width, :width] = axes / np.sqrt(values + 0.05 * values.mean()) @ axes.T
    np.save(likeness.WEIGHTS, weights / np.abs(weights).max())


def wilson(hits: int, number: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    share, spread = hits / number, z * z / number
    middle = (share + spread / 2) / (1 + spread)
    half = z * np.sqrt(share * (1 - share) / number + spread / number / 4) / (1 + spread)
    return middle - half, middle + half


if __name__ == "__main__":
    main()
