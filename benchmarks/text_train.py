"""Trains the two networks of the built-in text detector on text burned into real images, and writes them.

Images come with the regions that an earlier detector found in them and what a person saw there
(``docs/results/text_regions.csv``, see ``text_bank``): false alarms are learned as no text, real markers as markers.
Fonts: those of ``TAUGHT`` that are installed; the ones that ``benchmarks/text.py`` measures with are left out, and so
are those of ``text_bank.VALIDATED``, which with one patient in five serve to choose limits.

    python benchmarks/text_train.py cells DATA --regions regions.csv --minutes 30 --out cells.pt
    python benchmarks/text_train.py words DATA --regions regions.csv --minutes 30 --out words.pt
    python benchmarks/text_train.py write cells.pt words.pt --out src/raddino/inspection/text_networks.npz
"""

from __future__ import annotations

import argparse
import json
import string
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from text_bank import NONE, TEXT, UNKNOWN, Picture, Spot, bank, cut
from text_burn import IDENTIFIERS, MARKERS, STYLES, burn, compressed, fonts, ink_mask
from text_devices import ARROWS, device
from torch import Tensor, nn

from raddino.inspection.text_find import INK, NOISE, TIGHT, patch_of, resized, tight
from raddino.inspection.text_network import DILATIONS
from raddino.inspection.text_regions import MARKERS as VOCABULARY
from raddino.inspection.text_strokes import CELL, halved, padded, strokes

SIDE = 192
CLASSES = [*sorted(VOCABULARY), "L mirrored", "R mirrored", "other", "nothing"]
OTHER, NOTHING = CLASSES.index("other"), CLASSES.index("nothing")
TAUGHT = (
    *("Liberation", "Lato-", "OpenSans", "Inconsolata", "STIXGeneral", "cm", "Cabin", "Dosis", "Play"),
    *("Nimbus", "C059", "P052", "URW"),
)
REAL = 48
WIDTHS, HIDDEN = (16, 32, 64), 128


def taught_fonts() -> list[Path]:
    folders = [Path(matplotlib.get_data_path()) / "fonts/ttf", Path("/usr/share/fonts")]
    return [p for p in fonts(folders) if p.name.startswith(TAUGHT) and "Thin" not in p.name]


class Bank:
    """Pictures to train on; ``spots`` are (picture, spot) by label."""

    def __init__(self, pictures: list[Picture]) -> None:
        self.pictures = pictures
        self.spots: dict[str, list[tuple[Picture, Spot]]] = {}
        for picture in pictures:
            for spot in picture.spots:
                self.spots.setdefault(spot.label, []).append((picture, spot))

    def any(self, rng: np.random.Generator) -> Picture:
        return self.pictures[int(rng.integers(len(self.pictures)))]

    def one(self, rng: np.random.Generator, label: str) -> tuple[Picture, Spot]:
        return self.spots[label][int(rng.integers(len(self.spots[label])))]

    def label(self, rng: np.random.Generator) -> str:
        """A label that can be learned, rare ones oftener than they are."""
        names = [k for k in self.spots if k != "unknown"]
        odds = np.array([len(self.spots[k]) ** 0.6 for k in names])
        return names[int(rng.choice(len(names), p=odds / odds.sum()))]


def spoiled(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Blur, grain and JPEG of random strength, uint8."""
    if rng.random() < 0.2:
        image = ndimage.gaussian_filter(image, rng.uniform(0.4, 1.0))
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(1, 5), image.shape)
    grey = np.clip(image, 0, 255).astype(np.uint8)
    return compressed(grey, int(rng.integers(65, 96))) if rng.random() < 0.5 else grey


def font_of(rng: np.random.Generator, faces: list[Path], size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(faces[int(rng.integers(len(faces)))]), max(7, round(size)))


def crop(rng: np.random.Generator, images: Bank, faces: list[Path]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part of an image with text and other things burned in, its cells of text, and which cells count."""
    finer = int(rng.choice([1, 1, 2]))
    side = SIDE * finer
    zoom = (
        float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
        if rng.random() < 0.5
        else float(rng.choice([0.5, 0.25]) * rng.uniform(0.85, 1.2))
    )
    picture, near = images.any(rng), None
    if images.spots.keys() - {"unknown"} and rng.random() < 0.5:
        picture, near = images.one(rng, "nothing" if rng.random() < 0.7 else images.label(rng))
    image, own, _ = cut(rng, picture, side, side, zoom * finer, near)
    for _ in range(int(rng.choice([0, 1, 2, 4]))):
        device(image, rng, finer)
    taken, text, counts = own != NONE, (own == TEXT).astype(np.float32), (own != UNKNOWN).astype(np.float32)
    for _ in range(int(rng.choice([0, 1, 2, 3, 6]))):
        kind = str(rng.choice([*IDENTIFIERS, "marker"]))
        word = str(rng.choice(MARKERS)) if kind == "marker" else IDENTIFIERS[kind](rng)
        large = rng.random() < 0.08
        size = rng.uniform(30, 80) if large else np.exp(rng.uniform(np.log(7), np.log(32)))
        font = font_of(rng, faces, size * finer)
        angle = float(rng.normal(0, 12)) if rng.random() < 0.25 else 0.0
        one = burn(
            image, word[:3] if large else word, kind, font, str(rng.choice(STYLES)), rng, taken, angle, (36, 255)
        )
        if one is not None:
            m = max(3, one.size // 5)
            rows, columns = slice(one.top, one.top + one.height), slice(one.left, one.left + one.width)
            counts[max(one.top - m, 0) : rows.stop + m, max(one.left - m, 0) : columns.stop + m] = 0
            if not large:
                text[rows, columns] = counts[rows, columns] = 1
    grey = spoiled(rng, image)
    if finer == 2:
        grey, text, counts = halved(grey), text[::2, ::2], counts[::2, ::2]
    n = SIDE // CELL
    share, sure = (a.reshape(n, CELL, n, CELL).mean(axis=(1, 3)) for a in (text, counts))
    weight = (((share > 0.5) | (share == 0)) & (sure > 0.99)) | (share > 0.6)
    return grey, (share > 0.5).astype(np.float32), weight.astype(np.float32)


class Cells(nn.Module):
    """Strokes (N, 2, H, W) and their cells to logits of text (N, 1, H / 4, W / 4)."""

    def __init__(self) -> None:
        super().__init__()
        middle = [nn.Conv2d(20 if k == 0 else 28, 28, 3, 1, d, d) for k, d in enumerate(DILATIONS)]
        self.c = nn.ModuleList([nn.Conv2d(2, 10, 5, 2, 2), nn.Conv2d(10, 20, 3, 2, 1), *middle, nn.Conv2d(28, 1, 1)])

    def forward(self, x: Tensor, cells: Tensor) -> Tensor:
        x = F.relu(self.c[1](F.relu(self.c[0](x)))) * cells
        for layer in self.c[2:5]:
            x = F.relu(layer(x)) * cells
        return self.c[5](x)


def cell_batch(pool: list[tuple[np.ndarray, ...]], rng: np.random.Generator, n: int) -> list[Tensor]:
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for k in rng.integers(0, len(pool), n):
        turns, flip = int(rng.integers(4)), rng.random() < 0.3
        grey, text, weight = (np.ascontiguousarray(np.rot90(a[:, ::-1] if flip else a, turns)) for a in pool[k])
        s = strokes(255 - grey if rng.random() < 0.25 else grey)
        for column, value in zip(
            columns, (np.stack([s.bright, s.dark]), s.cells[None], text[None], weight[None]), strict=True
        ):
            column.append(value.astype(np.float32))
    return [torch.from_numpy(np.stack(column)) for column in columns]


def schedule(optimiser: torch.optim.Optimizer, rate: float, minutes: float) -> Iterator[int]:
    """Steps until the minutes are over; the learning rate warms up and falls along a cosine."""
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 50 + 0.05) * (0.5 + 0.5 * np.cos(np.pi * done) + 0.01)
        yield step
        step += 1


def train_cells(images: Bank, minutes: float, seed: int, start: Path | None, out: Path) -> None:
    rng, faces = np.random.default_rng(seed), taught_fonts()
    torch.manual_seed(seed)
    net = Cells()
    if start:
        net.load_state_dict(torch.load(start))
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-4)
    pool = [crop(rng, images, faces) for _ in range(600)]
    for step in schedule(optimiser, 3e-3, minutes):
        if step % 10 == 0:
            pool = (pool + [crop(rng, images, faces) for _ in range(50)])[-3000:]
        x, cells, text, weight = cell_batch(pool, rng, 16)
        weight = weight * cells
        loss = F.binary_cross_entropy_with_logits(net(x, cells), text, reduction="none") * weight * (1 + 1.5 * text)
        mean = loss.sum() / weight.sum()
        optimiser.zero_grad()
        mean.backward()
        optimiser.step()
        if step % 100 == 0:
            print(step, mean.item(), flush=True)
            torch.save(net.state_dict(), out)
    torch.save(net.state_dict(), out)


def near_miss(rng: np.random.Generator) -> str:
    """A marker with a letter changed, put before or after it, a number behind it, or only its beginning."""
    word = str(rng.choice(sorted(VOCABULARY)))
    one = str(rng.choice(list(string.ascii_uppercase) if rng.random() < 0.6 else list(string.digits)))
    at = int(rng.integers(len(word)))
    ways = (
        word[:at] + one + word[at + 1 :],
        word + one,
        one + word,
        f"{word}{rng.integers(1, 999)}",
        word[: max(2, at)],
    )
    return ways[int(rng.integers(5))]


def word_of(rng: np.random.Generator) -> tuple[str, bool]:
    """A word and whether it is a marker."""
    while True:
        u = rng.random()
        if u < 0.5:
            word = str(rng.choice(["L", "R", "AP", "PA"] if u < 0.24 else sorted(VOCABULARY)))
            if len(word) > 2 and rng.random() < 0.15:
                word = word.title() if rng.random() < 0.5 else word.lower()
            return word, True
        if u < 0.62:
            word = near_miss(rng)
        else:
            word = IDENTIFIERS[str(rng.choice(list(IDENTIFIERS)))](rng)
            word = str(rng.choice(word.split())) if rng.random() < 0.5 else word
            if rng.random() < 0.35 and len(word) > 2:
                at = int(rng.integers(0, len(word) - 1))
                word = word[at : at + int(rng.integers(1, 4))]
        if word.strip() and word.strip().upper().replace(".", "") not in VOCABULARY:
            return word, False


def shape(image: np.ndarray, kind: str, corners: tuple[float, float, float, float], value: float) -> None:
    """Fills an ellipse or a rounded plate between two corners (top, left, bottom, right) of the float32 ``image``."""
    canvas = Image.new("L", (image.shape[1] * 3, image.shape[0] * 3))
    top, left, bottom, right = (3 * v for v in corners)
    if kind == "ellipse":
        ImageDraw.Draw(canvas).ellipse([left, top, right, bottom], fill=255)
    else:
        ImageDraw.Draw(canvas).rounded_rectangle([left, top, right, bottom], 0.45 * (right - left), fill=255)
    mask = np.asarray(canvas.resize(image.shape[::-1], Image.Resampling.BOX)) / 255.0
    image += (mask * (value - image)).astype(np.float32)


def plate(rng: np.random.Generator, image: np.ndarray, letter: np.ndarray, box: tuple[int, int, int, int]) -> None:
    """A bright plate out of which ``letter`` (its ink, 0 to 1) is cut, whole or with the bars of a stencil."""
    top, left, bottom, right = box
    high, wide = bottom - top, right - left
    room = wide * rng.uniform(0.12, 0.5)
    above, below = high * rng.uniform(0.08, 2.5), high * rng.uniform(0.08, 0.5)
    if rng.random() < 0.5:
        above, below = below, above
    ground, value = float(np.median(image)), float(rng.uniform(150, 255))
    shape(image, "plate", (top - above, left - room, bottom + below, right + room), value)
    cut_out = letter.copy()
    if rng.random() < 0.5:
        width = max(1, round(wide * rng.uniform(0.05, 0.14)))
        at = int(rng.integers(wide // 4, max(3 * wide // 4, wide // 4 + 1)))
        cut_out[:, at : at + width] = 0
    image[top:bottom, left:right] += cut_out * (
        min(ground, 0.6 * value) * rng.uniform(0, 1) - image[top:bottom, left:right]
    )


def real_patch(rng: np.random.Generator, images: Bank) -> tuple[np.ndarray, float, int]:
    """As :func:`word_patch`, of a spot that a person named."""
    while True:
        label = images.label(rng)
        picture, spot = images.one(rng, label)
        zoom = float(np.exp(rng.uniform(np.log(0.75), np.log(1.3))))
        rows, columns = (int(zoom * n) + 48 for n in (spot.bottom - spot.top, spot.right - spot.left))
        image, _, (top, left) = cut(rng, picture, rows, columns, zoom, spot)
        box = [zoom * v for v in (spot.top - top, spot.left - left, spot.bottom - top, spot.right - left)]
        if label in ("L", "R") and rng.random() < 0.15:
            image, label = image[:, ::-1], f"{label} mirrored"
            box[1], box[3] = columns - box[3], columns - box[1]
        made = _as_seen(rng, spoiled(rng, image), box, CLASSES.index(label))
        if made is not None:
            return made


def word_patch(rng: np.random.Generator, images: Bank, faces: list[Path]) -> tuple[np.ndarray, float, int]:
    """A patch as the reader sees it, its aspect and its class."""
    while True:
        made = _word_patch(rng, images, faces)
        if made is not None:
            return made


def _word_patch(rng: np.random.Generator, images: Bank, faces: list[Path]) -> tuple[np.ndarray, float, int] | None:
    empty = rng.random() < 0.15
    word, marker = ("", False) if empty else word_of(rng)
    size = float(np.exp(rng.uniform(np.log(8), np.log(70))))
    columns = int(np.clip(size * (3 + 0.8 * max(len(word), 3)), 64, 440))
    rows = columns if empty else int(np.clip(size * 3, 48, 300))
    image, own, _ = cut(rng, images.any(rng), rows, columns, float(np.exp(rng.uniform(np.log(0.6), np.log(1.6)))))
    if (own != NONE).mean() > 0.02:
        return None
    for _ in range(int(rng.choice([0, 1, 1, 2])) if empty else rng.random() < 0.15):
        device(image, rng, kind=int(rng.choice(ARROWS)) if empty and rng.random() < 0.4 else None)
    box, mirrored = None, False
    if not empty:
        font = font_of(rng, faces, max(size, 8))
        if font.getmask(word).getbbox() is None:
            return None
        angle = float(np.clip(rng.normal(0, 10 if len(word) < 3 else 2), -25, 25)) if rng.random() < 0.35 else 0.0
        mirrored = word in ("L", "R") and rng.random() < 0.12
        at, style, radius, centre, least = None, str(rng.choice(STYLES)), 0.0, (rows / 2, columns / 2), 36
        high, wide = ink_mask(word, font, angle).shape
        form = rng.random() if word in ("L", "R") and not mirrored else 1.0
        if form < 0.3:
            radius, edge = max(high, wide) * rng.uniform(0.72, 1), max(1, size / rng.uniform(8, 20))
            if radius + 3 > min(centre):
                return None
            dark = rng.random() < 0.8
            for r, value in ((radius + 0.7 * edge, 0), (radius, 230), (radius - edge, rng.uniform(0, 40))):
                corners = centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r
                shape(image, "ellipse", corners, value if dark else 255 - value)
            at, style, least = (int(centre[0] - high / 2), int(centre[1] - wide / 2)), "bright" if dark else "dark", 120
        if mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
        if 0.3 <= form < 0.55:
            top, left = int(centre[0] - high / 2), int(centre[1] - wide / 2)
            if min(top, left) < 3:
                return None
            box = [top, left, top + high, left + wide]
            plate(rng, image, ink_mask(word, font, angle), (top, left, top + high, left + wide))
        else:
            one = burn(image, word, "marker", font, style, rng, None, angle, (least, 255), at=at)
            if one is None:
                return None
            box = [one.top, one.left, one.top + one.height, one.left + one.width]
        if mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
            box[1], box[3] = columns - box[3], columns - box[1]
        if radius:
            box = [
                int(centre[0] - radius),
                int(centre[1] - radius),
                int(centre[0] + radius) + 1,
                int(centre[1] + radius) + 1,
            ]
    kind = (CLASSES.index(f"{word} mirrored" if mirrored else word.upper()) if marker else OTHER) if box else NOTHING
    return _as_seen(rng, spoiled(rng, image), box, kind)


def _as_seen(
    rng: np.random.Generator, grey: np.ndarray, box: list[float] | None, kind: int
) -> tuple[np.ndarray, float, int] | None:
    """Strokes of what lies in ``box``, or of any ink where it is None, at a size at which it would be read."""
    level = 0
    thick = 0 if box is None else min(box[2] - box[0], box[3] - box[1])
    while thick / (1 << level) > 24 or (thick / (1 << level) > 13 and rng.random() < 0.25):
        level += 1
        grey = halved(grey)
    s = strokes(padded(grey))
    poles = [(s.bright, s.dark), (s.dark, s.bright)]
    if box is None:
        mask = (np.maximum(s.bright, s.dark) >= INK) & (s.contrast > 20)
        found = ndimage.find_objects(ndimage.label(ndimage.binary_dilation(mask, np.ones((3, 3))))[0])
        if not found:
            return None
        where = found[int(rng.integers(len(found)))]
        inner = [where[0].start + 1, where[1].start + 1, where[0].stop - 1, where[1].stop - 1]
        pole = poles[int(rng.integers(2))]
    else:
        true = np.array(box) / (1 << level)
        room = rng.integers(0, 4, 4) * (rng.random() < 0.7) + 1
        first, last = np.floor(true[:2]).astype(int) - room[:2], np.floor(true[2:]).astype(int) + 1 + room[2:]
        near = max(int(first[0]), 0), max(int(first[1]), 0), int(last[0]), int(last[1])
        ways = [
            (inner, p) for p in poles if (inner := tight((p[0] >= TIGHT) & (s.contrast >= NOISE), near)) is not None
        ]
        if not ways:
            return None
        if kind < OTHER:
            inner, pole = min(ways, key=lambda w: float(np.abs(np.array(w[0]) - true).sum()))
        else:
            inner, pole = ways[int(rng.integers(len(ways)))]
    jitter = rng.integers(-1, 2, 4) * (rng.random() < 0.3)
    top, left, bottom, right = (int(v) for v in np.array(inner) + jitter)
    patch = patch_of(*pole, (max(top, 0), max(left, 0), bottom, right))
    if min(patch.shape[:2]) < 3:
        return None
    turns = 0
    if kind in (OTHER, NOTHING):
        turns = int(rng.integers(4)) if rng.random() < 0.6 else 0
    elif rng.random() < 0.15:
        turns, kind = int(rng.integers(1, 4)), OTHER
    patch = np.rot90(patch, turns)
    if kind in (OTHER, NOTHING) and rng.random() < 0.1:
        patch = patch[:, ::-1]
    return resized(patch), patch.shape[1] / patch.shape[0], kind


class Words(nn.Module):
    """Patches (N, 2, 16, 64) and aspects (N,) to logits of ``CLASSES``."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise((2, *WIDTHS))])
        self.l = nn.ModuleList([nn.Linear(WIDTHS[-1] * 16 + 1, HIDDEN), nn.Linear(HIDDEN, len(CLASSES))])

    def forward(self, x: Tensor, aspects: Tensor) -> Tensor:
        for layer in self.c:
            x = F.relu(layer(x))
        x = torch.cat([x.permute(0, 2, 3, 1).flatten(1), aspects[:, None].log()], dim=1)
        return self.l[1](F.relu(self.l[0](F.dropout(x, 0.2, self.training))))


def train_words(images: Bank, minutes: float, seed: int, start: Path | None, out: Path) -> None:
    rng, faces = np.random.default_rng(seed), taught_fonts()
    torch.manual_seed(seed)
    net = Words()
    if start:
        net.load_state_dict(torch.load(start))
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    known = bool(images.spots.keys() - {"unknown"})
    pool = [word_patch(rng, images, faces) for _ in range(1200)]
    real = [real_patch(rng, images) for _ in range(500 * known)]
    for step in schedule(optimiser, 2e-3, minutes):
        if step % 8 == 0:
            pool = (pool + [word_patch(rng, images, faces) for _ in range(32)])[-40000:]
            real = (real + [real_patch(rng, images) for _ in range(16 * known)])[-8000:]
        taken = [pool[k] for k in rng.integers(0, len(pool), 128)] + pool[-32:]
        taken += [real[k] for k in rng.integers(0, max(len(real), 1), REAL * known)]
        patches = torch.from_numpy(np.stack([p[0] for p in taken])).permute(0, 3, 1, 2)
        aspects, kinds = torch.tensor([p[1] for p in taken]).float(), torch.tensor([p[2] for p in taken])
        losses = F.cross_entropy(net(patches, aspects), kinds, reduction="none")
        optimiser.zero_grad()
        losses.mean().backward()
        optimiser.step()
        if step % 100 == 0:
            print(step, losses[:160].mean().item(), losses[160:].mean().item(), flush=True)
            torch.save(net.state_dict(), out)
    torch.save(net.state_dict(), out)


def write(cells: Path, words: Path, record: dict[str, Any], out: Path) -> None:
    """The arrays that ``raddino.inspection.text_network`` reads, in float16, with the record."""
    c, w = torch.load(cells), torch.load(words)
    arrays: dict[str, Tensor] = {}
    for name, state, n in (("cells", c, 5), ("words", w, 3)):
        for k in range(n):
            arrays[f"{name}.{k}.w"] = state[f"c.{k}.weight"].permute(2, 3, 1, 0)
            arrays[f"{name}.{k}.b"] = state[f"c.{k}.bias"]
    arrays |= {"cells.5.w": c["c.5.weight"].flatten(), "cells.5.b": c["c.5.bias"].flatten()}
    for k in range(2):
        arrays |= {f"words.{3 + k}.w": w[f"l.{k}.weight"].T, f"words.{3 + k}.b": w[f"l.{k}.bias"]}
    text = np.frombuffer(json.dumps({"classes": CLASSES, **record}).encode(), np.uint8)
    half = {k: np.ascontiguousarray(v.numpy()).astype(np.float16) for k, v in arrays.items()}
    np.savez_compressed(out, record=text, **half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cells", "words", "write"))
    parser.add_argument("inputs", type=Path, nargs="+", help="DATA, or cells.pt words.pt")
    parser.add_argument("--regions", type=Path, help="CSV of regions that a person named")
    parser.add_argument("--start", type=Path, help="weights to begin with")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", default="{}", help="JSON that ships with the weights")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "write":
        write(args.inputs[0], args.inputs[1], json.loads(args.record), args.out)
    else:
        train = train_cells if args.what == "cells" else train_words
        train(Bank(bank(args.inputs[0], args.regions)), args.minutes, args.seed, args.start, args.out)


if __name__ == "__main__":
    main()
