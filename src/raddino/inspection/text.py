"""Text in the pixels of a radiograph: found, told apart, and kept, blanked or set aside.

Side and projection markers (L, R, AP, PORTABLE, ...) are kept. What is not surely read as a marker is an identifier.
Words that were read are in memory only: no record holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy import ndimage

from raddino.errors import ConfigError, did_you_mean
from raddino.inspection import text_find, text_ocr
from raddino.inspection.text_regions import Region

STROKES = "strokes"
"""The built-in engine."""
ENGINES: dict[str, Callable[[np.ndarray], list[Region]]] = {
    STROKES: text_find.find,
    "both": text_ocr.both,
    "rapidocr": text_ocr.rapidocr,
    "tesseract": text_ocr.tesseract,
}
POLICIES = ("keep", "blank", "quarantine")
ROUNDS = 4
MARGIN = 3


class TextError(ConfigError):
    """An image, engine or policy that the inspection of text does not take."""


def _checked(image: np.ndarray) -> None:
    if (
        not isinstance(image, np.ndarray)
        or image.ndim != 2
        or image.dtype not in (np.uint8, np.uint16)
        or not image.size
    ):
        is_ = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise TextError(f"an image is a grey array (H, W) of uint8 or uint16, not {is_}: convert it first")


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name of a ``kind``, for example ``"text engine"``, that is none of those known.

    Raises:
        TextError: with the nearest known name.
    """
    names = list(known)
    if name not in names:
        raise TextError(f"unknown {kind} {name!r}.{did_you_mean(name, names)} Known: {', '.join(names)}")


def find_text(image: np.ndarray, engine: str = STROKES) -> list[Region]:
    """Regions with text in a grey image (H, W) of uint8 or uint16, each a marker or an identifier.

    ``engine``: ``"strokes"`` (built in), ``"rapidocr"`` (extra ``ocr``), ``"both"`` (rapidocr reads what the first has
    found), or ``"tesseract"`` (the program).
    Raises ``TextError`` for another image or engine, ``OcrError`` where an engine is missing.
    """
    _checked(image)
    check_known("text engine", engine, ENGINES)
    return ENGINES[engine](image)


def blank(image: np.ndarray, regions: Iterable[Region]) -> np.ndarray:
    """A copy in which the boxes of identifiers, with a margin, are filled from the ring around them.

    A box takes, pixel by pixel, means of the four nearest pixels outside along its row and column, weighted by
    closeness, smoothed; markers, and all outside the boxes, keep their values.
    """
    _checked(image)
    out = image.copy()
    hole = holes(image.shape, regions)
    labels, n = ndimage.label(hole, np.ones((3, 3)))
    if n == 0:
        return out
    smooth = ndimage.median_filter(image, size=5, mode="nearest")
    for k, where in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = (slice(max(w.start - 2, 0), w.stop + 2) for w in where)
        inside = labels[rows, columns] == k
        free = hole[rows, columns]
        out[rows, columns][inside] = (
            _filled(smooth[rows, columns].astype(np.float64), free)[inside].round().astype(image.dtype)
        )
    return out


def holes(shape: tuple[int, ...], regions: Iterable[Region]) -> np.ndarray:
    """(H, W) bool: what :func:`blank` fills, the boxes of identifiers with a margin, without those of markers."""
    hole = np.zeros(shape, dtype=bool)
    ordered = sorted(regions, key=lambda r: r.kind == "marker")
    for r in ordered:
        margin = MARGIN + min(r.height, r.width) // 6 if r.kind == "identifier" else 0
        box = np.s_[max(r.top - margin, 0) : r.bottom + margin, max(r.left - margin, 0) : r.right + margin]
        hole[box] = r.kind == "identifier"
    return hole


def _filled(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """``values`` with the pixels of ``hole`` interpolated from the nearest ones outside in four directions."""
    if hole.all():
        return np.zeros_like(values)
    total, weight = np.zeros_like(values), np.zeros_like(values)
    for axis in (0, 1):
        for flip in (False, True):
            v, h = (np.flip(a, axis) if flip else a for a in (values, hole))
            index = np.arange(v.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
            last = np.maximum.accumulate(np.where(h, -1, index), axis=axis)
            near = np.take_along_axis(v, np.maximum(last, 0), axis=axis)
            w = np.where(last >= 0, 1.0 / np.maximum(index - last, 1), 0.0)
            near, w = (np.flip(a, axis) if flip else a for a in (near, w))
            total += near * w
            weight += w
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    means = np.where(weight > 0, total / np.maximum(weight, 1e-12), values[tuple(nearest)])
    soft = ndimage.uniform_filter(np.where(hole, means, values), 5, mode="nearest")
    return np.where(hole, soft, values)


def apply_policy(
    image: np.ndarray, policy: str, engine: str = STROKES, find: Callable[[np.ndarray], list[Region]] | None = None
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The image under ``policy``, or None where it is set aside, and a record for the manifest.

    ``keep`` changes nothing; ``quarantine`` sets an image with an identifier aside; ``blank`` fills identifiers until
    another look finds none, at most ``ROUNDS`` times, and sets the image aside where that fails. The record has
    ``text_done`` (``"none"``, ``"kept"``, ``"blanked"``, ``"quarantined"``), ``text_engine``, ``text_rounds`` and
    ``text_boxes``: top, left, height, width and kind of each region, never a word. ``find`` replaces the engine.
    """
    _checked(image)
    check_known("text policy", policy, POLICIES)
    look = find or (lambda pixels: find_text(pixels, engine))
    regions = look(image)
    boxes = [_plain(r) for r in regions]
    identifiers = [r for r in regions if r.kind == "identifier"]
    rounds, done = 0, "kept" if regions else "none"
    out: np.ndarray | None = image
    if identifiers and policy == "quarantine":
        out, done = None, "quarantined"
    elif identifiers and policy == "blank":
        done, pixels = "blanked", image
        while identifiers and rounds < ROUNDS:
            pixels = blank(pixels, regions)
            rounds += 1
            regions = look(pixels)
            identifiers = [r for r in regions if r.kind == "identifier"]
            boxes += [_plain(r) for r in identifiers]
        out, done = (None, "quarantined") if identifiers else (pixels, done)
    return out, {"text_done": done, "text_engine": engine, "text_rounds": rounds, "text_boxes": boxes}


def _plain(region: Region) -> dict[str, int | str]:
    return {k: getattr(region, k) for k in ("top", "left", "height", "width", "kind")}
