"""The built-in detector of text: strokes at several sizes, cells that are text, lines, words, and what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from raddino.inspection.text_network import COLUMNS, ROWS, record, text_cells, word_probabilities
from raddino.inspection.text_regions import MARKERS, Region, joined
from raddino.inspection.text_strokes import CELL, Strokes, grey_bytes, halved, padded, strokes

TEXT_LOGIT = 0.0
MARKER_PROBABILITY = 0.8
NOTHING_PROBABILITY = 0.8
GLYPH = 22
INK = 0.35
WORD_GAP = 0.25


@dataclass(frozen=True)
class _Block:
    """Cells of text that touch, at one size: ink box in that size's pixels and mean logit."""

    level: int
    top: int
    left: int
    bottom: int
    right: int
    logit: float
    area: float

    def scaled(self) -> tuple[int, int, int, int]:
        k = 1 << self.level
        return self.top * k, self.left * k, self.bottom * k, self.right * k


def levels(rows: int, columns: int) -> int:
    """How many halvings until glyphs of a sixth of the shorter side are at most ``GLYPH`` pixels high."""
    return max(0, int(np.ceil(np.log2(max(min(rows, columns) / 6 / GLYPH, 1)))))


def ink(s: Strokes) -> np.ndarray:
    """(H, W) bool: strokes against the strongest near by, and above the noise."""
    return (np.maximum(s.bright, s.dark) >= INK) & (s.contrast >= 8)


def _blocks(s: Strokes, level: int, threshold: float) -> list[_Block]:
    logits = text_cells(s)
    labels, n = ndimage.label(logits > threshold, np.ones((3, 3)))
    found = []
    inked = ink(s) if n else None
    for k, where in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[where] == k
        rows, columns = (slice(max(w.start - 1, 0) * CELL, (w.stop + 1) * CELL) for w in where)
        near = np.kron(np.pad(inside, 1), np.ones((CELL, CELL), dtype=bool))
        near = ndimage.binary_dilation(near, np.ones((CELL + 1, CELL + 1)))
        near = near[
            CELL * (where[0].start == 0) : CELL * (where[0].start == 0) + inked[rows, columns].shape[0],
            CELL * (where[1].start == 0) : CELL * (where[1].start == 0) + inked[rows, columns].shape[1],
        ]
        y, x = np.nonzero(inked[rows, columns] & near)
        if len(y) < 6:
            continue
        top, bottom = rows.start + int(y.min()), rows.start + int(y.max()) + 1
        left, right = columns.start + int(x.min()), columns.start + int(x.max()) + 1
        if min(bottom - top, right - left) < 3 or max(bottom - top, right - left) < 5:
            continue
        values = logits[where][inside]
        found.append(_Block(level, top, left, bottom, right, float(values.mean()), float(inside.sum())))
    return found


def _distinct(blocks: list[_Block]) -> list[_Block]:
    """Of blocks that lie on one another, those of most evidence: cells of text, as wide as they are, times logit."""
    order = sorted(blocks, key=lambda b: -b.area * 4**b.level * max(b.logit, 0.1))
    kept: list[_Block] = []
    for b in order:
        t, l, bo, r = b.scaled()
        covered = 0
        for k in kept:
            kt, kl, kb, kr = k.scaled()
            covered += max(0, min(bo, kb) - max(t, kt)) * max(0, min(r, kr) - max(l, kl))
        if covered < 0.5 * (bo - t) * (r - l):
            kept.append(b)
    return kept


def patch_of(s: Strokes, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """Bright and dark strokes of a box, (h, w, 2) float32."""
    part = np.s_[top:bottom, left:right]
    return np.stack([s.bright[part], s.dark[part]], axis=2)


def resized(patch: np.ndarray) -> np.ndarray:
    """(h, w, 2) to (16, 64, 2): means over boxes where it shrinks, linear where it grows."""

    def along(a: np.ndarray, n: int) -> np.ndarray:
        m = len(a)
        edges = np.linspace(0, m, n + 1)
        total = np.concatenate([np.zeros((1, *a.shape[1:]), a.dtype), np.cumsum(a, axis=0)])
        low = np.minimum(edges.astype(int), m - 1)
        at = total[low] + (edges - low)[:, None, None] * a[low]
        means = np.diff(at, axis=0) / (m / n)
        if m >= n:
            return means
        centres = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, m - 1)
        low = np.minimum(centres.astype(int), max(m - 2, 0))
        share = (centres - low)[:, None, None]
        return a[low] * (1 - share) + a[np.minimum(low + 1, m - 1)] * share

    return along(along(patch, ROWS).transpose(1, 0, 2), COLUMNS).transpose(1, 0, 2).astype(np.float32)


def _runs(filled: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


@dataclass(frozen=True)
class _Read:
    word: str | None
    marker: float
    nothing: float


def _read(s: Strokes, boxes: list[tuple[int, int, int, int]]) -> list[_Read]:
    """The likeliest marker of each box over its four turns, the probability of any, and that it is no text."""
    classes = record()["classes"]
    patches, aspects = [], []
    for box in boxes:
        patch = patch_of(s, *box)
        for turn in range(4):
            turned = np.rot90(patch, turn)
            patches.append(resized(turned))
            aspects.append(turned.shape[1] / turned.shape[0])
    p = word_probabilities(np.stack(patches), np.array(aspects)).reshape(len(boxes), 4, -1)
    markers = [k for k, c in enumerate(classes) if c in MARKERS]
    other, nothing = classes.index("other"), classes.index("nothing")
    out = []
    for q in p:
        turn = int(q[:, markers].sum(axis=1).argmax())
        best = markers[int(q[turn, markers].argmax())]
        out.append(_Read(classes[best], float(q[turn, markers].sum()), float(q[:, nothing].mean())))
    assert other >= 0
    return out


def _words(s: Strokes, inked: np.ndarray, box: tuple[int, int, int, int], sideways: bool) -> list[tuple[tuple[int, int, int, int], _Read]]:
    """Splits a line at its widest gap until every part is a marker or has no gap of a space's width."""
    (reading,) = _read(s, [box])
    if reading.marker >= MARKER_PROBABILITY:
        return [(box, reading)]
    top, left, bottom, right = box
    part = inked[top:bottom, left:right]
    part = part.T if sideways else part
    runs = _runs(part.any(axis=0))
    gaps = [(b[0] - a[1], a[1], b[0]) for a, b in zip(runs, runs[1:], strict=False)]
    if not gaps or max(gaps)[0] < max(WORD_GAP * part.shape[0], 2):
        return [(box, reading)]
    _, end, start = max(gaps)
    halves = []
    for a, b in ((0, end), (start, part.shape[1])):
        rows = np.flatnonzero(part[:, a:b].any(axis=1))
        lo, hi = int(rows[0]), int(rows[-1]) + 1
        halves.append((top + a, left + lo, top + b, left + hi) if sideways else (top + lo, left + a, top + hi, left + b))
    return [w for half in halves for w in _words(s, inked, half, sideways)]


def _lines(inked: np.ndarray, box: tuple[int, int, int, int], sideways: bool) -> list[tuple[int, int, int, int]]:
    top, left, bottom, right = box
    part = inked[top:bottom, left:right]
    part = part.T if sideways else part
    out = []
    runs = [r for r in _runs(part.any(axis=1))]
    tall = max((b - a for a, b in runs), default=0)
    lines = [r for r in runs if r[1] - r[0] >= 0.5 * tall]
    if len(lines) < 2:
        return [box]
    for a, b in lines:
        columns = np.flatnonzero(part[a:b].any(axis=0))
        lo, hi = int(columns[0]), int(columns[-1]) + 1
        out.append((top + lo, left + a, top + hi, left + b) if sideways else (top + a, left + lo, top + b, left + hi))
    return out


def find(image: np.ndarray, threshold: float = TEXT_LOGIT) -> list[Region]:
    """Regions with text in an image (H, W) of uint8 or uint16: see ``raddino.inspection.text.find_text``."""
    grey = grey_bytes(image)
    shape = grey.shape
    if min(shape) < 16:
        return []
    sizes, blocks = [], []
    for level in range(levels(*shape) + 1):
        sizes.append(strokes(padded(grey)))
        blocks += _blocks(sizes[-1], level, threshold)
        grey = halved(grey)
    inked = {level: ink(sizes[level]) for level in {b.level for b in blocks}}
    regions = []
    for block in _distinct(blocks):
        s, mask, k = sizes[block.level], inked[block.level], 1 << block.level
        sideways = block.bottom - block.top > 1.3 * (block.right - block.left)
        for line in _lines(mask, (block.top, block.left, block.bottom, block.right), sideways):
            words = _words(s, mask, line, sideways)
            score = float(1 / (1 + np.exp(-block.logit)))
            for (top, left, bottom, right), reading in words:
                marker = reading.marker >= MARKER_PROBABILITY
                if not marker and reading.nothing >= NOTHING_PROBABILITY:
                    continue
                box = max(top * k, 0), max(left * k, 0), min(bottom * k, shape[0]), min(right * k, shape[1])
                regions.append(
                    Region(box[0], box[1], box[2] - box[0], box[3] - box[1], "marker" if marker else "identifier",
                           score, reading.word if marker else None)
                )  # fmt: skip
    return joined(regions)
