"""Images as they may be looked at: which may leave the machine, in what frame, with what words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raddino.corpus.sources import closed_sources

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

CREDENTIALED = r"physionet|credential|mimic"
SAME_GEOMETRY = 0.98  # correlation


def showable(corpus: Corpus) -> np.ndarray:
    """Rows whose images may stand in a report: not those of credentialed sources.

    These are the sources registered as such (:mod:`raddino.corpus.sources`), and any whose name or licence says
    PhysioNet, MIMIC or credentialed.
    """
    closed = corpus.manifest["source"].isin(closed_sources()).to_numpy(bool, copy=True)
    for column in ("source", "licence"):
        if column in corpus.manifest:
            words = corpus.manifest[column].astype("string").fillna("")
            closed |= words.str.contains(CREDENTIALED, case=False, regex=True).to_numpy(bool)
    return np.flatnonzero(~closed)


def draw_rows(corpus: Corpus, count: int, seed: int = 0) -> np.ndarray:
    """Up to ``count`` showable rows of different patients, from the test split where it has any."""
    rows = showable(corpus)
    test = np.intersect1d(rows, corpus.rows(split="test"))
    rows = np.random.default_rng(seed).permutation(test if len(test) else rows)
    patients = corpus.manifest["patient"].iloc[rows]
    return rows[~patients.duplicated().to_numpy()][:count]


def as_seen(image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The image in the frame that the encoder saw, uint8.

    That is the central square of the stored image where it shows the same as the preprocessed one (S, S),
    which a correlation confirms; else the preprocessed image itself.
    """
    from PIL import Image

    grey = eight_bit(image)
    side = min(grey.shape)
    top, left = (grey.shape[0] - side) // 2, (grey.shape[1] - side) // 2
    square = grey[top : top + side, left : left + side]
    small = np.asarray(Image.fromarray(square).resize(seen.shape[::-1], Image.Resampling.BICUBIC), float)
    if small.std() and seen.std() and np.corrcoef(small.ravel(), seen.ravel())[0, 1] > SAME_GEOMETRY:
        return square
    spread = max(float(np.ptp(seen)), 1e-12)
    return ((seen - seen.min()) / spread * 255).round().astype(np.uint8)


def eight_bit(image: np.ndarray) -> np.ndarray:
    """Stored grey pixels, 8 or 16 bits deep, as uint8."""
    return image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)


def facts(corpus: Corpus, row: int, omit: Sequence[str] = ()) -> str:
    """What may be said of an image: view, sex and age in words, nothing that identifies.

    Args:
        omit: of ``"view"``, ``"sex"`` and ``"age"``, those that are said elsewhere.
    """
    line = corpus.manifest.iloc[row]
    words = [line[key] for key in ("view", "sex") if key not in omit and isinstance(line.get(key), str)]
    age = line.get("age")
    if "age" not in omit and age is not None and age == age:
        words.append(f"{float(age):.0f} years" if float(age) < 90 else "90 years or older")
    return ", ".join(words)
