"""Predicted masks of a few test images, kept beside the model for the report: best, median and worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Required

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from raddino.errors import RaddinoError
from raddino.files import draft_folder, read_json, sha256, write_json

FOLDER, INDEX = "shown", "shown.json"
PLACES = ("best", "median", "worst")
EACH = 3
AGAIN = "run evaluate again"
LARGEST_IMAGE = 2**27
"""Pixels."""


class Case(TypedDict, total=False):
    """What is kept of an image; see :func:`read_shown`."""

    __pydantic_config__ = ConfigDict(strict=True)  # type: ignore[misc]

    id: Required[str]
    row: Required[Annotated[int, Field(ge=0)]]
    dice: Required[float]
    place: Required[Literal["best", "median", "worst"]]
    file: Required[Annotated[str, Field(pattern=r"^[\w-]+\.png$")]]
    sha256: str
    names: list[str]


CASES = TypeAdapter(list[Case])


def write_bits(path: Path, bits: np.ndarray) -> None:
    """Write class bits (H, W), bit c of 0..23 for class c, as an RGB PNG: bits 0-7 in red, 8-15 green, 16-23 blue."""
    channels = [(bits >> shift & 0xFF).astype(np.uint8) for shift in (0, 8, 16)]
    Image.fromarray(np.stack(channels, axis=-1)).save(path, format="PNG")


def read_bits(path: Path, digest: str | None = None) -> np.ndarray:
    """(H, W) int32 class bits that :func:`write_bits` wrote.

    Args:
        path: of the PNG.
        digest: its SHA-256, None where that is not known.

    Raises:
        RaddinoError: the file is missing, no such PNG, or of another digest.
    """
    try:
        if digest not in (None, sha256(path)):
            raise ValueError
        with Image.open(path, formats=["PNG"]) as image:
            if image.mode != "RGB" or image.width * image.height > LARGEST_IMAGE:
                raise ValueError
            red, green, blue = np.moveaxis(np.asarray(image, dtype=np.int32), -1, 0)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise RaddinoError(f"{path} is missing or damaged: {AGAIN}") from None
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
                said = {"dice": float(dice[at]), "place": place, "file": file, "sha256": sha256(there / file)}
                listed.append({**about(at), **said, "names": list(names)})
        write_json(there / INDEX, {"cases": listed})


def read_shown(folder: Path) -> list[Case]:
    """What :func:`write_shown` kept, ``row`` counting in the corpus; nothing where nothing was kept.

    Raises:
        RaddinoError: the list is damaged.
    """
    index = folder / FOLDER / INDEX
    if not index.is_file():
        return []
    try:
        return CASES.validate_python(read_json(index, AGAIN).get("cases"))
    except ValueError:
        raise RaddinoError(f"{index} is damaged: {AGAIN}") from None
