"""Real images to train the text detector on, each with what a person said of the regions that were found in it.

The list of regions is a CSV with a row each: ``index`` of the image's row in the manifest, ``top``, ``left``,
``height`` and ``width`` in pixels at a shorter side of 518, and ``label``: a marker, ``"other"`` text, ``"nothing"``,
or ``"unknown"``, which is learned as neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SHORTER_SIDE = 518
VALIDATED = ("Free",)
NONE, UNKNOWN, TEXT = 0, 1, 2
SMALLEST, LARGEST = 6, 34


@dataclass(frozen=True)
class Spot:
    """A region of a picture, rows ``top`` to ``bottom``, columns ``left`` to ``right``, and what it shows."""

    top: int
    left: int
    bottom: int
    right: int
    label: str

    @property
    def thick(self) -> int:
        return min(self.bottom - self.top, self.right - self.left)


@dataclass(frozen=True)
class Picture:
    """A grey image (H, W) of uint8 and its spots."""

    grey: np.ndarray
    spots: list[Spot] = field(default_factory=list)


def sized(path: Path) -> np.ndarray:
    """The image in grey, shorter side 518 pixels."""
    with Image.open(path) as opened:
        image = opened.convert("L")
    scale = SHORTER_SIDE / min(image.size)
    size = tuple(round(s * scale) for s in image.size)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC) if image.size != size else image)


def validates(patient: str) -> bool:
    """Whether a patient's images are kept from training, to choose limits on: one in five, by name."""
    return sum(patient.encode()) % 5 == 0


def training_rows(data: Path, validation: bool = False) -> pd.DataFrame:
    """Rows of the manifest: Kermany and the training split of NIH, without or only the patients kept to validate."""
    rows = pd.read_csv(data / "manifest.csv", low_memory=False)
    rows = rows[(rows["source"] == "kermany") | ((rows["source"] == "nih") & (rows["split"] == "train"))]
    return rows[rows["patient_id"].astype(str).map(validates) == validation]


def bank(data: Path, regions: Path) -> list[Picture]:
    """The pictures to train on, with their spots."""
    listed = {k: g for k, g in pd.read_csv(regions).groupby("index")}
    out = []
    for row in training_rows(data).itertuples():
        found = listed.get(row.Index)
        spots = [] if found is None else [
            Spot(r.top, r.left, r.top + r.height, r.left + r.width, r.label) for r in found.itertuples()
        ]  # fmt: skip
        out.append(Picture(sized(data / row.path), spots))
    return out


def cut(
    rng: np.random.Generator, picture: Picture, rows: int, columns: int, zoom: float, near: Spot | None = None
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """A part of a picture at ``zoom``, (rows, columns) float32 with random contrast, with the spot ``near`` inside.

    The second array says where the part holds ``NONE``, ``TEXT`` of its own of a size that the network looks for, or
    what is ``UNKNOWN``; then come the row and column of the picture at which the part begins.
    """
    grey, shift = picture.grey, [0, 0]
    need = int(np.ceil(rows / zoom)), int(np.ceil(columns / zoom))
    room = [(max(0, n - s), 0)[:: 1 if rng.random() < 0.5 else -1] for n, s in zip(need, grey.shape, strict=True)]
    if any(map(any, room)):
        grey = np.pad(grey, room, mode="edge" if rng.random() < 0.5 else "constant")
        shift = [room[0][0], room[1][0]]
    start = []
    for axis, (n, size) in enumerate(zip(need, grey.shape, strict=True)):
        if near is None:
            at = int(rng.choice([0, size - n]) if rng.random() < 0.3 else rng.integers(0, size - n + 1))
        else:
            first, last = ((near.top, near.bottom), (near.left, near.right))[axis]
            low, high = sorted((last + shift[axis] - n, first + shift[axis]))
            at = int(np.clip(rng.integers(low, high + 1), 0, size - n))
        start.append(at)
    part = np.s_[start[0] : start[0] + need[0], start[1] : start[1] + need[1]]
    image = Image.fromarray(grey[part]).resize((columns, rows), Image.Resampling.BICUBIC)
    out = np.asarray(image).astype(np.float32)
    if rng.random() < 0.5:
        out = np.clip((out - 128) * rng.uniform(0.4, 1) + 98 + rng.uniform(0, 60), 0, 255)
    first = start[0] - shift[0], start[1] - shift[1]
    return out, _own(picture.spots, (rows, columns), zoom, first), first


def _own(spots: list[Spot], shape: tuple[int, int], zoom: float, start: tuple[int, int]) -> np.ndarray:
    own = np.zeros(shape, dtype=np.uint8)
    for margin in (True, False):
        for spot in spots:
            text = spot.label not in ("nothing", "unknown")
            if spot.label == "nothing" or not (margin or (text and SMALLEST <= spot.thick * zoom <= LARGEST)):
                continue
            m = max(3, int(spot.thick * zoom / 4)) if margin else 0
            top, bottom = ((v - start[0]) * zoom for v in (spot.top, spot.bottom))
            left, right = ((v - start[1]) * zoom for v in (spot.left, spot.right))
            rows = slice(max(int(top) - m, 0), max(int(bottom) + m, 0))
            columns = slice(max(int(left) - m, 0), max(int(right) + m, 0))
            own[rows, columns] = UNKNOWN if margin else TEXT
    return own
