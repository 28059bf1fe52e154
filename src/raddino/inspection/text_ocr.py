"""Outside engines for text: rapidocr (extra ``ocr``) and the program ``tesseract``. What they read stays in memory."""

from __future__ import annotations

import csv
import io
import logging
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from raddino.errors import RaddinoError
from raddino.inspection import text_find
from raddino.inspection.text_regions import Region, joined, kind_of
from raddino.inspection.text_strokes import grey_bytes

ENLARGED = 1000
LEAST_SCORE = 0.5
MARKER_SCORE, SURE, SURE_MARKER = 0.9, 0.9, 0.999
LONG_WORD, SURE_WORD = 4, 0.8
SECONDS = 60


class OcrError(RaddinoError):
    """An OCR engine that is not installed or failed."""


def _enlarged(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image in 8 bits, twice as large where its shorter side is under 1,000 pixels, and by how much."""
    grey = grey_bytes(image)
    if min(grey.shape) >= ENLARGED:
        return grey, 1.0
    size = (grey.shape[1] * 2, grey.shape[0] * 2)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)), 2.0


def _region(
    box: tuple[float, float, float, float], scale: float, shape: tuple[int, ...], score: float, word: str
) -> Region:
    top, left = max(int(box[0] / scale), 0), max(int(box[1] / scale), 0)
    bottom, right = min(int(-(-box[2] // scale)), shape[0]), min(int(-(-box[3] // scale)), shape[1])
    return Region(top, left, max(bottom - top, 1), max(right - left, 1), kind_of(word), score, word.upper())


@cache
def _rapidocr() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as e:
        raise OcrError("the engine 'rapidocr' is not installed: pip install 'raddino[ocr]'") from e
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1, "EngineConfig.onnxruntime.inter_op_num_threads": 1}
    return RapidOCR(params={"Global.log_level": "error", "Global.text_score": LEAST_SCORE, **threads})


def rapidocr(image: np.ndarray) -> list[Region]:
    """Lines that rapidocr (PP-OCR on onnxruntime, Apache-2.0) reads."""
    grey, scale = _enlarged(image)
    found = _rapidocr()(np.repeat(grey[..., None], 3, axis=2))
    if found.boxes is None:
        return []
    regions = []
    for quad, word, score in zip(found.boxes, found.txts, found.scores, strict=True):
        x, y = np.asarray(quad)[:, 0], np.asarray(quad)[:, 1]
        box = float(y.min()), float(x.min()), float(y.max()), float(x.max())
        regions.append(_region(box, scale, image.shape, float(score), word))
    return joined(regions)


def both(image: np.ndarray) -> list[Region]:
    """Regions of the built-in detector, read once more by rapidocr's recogniser, but for what it is sure is a marker.

    What is surely read as a marker is one. Another word makes an identifier; in what the built-in detector took for no
    text it takes a longer and surer one. Where no word is read, markers stay, and so do identifiers that the detector
    was sure of.
    """
    grey = grey_bytes(image)
    taken, doubted = text_find.found(image)
    regions: list[Region] = []
    for region in taken + doubted:
        marker, doubt = region.kind == "marker", region in doubted
        if marker and region.score >= SURE_MARKER:
            regions.append(region)
            continue
        word, score = _word(grey, region)
        letters, least = (LONG_WORD, SURE_WORD) if doubt else (2, LEAST_SCORE)
        if score >= MARKER_SCORE and kind_of(word) == "marker":
            regions.append(replace(region, kind="marker", score=score, word=word.upper()))
        elif score >= least and _letters(word) >= letters:
            regions.append(replace(region, kind="identifier", score=max(score, region.score), word=None))
        elif marker or (region.score >= SURE and not doubt):
            regions.append(region)
    return joined(regions)


def _letters(word: str) -> int:
    return sum(c.isalnum() for c in word)


def _word(grey: np.ndarray, region: Region) -> tuple[str, float]:
    """What the recogniser reads in a region, and its score: of the turns that may be upright the surest marker, or else
    the surest word of more than one letter."""
    margin = max(3, min(region.height, region.width) // 5)
    part = grey[
        max(region.top - margin, 0) : region.bottom + margin, max(region.left - margin, 0) : region.right + margin
    ]
    read = []
    for turn in text_find.turns(region.width / region.height):
        turned = np.ascontiguousarray(np.rot90(part, turn))
        found = _rapidocr()(np.repeat(turned[..., None], 3, axis=2), use_det=False, use_cls=False, use_rec=True)
        read += [(str(w), float(p)) for w, p in zip(found.txts or (), found.scores or (), strict=True)]
    markers = [r for r in read if kind_of(r[0]) == "marker" and r[1] >= MARKER_SCORE]
    return max(markers or [r for r in read if _letters(r[0]) > 1], key=lambda r: r[1], default=("", 0.0))


def tesseract(image: np.ndarray) -> list[Region]:
    """Words that the program ``tesseract`` (Apache-2.0) reads as sparse text, bright or dark."""
    program = shutil.which("tesseract")
    if program is None:
        raise OcrError("the program 'tesseract' is not on the PATH: install it (Debian: apt-get install tesseract-ocr)")
    grey, scale = _enlarged(image)
    regions: list[Region] = []
    for picture in (grey, 255 - grey):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        try:
            done = subprocess.run(
                [program, "stdin", "stdout", "--psm", "11", "tsv"],
                input=buffer.getvalue(), capture_output=True, timeout=SECONDS, check=False, env=_ENVIRONMENT,
            )  # fmt: skip
        except subprocess.TimeoutExpired as e:
            raise OcrError(f"tesseract took more than {SECONDS} s on one image: use the engine 'strokes'") from e
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise OcrError(f"tesseract failed ({reason[0][:200]}): install its English data (tesseract-ocr-eng)")
        for row in csv.DictReader(
            io.StringIO(done.stdout.decode(errors="replace")), delimiter="\t", quoting=csv.QUOTE_NONE
        ):
            word, score = (row["text"] or "").strip(), float(row["conf"]) / 100
            if score < LEAST_SCORE or not any(c.isalnum() for c in word):
                continue
            top, left, height, width = (float(row[k]) for k in ("top", "left", "height", "width"))
            region = _region((top, left, top + height, left + width), scale, image.shape, score, word)
            if not any(_same(region, r) for r in regions):
                regions.append(region)
    return joined(regions)


_ENVIRONMENT = {"OMP_THREAD_LIMIT": "1", "PATH": "/usr/bin:/bin"}


def _same(a: Region, b: Region) -> bool:
    rows = min(a.bottom, b.bottom) - max(a.top, b.top)
    columns = min(a.right, b.right) - max(a.left, b.left)
    return rows > 0 and columns > 0 and rows * columns > 0.5 * min(a.height * a.width, b.height * b.width)
