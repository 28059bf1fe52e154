"""What ``prepare`` may do to images before they are packed: put upright what is surely turned, blank burned-in text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raddino.corpus.pack import Record
from raddino.corpus.render import Rendered, digest, joint_digest
from raddino.corpus.shards import decode_png, encode_png
from raddino.errors import ConfigError, counted
from raddino.images.errors import ImageError, NotARadiograph
from raddino.inspection.geometry import SURE, Geometry, sure_move
from raddino.inspection.moves import MOVES, Move
from raddino.inspection.text import ENGINES, POLICIES, STROKES, apply_policy, check_known

FIXES = ("geometry",)
SET_ASIDE = "text in the picture that may name the patient"


@dataclass(frozen=True)
class Mending:
    """Callable that :func:`raddino.corpus.prepare.prepare` takes as ``mend``.

    Args:
        fix: of :data:`FIXES`. ``"geometry"`` undoes quarter turns and inversion that are seen with at least the
            probability of :data:`raddino.inspection.geometry.SURE`; a mirrored picture may be dextrocardia and stays.
        text: ``"keep"``, ``"blank"`` or ``"quarantine"``, see :func:`raddino.inspection.text.apply_policy`.
        engine: that looks for text.

    Raises:
        ConfigError: an unknown fix, policy or engine, or an engine for text that is kept.
    """

    fix: tuple[str, ...] = ()
    text: str = "keep"
    engine: str = STROKES

    def __post_init__(self) -> None:
        words = [*(("fix", name, FIXES) for name in self.fix), ("text policy", self.text, POLICIES)]
        for kind, name, known in [*words, ("text engine", self.engine, tuple(ENGINES))]:
            check_known(kind, name, known)
        if self.text == "keep" and self.engine != STROKES:
            raise ConfigError(
                f"the text engine {self.engine!r} has nothing to do: give --text blank or quarantine, or --inspect"
            )

    @property
    def settings(self) -> Record:
        """What is done, for ``corpus.json``."""
        sure = {name: SURE[name] for name in ("turned", "inverted")} if self.fix else {}
        return {"fix": list(self.fix), "sure": sure, "text": self.text, "engine": self.engine}

    def __call__(self, images: list[tuple[Rendered, Record]]) -> list[tuple[Rendered, Record] | ImageError]:
        """Images and rows after it, or why one is set aside; ``mended`` in the row says what was done."""
        upright = self._put_right(images) if "geometry" in self.fix and images else images
        return [image if self.text == "keep" else self._without_text(*image) for image in upright]

    def _put_right(self, images: list[tuple[Rendered, Record]]) -> list[tuple[Rendered, Record]]:
        pixels = [decode_png(rendered.png, rendered.shape) for rendered, _ in images]
        measured = Geometry().measure(pixels)
        return [_turned(*image, grey, told) for image, grey, told in zip(images, pixels, measured, strict=True)]

    def _without_text(self, rendered: Rendered, row: Record) -> tuple[Rendered, Record] | ImageError:
        kept, record = apply_policy(decode_png(rendered.png, rendered.shape), self.text, self.engine)
        if kept is None:
            return NotARadiograph(SET_ASIDE)
        if record["text_done"] != "blanked":
            return rendered, row
        places = sum(box["kind"] == "identifier" for box in record["text_boxes"])
        changed = replace(rendered, png=encode_png(kept), sha256=digest(kept))
        return changed, _noted(
            {**row, "sha256": changed.sha256}, "text was blanked", f"text was blanked in {counted(places, 'place')}"
        )


def mending(fix: tuple[str, ...], text: str, engine: str, inspected: bool) -> Mending | None:
    """What the options of ``prepare`` ask for, None for nothing; where the corpus is ``inspected`` at the end, the
    engine has something to do without a policy too.

    Raises:
        ConfigError: see :class:`Mending`.
    """
    check_known("text engine", engine, ENGINES)
    chosen = Mending(fix, text, engine if text != "keep" or not inspected else STROKES)
    return None if chosen == Mending() else chosen


def _turned(rendered: Rendered, row: Record, pixels: np.ndarray, measured: dict[str, Any]) -> tuple[Rendered, Record]:
    move, probability = sure_move(measured)
    if move == MOVES[0]:
        return rendered, row
    upright = np.ascontiguousarray(move.undo(pixels))
    masks = {name: _unplaced(png, rendered.shape, move) for name, png in rendered.masks.items()}
    words = f"the picture was {move.words} and was put right"
    turned = replace(
        rendered,
        png=encode_png(upright),
        shape=(upright.shape[0], upright.shape[1]),
        sha256=digest(upright),
        masks={name: encode_png(mask) for name, mask in masks.items()},
        sha256_masks=joint_digest(masks) if masks else None,
    )
    changed = {"height": turned.shape[0], "width": turned.shape[1], "sha256": turned.sha256}
    changed["sha256_masks"] = turned.sha256_masks
    return turned, _noted({**row, **changed}, words, f"{words}, {probability:.4f} sure")


def _unplaced(png: bytes, shape: tuple[int, int], move: Move) -> np.ndarray:
    return np.ascontiguousarray(move.unplace(decode_png(png, shape)))


def _noted(row: Record, warning: str, mended: str) -> Record:
    """The row with a note in fixed words among its warnings, and with all that was done in ``mended``."""
    return row | {
        name: "; ".join(filter(None, (row[name], words))) for name, words in (("warnings", warning), ("mended", mended))
    }
