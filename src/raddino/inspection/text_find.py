"""The built-in detector of text: strokes at several sizes, cells that are text, lines, words, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from raddino.inspection.text_network import COLUMNS, ROWS, record, text_cells, word_probabilities
from raddino.inspection.text_regions import MARKERS, Kind, Region, beside, joined, long_and_sure
from raddino.inspection.text_strokes import CELL, Strokes, grey_bytes, halved, padded, strokes

Box = tuple[int, int, int, int]

TEXT_LOGIT, SLACK = 1.0, 1.0
MARKER_PROBABILITY, WORD_PROBABILITY = 0.95, 0.99
NOTHING_PROBABILITY, CLUTTER, DOUBTFUL = 0.6, 0.4, 0.6
GLYPH = 22
LEAST_SIDE = 16
THICKEST = 0.25
ELONGATED = 1.7
NOISE, FAINT = 8, 0.2
LETTER_GAP, REACH = 0.3, 3
INK = 0.35
TIGHT = 0.45
WORD_GAP = 0.25
PIECE_GAP, COLUMN_GAP, MOST_SPECKS = 2, 0.6, 3


@dataclass(frozen=True)
class _Block:
    """Cells of text that touch, at one size: ink box in that size's pixels, least contrast of its ink, mean logit."""

    level: int
    top: int
    left: int
    bottom: int
    right: int
    floor: float
    logit: float
    area: float

    def scaled(self) -> Box:
        k = 1 << self.level
        return self.top * k, self.left * k, self.bottom * k, self.right * k


def levels(rows: int, columns: int) -> int:
    """How many halvings until glyphs of a sixth of the shorter side are at most ``GLYPH`` pixels high."""
    return max(0, int(np.ceil(np.log2(max(min(rows, columns) / 6 / GLYPH, 1)))))


def ink(s: Strokes) -> np.ndarray:
    """(H, W) bool: strokes against the strongest near by."""
    return np.maximum(s.bright, s.dark) >= INK


def _blocks(s: Strokes, level: int) -> list[_Block]:
    logits = text_cells(s)
    labels, n = ndimage.label(logits > TEXT_LOGIT - SLACK, np.ones((3, 3)))
    found: list[_Block] = []
    if not n:
        return found
    inked = ink(s)
    for k, where in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[where] == k
        seeds = logits[where][inside & (logits[where] > TEXT_LOGIT)]
        if not len(seeds):
            continue
        rows, columns = (slice(max(w.start - 1, 0) * CELL, (w.stop + 1) * CELL) for w in where)
        near = np.kron(np.pad(inside, 1), np.ones((CELL, CELL), dtype=bool))
        near = ndimage.binary_dilation(near, np.ones((CELL + 1, CELL + 1)))
        near = near[
            CELL * (where[0].start == 0) : CELL * (where[0].start == 0) + inked[rows, columns].shape[0],
            CELL * (where[1].start == 0) : CELL * (where[1].start == 0) + inked[rows, columns].shape[1],
        ]
        floor = max(NOISE, FAINT * float(np.quantile(s.contrast[rows, columns][near], 0.95)))
        y, x = np.nonzero(inked[rows, columns] & near & (s.contrast[rows, columns] >= floor))
        if len(y) < 6:
            continue
        top, bottom = rows.start + int(y.min()), rows.start + int(y.max()) + 1
        left, right = columns.start + int(x.min()), columns.start + int(x.max()) + 1
        if min(bottom - top, right - left) < 3 or max(bottom - top, right - left) < 5:
            continue
        found.append(_Block(level, top, left, bottom, right, floor, float(seeds.mean()), float(len(seeds))))
    return found


def _distinct(blocks: list[_Block]) -> list[_Block]:
    """Of blocks that lie on one another, those of most evidence: cells of text, as wide as they are, times logit."""
    order = sorted(blocks, key=lambda b: -b.area * max(b.logit, 0.1))
    kept: list[_Block] = []
    for b in order:
        top, left, bottom, right = b.scaled()
        area, covered, explained = (bottom - top) * (right - left), 0, False
        for k in kept:
            t, l_, b_, r = k.scaled()
            shared = max(0, min(bottom, b_) - max(top, t)) * max(0, min(right, r) - max(left, l_))
            covered += shared
            explained |= k.logit >= b.logit and shared >= max(0.8 * (b_ - t) * (r - l_), 0.2 * area)
        if covered < 0.5 * area and not explained:
            kept.append(b)
    return kept


def patch_of(first: np.ndarray, second: np.ndarray, box: Box) -> np.ndarray:
    """Strokes of a box, (h, w, 2) float32: those that are taken for the ink, then the others."""
    part = np.s_[box[0] : box[2], box[1] : box[3]]
    return np.stack([first[part], second[part]], axis=2)


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


def _is_marker(reading: _Read) -> bool:
    long = len((reading.word or "").removesuffix(" mirrored")) > 2
    return reading.marker >= (WORD_PROBABILITY if long else MARKER_PROBABILITY)


def turns(aspect: float) -> tuple[int, ...]:
    """Quarter turns that may put a box of an aspect (width by height) upright: two of a long box, four of others."""
    return (0, 2) if aspect > ELONGATED else (1, 3) if aspect < 1 / ELONGATED else (0, 1, 2, 3)


def _read(poles: tuple[np.ndarray, np.ndarray], box: Box) -> _Read:
    """The likeliest marker of a box, the probability of any, and that it is no text.

    Means over the box and one a pixel larger; of the turns that may be upright.
    """
    classes = record()["classes"]
    top, left, bottom, right = box
    wide = max(top - 1, 0), max(left - 1, 0), bottom + 1, right + 1
    upright = turns((right - left) / (bottom - top))
    turned = [np.rot90(patch_of(*poles, b), turn) for turn in upright for b in (box, wide)]
    aspects = np.array([t.shape[1] / t.shape[0] for t in turned])
    p = word_probabilities(np.stack([resized(t) for t in turned]), aspects).reshape(len(upright), 2, -1).mean(axis=1)
    markers = [k for k, c in enumerate(classes) if c.removesuffix(" mirrored") in MARKERS]
    turn = int(p[:, markers].sum(axis=1).argmax())
    best = markers[int(p[turn, markers].argmax())]
    return _Read(classes[best], float(p[turn, markers].sum()), float(p[:, classes.index("nothing")].mean()))


def tight(mask: np.ndarray, box: Box) -> Box | None:
    """The least box of what ``mask`` marks in ``box``; None where that is under six pixels or too thin for a letter."""
    top, left, bottom, right = box
    part = mask[top:bottom, left:right]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    if part.sum() < 6 or len(rows) < 2 or len(columns) < 2:
        return None
    return top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1


def _words(
    poles: tuple[np.ndarray, np.ndarray], mask: np.ndarray, box: Box, reading: _Read, sideways: bool
) -> list[tuple[Box, _Read]]:
    """Splits a line, whose whole ``reading`` is known, at its widest gap until every part is a marker or has no gap of
    a space's width."""
    top, left, bottom, right = box
    part = mask[top:bottom, left:right]
    part = part.T if sideways else part
    runs = _runs(np.any(part, axis=0))
    gaps = [(b[0] - a[1], a[1], b[0]) for a, b in pairwise(runs)]
    if _is_marker(reading) or not gaps or max(gaps)[0] < max(WORD_GAP * part.shape[0], 2):
        return [(box, reading)]
    _, end, start = max(gaps)
    halves: list[Box] = (
        [(top, left, top + end, right), (top + start, left, bottom, right)]
        if sideways
        else [(top, left, bottom, left + end), (top, left + start, bottom, right)]
    )
    found = []
    for half in halves:
        inner = tight(mask, half)
        if inner is not None:
            found += _words(poles, mask, inner, _read(poles, inner), sideways)
    return found


def _extended(mask: np.ndarray, box: Box, sideways: bool) -> Box:
    """The box of a line, longer by what ink follows at either end within the line's rows and a letter's gap."""
    top, left, bottom, right = box
    start, end, first, last = (top, bottom, left, right) if sideways else (left, right, top, bottom)
    filled = np.any(mask[:, first:last] if sideways else mask[first:last], axis=1 if sideways else 0)
    gap, most = max(2, int(LETTER_GAP * (last - first))), REACH * (last - first)
    low, high = start, end
    while (ahead := np.flatnonzero(filled[high : high + gap])).size and high - end < most:
        high += int(ahead[-1]) + 1
    while (back := np.flatnonzero(filled[max(low - gap, 0) : low])).size and start - low < most:
        low = max(low - gap, 0) + int(back[0])
    if high - end >= most or start - low >= most:
        return box
    return (low, left, high, right) if sideways else (top, low, bottom, high)


def _within(box: Box, level: int, other: Box, level_of_other: int) -> bool:
    """Whether four fifths of a box lie in another, each in pixels of its level."""
    a, b = ([v << k for v in x] for x, k in ((box, level), (other, level_of_other)))
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    return shared >= 0.8 * (a[2] - a[0]) * (a[3] - a[1])


def _said(s: Strokes, floor: float, box: Box, sideways: bool) -> list[tuple[Box, _Read]]:
    """Words of a line, read as bright or as dark strokes, whichever holds more of markers; runs of other words share
    a box, and beside them only long and sure markers count. Without a marker it is the line's box, with the mean
    probability that it is no text."""
    ways: list[list[tuple[Box, _Read]]] = [[]]
    nothing = []
    for poles in ((s.bright, s.dark), (s.dark, s.bright)):
        mask = (poles[0] >= TIGHT) & (s.contrast >= floor)
        inner = tight(mask, box)
        if inner is not None:
            reading = _read(poles, inner)
            nothing.append(reading.nothing)
            ways.append(_words(poles, mask, inner, reading, sideways))
    words = max(ways, key=lambda ws: sum((b[2] - b[0]) * (b[3] - b[1]) for b, r in ws if _is_marker(r)))
    if not any(_is_marker(r) for _, r in words):
        return [(box, _Read(None, 0.0, float(np.mean(nothing)) if nothing else 0.0))]
    thick = max(min(b[2] - b[0], b[3] - b[1]) for b, r in words if _is_marker(r))
    words = [
        (b, r)
        for b, r in words
        if _is_marker(r) or (r.nothing < CLUTTER and max(b[2] - b[0], b[3] - b[1]) >= thick / 2)
    ]
    if not all(_is_marker(r) for _, r in words):
        words = [(b, r if long_and_sure(r.word, r.marker) else _Read(None, 0.0, 0.0)) for b, r in words]
    out: list[tuple[Box, _Read]] = []
    for b, reading in sorted(words, key=lambda w: w[0][0 if sideways else 1]):
        if out and not _is_marker(reading) and not _is_marker(out[-1][1]):
            a = out[-1][0]
            out[-1] = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])), out[-1][1]
        else:
            out.append((b, reading))
    return out


def _lines(inked: np.ndarray, box: Box, sideways: bool) -> list[Box]:
    top, left, bottom, right = box
    part = inked[top:bottom, left:right]
    part = part.T if sideways else part
    out = []
    runs = [r for r in _runs(np.any(part, axis=1))]
    tall = max((b - a for a, b in runs), default=0)
    lines = [r for r in runs if r[1] - r[0] >= 0.5 * tall]
    if len(lines) < 2:
        return [box]
    for a, b in lines:
        columns = np.flatnonzero(part[a:b].any(axis=0))
        lo, hi = int(columns[0]), int(columns[-1]) + 1
        out.append((top + lo, left + a, top + hi, left + b) if sideways else (top + a, left + lo, top + b, left + hi))
    return out


def _pieces(mask: np.ndarray, box: Box) -> list[Box]:
    """Cuts a box at its blank rows and wide blank columns until no piece has any."""
    inner = tight(mask, box)
    if inner is None:
        return []
    top, left, bottom, right = inner
    part = mask[top:bottom, left:right]
    for axis, gap in ((1, PIECE_GAP), (0, max(PIECE_GAP, COLUMN_GAP * (bottom - top)))):
        runs = _runs(np.any(part, axis=axis))
        cuts = [0, *(b[0] for a, b in pairwise(runs) if b[0] - a[1] >= gap), part.shape[1 - axis]]
        if len(cuts) > 2:
            parts: list[Box] = [
                (top + a, left, top + b, right) if axis == 1 else (top, left + a, bottom, left + b)
                for a, b in pairwise(cuts)
            ]
            return [piece for p in parts for piece in _pieces(mask, p)]
    return [inner]


def _grown(mask: np.ndarray, box: Box) -> Box:
    """A box with the ink that touches it from outside, or as it is where that goes on beyond half its thickness."""
    top, left, bottom, right = box
    most = max(2, min(bottom - top, right - left) // 2)
    for _ in range(most):
        wide = mask[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
        up, down = bool(top and wide[0].any()), bottom < len(mask) and bool(wide[-1].any())
        before, after = bool(left and wide[:, 0].any()), right < mask.shape[1] and bool(wide[:, -1].any())
        if not (up or down or before or after):
            return top, left, bottom, right
        top, bottom, left, right = top - up, bottom + down, left - before, right + after
    return box


def _markers_alone(s: Strokes, floor: float, box: Box) -> list[tuple[Box, _Read]]:
    """The words of a box with several lines where all that is text among them are markers, else none."""
    for poles in ((s.bright, s.dark), (s.dark, s.bright)):
        mask = (poles[0] >= TIGHT) & (s.contrast >= floor)
        markers: list[tuple[Box, _Read]] = []
        others: list[Box] = []
        for piece in _pieces(mask, _grown(mask, box)):
            sideways = piece[2] - piece[0] > 1.3 * (piece[3] - piece[1])
            words = _words(poles, mask, piece, _read(poles, piece), sideways)
            markers += [(b, r) for b, r in words if _is_marker(r)]
            others += [b for b, r in words if not _is_marker(r) and r.nothing < CLUTTER]
            if len(others) > len(markers) + MOST_SPECKS:
                break
        thin = min((min(b[2] - b[0], b[3] - b[1]) for b, _ in markers), default=0)
        if markers and all(max(b[2] - b[0], b[3] - b[1]) < 0.5 * thin for b in others):
            return markers
    return []


def _looked(image: np.ndarray) -> tuple[list[Strokes], list[_Block]]:
    """Strokes at each size, and the blocks of text."""
    grey = grey_bytes(image)
    sizes: list[Strokes] = []
    blocks: list[_Block] = []
    for level in range(levels(*image.shape) + 1 if min(image.shape) >= LEAST_SIDE else 0):
        sizes.append(strokes(padded(grey)))
        blocks += _blocks(sizes[-1], level)
        grey = halved(grey)
    return sizes, _distinct(blocks)


def _region(box: Box, k: int, reading: _Read, score: float, shape: tuple[int, ...]) -> Region:
    """A word of a picture that was made ``k`` times smaller, in the pixels of the image."""
    top, left, bottom, right = (v * k for v in box)
    marker = _is_marker(reading)
    kind: Kind = "marker" if marker else "identifier"
    height, width = min(bottom, shape[0]) - top, min(right, shape[1]) - left
    sure, word = (reading.marker, reading.word) if marker else (score * (1 - reading.nothing), None)
    return Region(top, left, height, width, kind, sure, word)


def find(image: np.ndarray) -> list[Region]:
    """Regions with text in an image (H, W) of uint8 or uint16: see ``raddino.inspection.text.find_text``."""
    regions, doubted = found(image)
    identifiers = [r for r in regions if r.kind == "identifier"]
    return joined(regions + [d for d in doubted if any(beside(d, r, 1.0) for r in identifiers)])


def found(image: np.ndarray) -> tuple[list[Region], list[Region]]:
    """Regions before any are joined: those taken for text, and those that look like it and were read as none."""
    sizes, blocks = _looked(image)
    inked = {level: ink(sizes[level]) for level in {b.level for b in blocks}}
    rows, columns = image.shape
    regions: list[Region] = []
    doubted: list[Region] = []
    followed: list[tuple[Box, int]] = []
    for block in blocks:
        s, k = sizes[block.level], 1 << block.level
        mask = inked[block.level] & (s.contrast >= block.floor)
        box = (block.top, block.left, block.bottom, block.right)
        sideways = block.bottom - block.top > 1.3 * (block.right - block.left)
        score = float(1 / (1 + np.exp(-block.logit)))
        sure: list[Region] = []
        unsure: list[Region] = []
        for line in _lines(mask, box, sideways):
            if any(_within(line, block.level, other, level) for other, level in followed):
                continue
            longer = _extended(mask, line, sideways)
            followed.append((longer, block.level))
            said = _said(s, block.floor, longer, sideways)
            if longer != line and not any(_is_marker(r) for _, r in said):
                said = _said(s, block.floor, line, sideways)
                if not any(_is_marker(r) for _, r in said):
                    said = [(longer, said[0][1])]
            for word, reading in said:
                region = _region(word, k, reading, score, image.shape)
                least = NOTHING_PROBABILITY if score >= DOUBTFUL else CLUTTER
                small = min(region.height, region.width) <= THICKEST * min(rows, columns)
                known = _is_marker(reading) or (reading.nothing < least and small)
                (sure if known else unsure).append(region)
        if any(r.kind == "identifier" for r in sure):
            for level in dict.fromkeys((block.level, max(block.level - 1, 0))):
                top, left, bottom, right = (v << (block.level - level) for v in box)
                alone = _markers_alone(sizes[level], block.floor, (top, left, bottom, right))
                if alone:
                    sure, unsure = [_region(b, 1 << level, r, score, image.shape) for b, r in alone], []
                    break
        regions += sure
        doubted += unsure
    return regions, doubted
