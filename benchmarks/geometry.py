"""Train the head that sees turned, mirrored and inverted radiographs, and measure it on other hospitals.

    python benchmarks/geometry.py CORPUS SAMPLE --out docs/results/geometry     # leave one source out, then all
    python benchmarks/geometry.py CORPUS SAMPLE --ship nih,kermany              # the head that the package ships

CORPUS is packed from real radiographs with a column source and views; SAMPLE is a corpus of ``raddino sample``, which
alone holds laterals. Training images are cropped, turned by up to 12 degrees, and changed in gamma, contrast, noise and
borders; the sixteen moves are undone on each. Sensitivity is over pictures moved each way, false alarms over pictures
as they are stored: those that are stored turned count against it unless --turned names their ids.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import torch
from scipy.stats import binomtest
from torch.nn.functional import cross_entropy, mse_loss

from raddino.corpus.dataset import Corpus
from raddino.files import write_text
from raddino.inspection.geometry import SURE
from raddino.inspection.moves import MOVES, VIEWS
from raddino.inspection.upright import ENCODER, SHIPPED, Head, features
from raddino.progress import track

MOST_DEGREES, EPOCHS, BATCH = 12.0, 40, 64
SETS = ((("nih",), ("kermany", "cohen")), (("kermany",), ("nih", "cohen")), (("nih", "kermany"), ("cohen",)))
"""Sources that a head is trained on, and those that it is measured on."""


def augmented(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A changed picture (H, W) uint8, and by how many degrees clockwise it was tilted."""
    grey = image.astype(np.float32)
    degrees = float(rng.uniform(-MOST_DEGREES, MOST_DEGREES)) if rng.random() < 0.5 else 0.0
    if degrees:
        grey = ndi.rotate(grey, -degrees, reshape=False, order=1, mode="nearest" if rng.random() < 0.5 else "constant")
    height, width = (int(side * rng.uniform(0.75, 1)) for side in grey.shape)
    top, left = int(rng.integers(grey.shape[0] - height + 1)), int(rng.integers(grey.shape[1] - width + 1))
    grey = grey[top : top + height, left : left + width]
    grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1.0)
    grey = grey ** rng.uniform(0.6, 1.7)
    if rng.random() < 0.3:
        grey = (grey - rng.uniform(0, 0.2)) / rng.uniform(0.6, 0.9)
    if rng.random() < 0.5:  # the corner of a marker
        side, row = int(0.12 * min(grey.shape)), rng.choice([0, 1])
        at = int(rng.integers(grey.shape[1] - side))
        corner = grey[:side] if row else grey[-side:]
        corner[:, at : at + side] = corner[:, at : at + side].min()
    if rng.random() < 0.3:
        pads = [(int(rng.uniform(0, 0.15) * side), int(rng.uniform(0, 0.15) * side)) for side in grey.shape]
        grey = np.pad(grey, pads, constant_values=float(rng.random() < 0.1))
    if rng.random() < 0.3:
        grey = grey + rng.normal(0, rng.uniform(0, 0.05), grey.shape)
    return (grey.clip(0, 1) * 255).astype(np.uint8), degrees


def byte_image(image: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of either depth."""
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


def others(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Pictures of no chest: photographs that scikit-learn and Matplotlib ship, cut anew, and drawn noise."""
    from matplotlib.cbook import get_sample_data
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = [image.mean(2).astype(np.uint8) for image in load_sample_images().images]
    with get_sample_data("grace_hopper.jpg") as file:
        photographs.append(np.asarray(Image.open(file).convert("L")))
    found = []
    for number in range(count):
        kind = number % 4
        if kind < 3:
            picture = photographs[kind]
            side = int(rng.uniform(0.3, 0.9) * min(picture.shape))
            top, left = (int(rng.integers(length - side)) for length in picture.shape)
            found.append(np.rot90(picture[top : top + side, left : left + side], int(rng.integers(4))).copy())
        else:
            smooth = ndi.gaussian_filter(rng.normal(size=(128, 128)), rng.uniform(0, 12))
            found.append((255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8))
    return found


def gather(corpus: Corpus, rows: np.ndarray, copies: int, seed: int, cache: Path) -> dict[str, torch.Tensor]:
    """Features (N, 16, D) half, tilts (N,) and views (N,; -1 where none is written) of rows and changed copies."""
    if cache.is_file():
        return torch.load(cache, weights_only=True)
    rng = np.random.default_rng(seed)
    found, tilts, views, at = [], [], [], []
    for row in track(rows, f"features {cache.stem}"):
        image = byte_image(corpus.read(int(row)))
        view = corpus.manifest["view"].iat[int(row)]
        for copy in range(copies + 1):
            picture, tilt = augmented(image, rng) if copy else (image, 0.0)
            found.append(features([picture])[0].half())
            tilts.append(tilt)
            views.append(VIEWS.index(view) if view in VIEWS else -1)
            at.append((int(row), copy))
    gathered = {
        "features": torch.stack(found), "tilt": torch.tensor(tilts), "view": torch.tensor(views), "at": torch.tensor(at)
    }  # fmt: skip
    cache.parent.mkdir(parents=True, exist_ok=True)
    torch.save(gathered, cache)
    return gathered


def gather_others(cache: Path, count: int = 400) -> dict[str, torch.Tensor]:
    """As :func:`gather`, of pictures of no chest."""
    if cache.is_file():
        return torch.load(cache, weights_only=True)
    pictures = others(count, np.random.default_rng(3))
    gathered = {
        "features": torch.cat([features([picture]).half() for picture in track(pictures, "features others")]),
        "tilt": torch.zeros(count), "view": torch.full((count,), VIEWS.index("OTHER")),
        "at": torch.tensor([(number, 0) for number in range(count)]),
    }  # fmt: skip
    torch.save(gathered, cache)
    return gathered


def train(data: dict[str, torch.Tensor], seed: int = 0) -> Head:
    """Fit a head; a tenth of the images, with their copies, is kept for the temperatures."""
    torch.manual_seed(seed)
    x, view, tilt = data["features"].float(), data["view"], data["tilt"]
    lateral, other = view == VIEWS.index("LATERAL"), view == VIEWS.index("OTHER")
    frontal = ~lateral & ~other
    kept = torch.rand(int(data["image"].max()) + 1, generator=torch.Generator().manual_seed(seed))[data["image"]] < 0.1
    head = Head(x.shape[-1])
    head.mean.copy_(x[~kept].mean((0, 1)))
    head.scale.copy_(x[~kept].std((0, 1)) + 1e-3)
    x = head.normalise(x)
    places = torch.arange(len(x))
    head.train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(EPOCHS):
        fit = places[~kept]
        for batch in fit[torch.randperm(len(fit))].split(BATCH):
            loss = torch.zeros(())
            if (upright := batch[~other[batch]]).numel():
                scores = head.upright(x[upright]).squeeze(-1)
                loss = loss + cross_entropy(scores, torch.zeros(len(upright), dtype=torch.long), label_smoothing=0.02)
            seen = batch[view[batch] >= 0]
            loss = loss + 0.3 * cross_entropy(head.view(x[seen, 0]), view[seen])
            straight = batch[frontal[batch]]
            if straight.numel():
                loss = loss + 0.01 * mse_loss(head.tilt(x[straight, 0]).squeeze(-1), tilt[straight].float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    head.eval()
    with torch.inference_mode():
        scores, views = head.upright(x[kept & ~other]).squeeze(-1), head.view(x[kept & (view >= 0), 0])
        head.temperature[0] = _temperature(scores, torch.zeros(len(scores), dtype=torch.long))
        head.temperature[1] = _temperature(views, view[kept & (view >= 0)])
    return head


def _temperature(logits: torch.Tensor, target: torch.Tensor) -> float:
    candidates = torch.logspace(-0.7, 0.7, 57)
    return float(min(candidates, key=lambda t: float(cross_entropy(logits / t, target))))


def share(hits: np.ndarray) -> dict[str, float]:
    """A share with its Wilson interval."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return {"share": float(hits.mean()), "low": float(interval.low), "high": float(interval.high), "n": len(hits)}


def judged(head: Head, x: torch.Tensor, ids: list[str]) -> dict[str, object]:
    """Sensitivity of each move and false alarms on pictures with features ``x`` (N, 16, D) as stored."""
    stored = head.look(x).moves
    quarters = np.array([move.quarters for move in MOVES])
    inverted = np.array([move.inverted for move in MOVES])
    mirrored = np.array([move.mirrored for move in MOVES])

    def mass(moves: np.ndarray, which: np.ndarray) -> np.ndarray:
        return moves[:, which].sum(1)

    turned = {q: mass(stored, quarters == q) for q in range(4)}
    alarms = {
        "turned": np.max([turned[q] for q in (1, 2, 3)], axis=0) >= SURE["turned"],
        "inverted": mass(stored, inverted) >= SURE["inverted"],
        "mirrored": mass(stored, mirrored) >= SURE["mirrored"],
    }
    # a picture moved by g is scored as the stored one is, its moves renamed; so what is found of each move is what is
    # found of the stored one being upright
    found = {
        "turned": turned[0] >= SURE["turned"],
        "inverted": mass(stored, ~inverted) >= SURE["inverted"],
        "mirrored": mass(stored, ~mirrored) >= SURE["mirrored"],
    }
    return {
        "found": {name: share(hits) for name, hits in found.items()},
        "false": {name: share(hits) for name, hits in alarms.items()},
        "alarmed": {name: [ids[i] for i in np.flatnonzero(hits)] for name, hits in alarms.items()},
    }


def together(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Gathered parts as one training set; ``image`` numbers the images, whose copies share theirs."""
    images, number = [], 0
    for part in parts:
        _, image = part["at"][:, 0].unique(return_inverse=True)
        images.append(image + number)
        number += int(image.max()) + 1
    keys = ("features", "tilt", "view")
    return {key: torch.cat([part[key] for part in parts]) for key in keys} | {"image": torch.cat(images)}


def views_seen(head: Head, part: dict[str, torch.Tensor]) -> dict[str, object]:
    """How well AP and PA are told apart, and which share of frontal pictures is taken for something else."""
    from sklearn.metrics import roc_auc_score

    stored = part["at"][:, 1] == 0
    seen = head.look(part["features"][stored])
    view = part["view"][stored].numpy()
    frontal = (view == 0) | (view == 1)
    found: dict[str, object] = {
        "lateral": share(seen.views[frontal, 2] >= SURE["lateral"]),
        "other": share(seen.views[frontal, 3] >= SURE["other"]),
        "tilt": float(np.abs(seen.tilt[frontal]).mean()),
    }
    if {0, 1} <= set(view.tolist()):
        ratio = seen.views[frontal, 1] / seen.views[frontal, :2].sum(1)
        found["ap_auroc"] = float(roc_auc_score(view[frontal], ratio))
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("sample", type=Path)
    parser.add_argument("--copies", type=int, default=3, help="changed copies of each training image")
    parser.add_argument("--cache", type=Path, default=Path("geometry-features"))
    parser.add_argument("--turned", type=Path, help="file of ids that are stored turned, one a line")
    parser.add_argument("--ship", help="comma-separated sources; writes the head that the package ships")
    parser.add_argument("--out", type=Path, default=Path("geometry.json"))
    told = parser.parse_args()
    torch.set_num_threads(1)
    corpus, drawn = Corpus.open(told.corpus), Corpus.open(told.sample)
    source = corpus.manifest["source"].to_numpy()
    turned = set(told.turned.read_text(encoding="utf-8").split()) if told.turned else set()
    upright = ~corpus.manifest["id"].isin(turned).to_numpy()
    real = {
        name: gather(corpus, np.flatnonzero((source == name) & upright), told.copies, 1, told.cache / f"{name}.pt")
        for name in dict.fromkeys(source.tolist())
    }
    synthetic = gather(drawn, np.arange(len(drawn)), 1, 2, told.cache / "synthetic.pt")
    nothing = gather_others(told.cache / "others.pt")
    if told.ship:
        sources = told.ship.split(",")
        head = train(together([*(real[name] for name in sources), synthetic, nothing]))
        head.save(SHIPPED)
        record = {
            "sources": {name: int((real[name]["at"][:, 1] == 0).sum()) for name in sources}
            | {"synthetic": len(drawn), "other": len(nothing["at"])},
            "copies": told.copies,
            "epochs": EPOCHS,
            "encoder": ENCODER,
            "command": "python benchmarks/geometry.py CORPUS SAMPLE --ship " + told.ship,
        }
        write_text(SHIPPED.with_name("record.json"), json.dumps(record, indent=1) + "\n")
        return
    results = []
    for trained, tested in SETS:
        head = train(together([*(real[name] for name in trained), synthetic, nothing]))
        for name in tested:
            part = real[name]
            stored = part["at"][:, 1] == 0
            rows = part["at"][stored, 0].tolist()
            result = {"trained": list(trained), "tested": name, "views": views_seen(head, part)}
            result |= judged(head, part["features"][stored], corpus.manifest["id"].iloc[rows].tolist())
            results.append(result)
            print(json.dumps(result))
    write_text(told.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
