"""Best, median and worst segmentations: the image with its true and its predicted outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raddino.config import validate
from raddino.errors import RaddinoError
from raddino.look.shown import eight_bit, facts, showable
from raddino.report.style import OUTLINES, data_uri
from raddino.tasks.base import TaskConfig
from raddino.tasks.segmentation.contours import PALETTE
from raddino.tasks.segmentation.settings import SegmentationConfig

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

PLACES = ("best", "median", "worst")
SIDE = 360
"""Longest side of a picture, in pixels."""
TOLERANCE = 0.4
"""Pixels of the mask by which a drawn outline may leave the true one."""


@dataclass(frozen=True)
class Overlay:
    """One case.

    Attributes:
        image: data URI of the whole image.
        width, height: of the mask, in pixels; outlines are in these.
        outlines: of each class its colour, and SVG path data of its true and of its predicted outline.
        place: best, median or worst.
        caption: Dice, and what may be said of the image.
    """

    image: str
    width: int
    height: int
    outlines: tuple[tuple[str, str, str], ...]
    place: str
    caption: str


def overlays(folder: Path, corpus: Corpus, task: TaskConfig) -> list[Overlay]:
    """Pictures of the cases that a segmentation model filed as best, median and worst, in this order.

    Args:
        folder: of the model, see :mod:`raddino.tasks.segmentation.shown`.
        corpus: the one that was measured. Images of credentialed sources are left out.
        task: as the suite has it.

    Raises:
        RaddinoError: the list of cases or a mask is damaged or names what the corpus lacks.
    """
    from raddino.tasks.segmentation.shown import FOLDER, read_bits, read_shown
    from raddino.tasks.segmentation.targets import Targets

    options = validate(SegmentationConfig, task.options)
    targets = Targets(corpus, task.target, options)
    open_rows = set(showable(corpus).tolist())
    ids = corpus.manifest["id"]
    found = []
    for case in _sound(read_shown(folder)):
        row = case["row"]
        if not 0 <= row < len(corpus) or str(ids.iloc[row]) != case["id"]:
            raise RaddinoError("the list of cases names an image that this corpus lacks: evaluate again")
        if row in open_rows:
            bits = read_bits(folder / FOLDER / case["file"], case.get("sha256"))
            found.append(_overlay(corpus, targets, row, case, bits))
    return sorted(found, key=lambda one: PLACES.index(one.place))


def outline(bits: np.ndarray, code: int) -> str:
    """The outlines of one class as SVG path data in pixels; empty where the class is not there.

    Args:
        bits: (H, W) integers, bit c set where class c is present.
        code: of the class.
    """
    from skimage.measure import approximate_polygon, find_contours

    parts = []
    for contour in find_contours(np.pad((bits >> code & 1).astype(np.float32), 1), 0.5):
        points = approximate_polygon(contour - 0.5, TOLERANCE)  # pixel i covers i to i + 1, after one of padding
        parts.append("M" + "L".join(f"{x:.4g} {y:.4g}" for y, x in points) + "Z")
    return "".join(parts)


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """CSS colours by class; none where there is one class, whose true and predicted outlines differ in colour."""
    if len(names) == 1:
        return {}
    return {name: "#{:02x}{:02x}{:02x}".format(*PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)}


def _sound(cases: list[Any]) -> list[dict[str, Any]]:
    for case in cases:
        if not (
            isinstance(case, dict)
            and {"id", "row", "dice", "place", "file"} <= case.keys()
            and case["place"] in PLACES
            and isinstance(case["row"], int)
            and Path(str(case["file"])).name == case["file"]
        ):
            raise RaddinoError("the list of cases is damaged: evaluate again")
    return cases


def _overlay(corpus: Corpus, targets: Any, row: int, case: dict[str, Any], predicted: np.ndarray) -> Overlay:
    true = targets.read(row)
    if true.shape != predicted.shape:
        raise RaddinoError(
            f"a predicted mask is {predicted.shape[1]} x {predicted.shape[0]} pixels, its image's "
            f"{true.shape[1]} x {true.shape[0]}: evaluate again"
        )
    dice = case["dice"]
    words = [f"Dice {dice:.3f}" if isinstance(dice, int | float) and dice == dice else "Dice not defined"]
    words += [said] if (said := facts(corpus, row)) else []
    height, width = true.shape
    colours = list(class_colours(targets.names).values())
    if colours:
        drawn = [(hue, outline(true, code), outline(predicted, code)) for code, hue in enumerate(colours)]
    else:
        drawn = [(OUTLINES["true"], outline(true, 0), ""), (OUTLINES["predicted"], "", outline(predicted, 0))]
    picture = data_uri(eight_bit(corpus.read(row)), SIDE)
    return Overlay(picture, width, height, tuple(drawn), case["place"], ", ".join(words))
