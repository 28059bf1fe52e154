"""Masks of a corpus as one array of bits an image, whatever their coding.

Bit c (0 to 23) of a pixel is set where class c is present; a pixel to be ignored is :data:`IGNORE` and nothing else.
Background is 0.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raddino.corpus.where import query
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.progress import track
from raddino.tasks.base import Absent
from raddino.tasks.segmentation.settings import SegmentationConfig

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

IGNORE = 1 << 30
MASK_VALUES = 1 << 16
NO_CLASS = -1
BIT_FIELD = "bitfield:"
UNSAID = "not said"

Bits = NDArray[np.int32]


class Targets:
    """What is to be segmented in the images of one corpus. Picklable.

    Attributes:
        names: of the classes; the position is the bit.
        exclusive: a pixel belongs to one class at most.
        mirror: pairs of positions that change places in the mirror image; None where flips are forbidden.

    Args:
        corpus: where the masks lie.
        column: mask column, with or without ``mask_``; with the coding ``"columns"`` the classes name them instead.
        config: how they are read.

    Raises:
        Absent: the corpus has no such mask column.
        ConfigError: a mask value stands for two things.
    """

    def __init__(self, corpus: Corpus, column: str, config: SegmentationConfig) -> None:
        self.corpus, self.config = corpus, config
        self.names, self.exclusive = tuple(config.classes), config.exclusive
        at = {name: position for position, name in enumerate(self.names)}
        self.mirror = None if config.mirror is None else tuple((at[a], at[b]) for a, b in config.mirror)
        self._tables = _tables(column, config)
        self._pixels: dict[int, np.ndarray] = {}
        known = [str(name) for name in corpus.manifest if str(name).startswith("mask_")]
        for name in self._tables:
            if name not in known:
                raise Absent(f"the corpus has no column {name!r}.{did_you_mean(name, known)}")

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Those of ``rows`` with every mask file, or known to be empty where one is missing; order is kept.

        Raises:
            ConfigError: the query ``empty`` does not hold for this corpus.
        """
        present = self.corpus.manifest[list(self._tables)].notna().all(axis=1).to_numpy()
        return rows[(present | self._known_empty)[rows]]

    def conventions(self, rows: np.ndarray) -> dict[str, dict[str, list[str]]]:
        """How the masks of ``rows`` are drawn where that is not one way: by mask column, convention and sources.

        Nothing is said of a mask whose convention no source tells; with one that does, silence is a convention too.
        """
        sources = sorted(set(self.corpus.manifest["source"].iloc[rows].astype(str)))
        parts = getattr(self.corpus, "parts", [self.corpus])
        found: dict[str, dict[str, list[str]]] = {}
        for column in self._tables:
            told = [part.info.get("conventions", {}).get(column.removeprefix("mask_"), {}) for part in parts]
            drawn: dict[str, list[str]] = {}
            for source in sources:
                for words in sorted({word for one in told for word in one.get(source, ())}) or [UNSAID]:
                    drawn.setdefault(words, []).append(source)
            if len(drawn) > 1:
                found[column] = drawn
        return found

    def read(self, row: int) -> Bits:
        """The mask of an image at the image's own size, (H, W) int32.

        Raises:
            RaddinoError: the mask is missing and not known to be empty, has not the image's size, or holds a value
                that is no class, not ignored and not 0 (the background).
        """
        shape = self._shape(row)
        bits = np.zeros(shape, np.int32)
        for column, table in self._tables.items():
            mask = self.corpus.read_mask(row, column.removeprefix("mask_"))
            if mask is None and self._known_empty[row]:
                continue
            if mask is None:
                raise RaddinoError(
                    f"{self._which(column, row)} is missing: leave the image out, or say when it is empty"
                )
            if mask.shape != shape:
                raise RaddinoError(f"{self._which(column, row)} has the shape {mask.shape}, the image {shape}")
            part = table[mask]
            if (part == NO_CLASS).any():
                value = int(mask[part == NO_CLASS].min())
                raise RaddinoError(
                    f"{self._which(column, row)} holds the value {value}, which is neither a class nor ignored: "
                    "correct the mask, or name the value under classes or ignore"
                )
            bits |= part
        bits[bits & IGNORE != 0] = IGNORE
        return bits

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Foreground pixels of each image and class, (N, C) int64; each image is read once.

        Raises:
            RaddinoError: as :meth:`read`.
        """
        fresh = [int(row) for row in rows if int(row) not in self._pixels]
        for row in track(fresh, "count mask pixels") if fresh else ():
            bits = self.read(row)
            self._pixels[row] = np.array([(bits >> c & 1).sum() for c in range(len(self.names))])
        counts = [self._pixels[int(row)] for row in rows]
        return np.array(counts, dtype=np.int64).reshape(len(rows), len(self.names))

    @cached_property
    def _known_empty(self) -> np.ndarray:
        manifest = self.corpus.manifest
        if not self.config.empty:
            return np.zeros(len(manifest), bool)
        try:
            return query(manifest, self.config.empty)
        except ConfigError as error:
            raise ConfigError(f"empty: {str(error).removeprefix('where=')}") from None

    def _shape(self, row: int) -> tuple[int, ...]:
        manifest = self.corpus.manifest
        if "height" not in manifest:
            return self.corpus.read(row).shape
        return int(manifest["height"].iat[row]), int(manifest["width"].iat[row])

    def _which(self, column: str, row: int) -> str:
        return f"{column} of image {self.corpus.manifest['id'].iat[row]}"


def bit_classes(corpus: Corpus, column: str) -> dict[str, int]:
    """Classes of a bit field as the corpus itself tells them (``mask_<name>_classes`` of its manifest), name to bit.

    Raises:
        RaddinoError: the corpus, or one of those it is combined of, tells none or another order.
    """
    name = column.removeprefix("mask_")
    masks = [part.info.get("masks", {}).get(name) for part in getattr(corpus, "parts", [corpus])]
    told = {mask["classes"] for mask in masks if mask}
    words = told.pop() if len(told) == 1 else None
    if not words or not words.startswith(BIT_FIELD):
        raise RaddinoError(f"the corpus does not tell the bits of mask {name!r}: name the classes in the task")
    return {word.strip(): bit for bit, word in enumerate(words.removeprefix(BIT_FIELD).split(","))}


def _tables(column: str, config: SegmentationConfig) -> dict[str, Bits]:
    """By mask column, the bits (65536,) that each of its values means."""
    values = np.arange(MASK_VALUES)
    tables: dict[str, Bits] = {}
    for position, (name, code) in enumerate(config.classes.items()):
        if isinstance(code, str):
            here = values > 0
        elif config.coding == "bits":
            here = (values >> code & 1) == 1
        else:
            here = np.isin(values, code)
        key = f"mask_{(code if isinstance(code, str) else column).removeprefix('mask_')}"
        table = tables.setdefault(key, np.zeros(MASK_VALUES, np.int32))
        if config.exclusive and (twice := here & ((table != 0) | np.isin(values, config.ignore))).any():
            raise ConfigError(f"classes: the mask value {twice.argmax()} stands for {name} and for something else")
        table[here] |= 1 << position
    for table in tables.values():
        if config.exclusive:
            table[(table == 0) & (values > 0)] = NO_CLASS
        table[list(config.ignore)] = IGNORE
    return tables
