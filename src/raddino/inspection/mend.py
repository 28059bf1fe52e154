"""What ``prepare`` may do to images before they are packed: undo sure turns and inversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raddino.corpus.pack import Record
from raddino.corpus.render import Rendered, digest, joint_digest
from raddino.corpus.shards import decode_png, encode_png
from raddino.errors import ConfigError, did_you_mean
from raddino.images.errors import ImageError
from raddino.inspection.geometry import SURE, Geometry, sure_move
from raddino.inspection.moves import MOVES, Move

FIXES = ("geometry",)


@dataclass(frozen=True)
class Mending:
    """Callable that :func:`raddino.corpus.prepare.prepare` takes as ``mend``.

    Args:
        fix: of :data:`FIXES`. ``"geometry"`` undoes quarter turns and inversion that are seen with at least the
            probability of :data:`raddino.inspection.geometry.SURE`; a mirrored picture may be dextrocardia and stays.

    Raises:
        ConfigError: an unknown fix.
    """

    fix: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.fix:
            if name not in FIXES:
                raise ConfigError(f"unknown fix {name!r}.{did_you_mean(name, FIXES)} Known: {', '.join(FIXES)}")

    @property
    def settings(self) -> Record:
        """What is done, for ``corpus.json``."""
        return {"fix": list(self.fix), "sure": {name: SURE[name] for name in ("turned", "inverted")}}

    def __call__(self, images: list[tuple[Rendered, Record]]) -> list[tuple[Rendered, Record] | ImageError]:
        """Images and rows with what is sure undone; ``mended`` in the row says what was done and how sure it was."""
        if "geometry" not in self.fix or not images:
            return list(images)
        pixels = [decode_png(rendered.png, rendered.shape) for rendered, _ in images]
        measured = Geometry().measure(pixels)
        return [_turned(*image, grey, told) for image, grey, told in zip(images, pixels, measured, strict=True)]


def _turned(rendered: Rendered, row: Record, pixels: np.ndarray, measured: dict[str, Any]) -> tuple[Rendered, Record]:
    move, probability = sure_move(measured)
    if move == MOVES[0]:
        return rendered, row
    upright = np.ascontiguousarray(move.undo(pixels))
    masks = {name: _unplaced(png, rendered.shape, move) for name, png in rendered.masks.items()}
    words = f"was {move.words} and was put right"
    turned = replace(
        rendered,
        png=encode_png(upright),
        shape=(upright.shape[0], upright.shape[1]),
        sha256=digest(upright),
        masks={name: encode_png(mask) for name, mask in masks.items()},
        sha256_masks=joint_digest(masks) if masks else None,
    )
    changed = {"height": turned.shape[0], "width": turned.shape[1], "sha256": turned.sha256}
    changed |= {"sha256_masks": turned.sha256_masks, "mended": f"{words}, {probability:.4f} sure"}
    return turned, {**row, **changed, "warnings": "; ".join(filter(None, (row["warnings"], f"the picture {words}")))}


def _unplaced(png: bytes, shape: tuple[int, int], move: Move) -> np.ndarray:
    return np.ascontiguousarray(move.unplace(decode_png(png, shape)))
