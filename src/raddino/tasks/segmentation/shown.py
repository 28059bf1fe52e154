"""Predicted masks of a few test images, kept beside the model for the report: best, median and worst."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raddino.errors import RaddinoError
from raddino.files import draft_folder, write_text

FOLDER, INDEX = "shown", "shown.json"
PLACES = ("best", "median", "worst")
EACH = 3


def write_bits(path: Path, bits: np.ndarray) -> None:
    """Write class bits (H, W), bit c of 0..23 for class c, as an RGB PNG: bits 0-7 in red, 8-15 green, 16-23 blue."""
    channels = [(bits >> shift & 0xFF).astype(np.uint8) for shift in (0, 8, 16)]
    Image.fromarray(np.stack(channels, axis=-1)).save(path, format="PNG")


def read_bits(path: Path) -> np.ndarray:
    """(H, W) int32 class bits that :func:`write_bits` wrote.

    Raises:
        RaddinoError: the file is missing or no such PNG.
    """
    try:
        red, green, blue = np.moveaxis(np.asarray(Image.open(path).convert("RGB"), dtype=np.int32), -1, 0)
    except (OSError, SyntaxError, ValueError):
        raise RaddinoError(f"{path} is missing or damaged: run evaluate again") from None
    return red | green << 8 | blue << 16


def choose_shown(dice: Sequence[float]) -> dict[str, list[int]]:
    """Positions of at most three best, median and worst of N images by their Dice; an image stands in one place.

    Images whose Dice is not defined (NaN: nothing there, nothing predicted) are not shown.
    """
    values = np.asarray(dice, dtype=np.float64)
    order = [int(at) for at in np.argsort(-values, kind="stable") if np.isfinite(values[at])]
    each = min(EACH, len(order) // 3) or min(1, len(order))
    best, rest = order[:each], order[each:]
    worst = rest[::-1][:each]
    middle = rest[: len(rest) - len(worst)]
    start = max(0, (len(middle) - each) // 2)
    return {"best": best, "median": middle[start : start + each], "worst": worst}


def write_shown(
    folder: Path,
    names: Sequence[str],
    dice: Sequence[float],
    about: Callable[[int], dict[str, Any]],
    predicted: Callable[[int], np.ndarray],
) -> None:
    """Write ``shown/shown.json`` and a PNG of bits for each image that :func:`choose_shown` picks.

    Args:
        folder: of the task's model.
        names: of the classes, in the order of the bits.
        dice: (N,) mean Dice of the test images.
        about: ``id`` and ``row`` of test image i.
        predicted: (H, W) bits of test image i at the mask's own size.
    """
    listed = []
    with draft_folder(folder / FOLDER) as there:
        for place, positions in choose_shown(dice).items():
            for number, at in enumerate(positions):
                file = f"{place}-{number}.png"
                write_bits(there / file, predicted(at))
                said = {"dice": float(dice[at]), "place": place, "file": file, "names": list(names)}
                listed.append({**about(at), **said})
        write_text(there / INDEX, json.dumps(listed, indent=1) + "\n")


def read_shown(folder: Path) -> list[dict[str, Any]]:
    """Entries ``id``, ``row`` (of the corpus), ``dice``, ``place``, ``file`` and ``names``; none where none were kept.

    Raises:
        RaddinoError: the list is damaged.
    """
    index = folder / FOLDER / INDEX
    if not index.is_file():
        return []
    try:
        return list(json.loads(index.read_text()))
    except (ValueError, TypeError):
        raise RaddinoError(f"{index} is damaged: run evaluate again") from None
