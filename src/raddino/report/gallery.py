"""What an encoder sees: images beside the principal components of their patches and CLS attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raddino.corpus.sources import closed_sources
from raddino.report.style import data_uri

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

FITTED, SHOWN, SIDE = 16, 6, 448
CREDENTIALED = r"physionet|credential|mimic"
SAME_GEOMETRY = 0.98  # correlation


@dataclass(frozen=True)
class Picture:
    """One line of the gallery, as data URIs; None where the encoder has no patches or no attention."""

    image: str
    colours: str | None
    attention: str | None
    caption: str


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


def gallery(corpus: Corpus, encoder: Encoder, rows: Sequence[int], shown: int = SHOWN) -> list[Picture]:
    """Pictures of the first ``shown`` rows; the components are fitted over the patches of all ``rows``."""
    images = [corpus.read(int(row)) for row in rows]
    batch = encoder.preprocess(images)
    patches = encoder.encode(batch).patches
    look = getattr(encoder, "attention", None)
    attention = look(batch[:shown]) if look and patches is not None else None
    colours = pca_rgb(patches.float().cpu().numpy()) if patches is not None else [None] * len(images)
    pictures = []
    for i, row in enumerate(rows[:shown]):
        grey = as_seen(images[i], batch[i].float().mean(0).cpu().numpy())
        painted = colours[i]
        pictures.append(
            Picture(
                data_uri(grey, SIDE),
                data_uri(painted, SIDE, lossless=True) if painted is not None else None,
                data_uri(overlay(grey, np.asarray(attention[i].float().cpu())), SIDE)
                if attention is not None
                else None,
                facts(corpus, int(row)),
            )
        )
    return pictures


def pca_rgb(patches: np.ndarray) -> np.ndarray:
    """First three principal components of patch features as colours.

    Args:
        patches: (B, H, W, D) float; the components are those of all B images together, so that a colour means
            the same in each.

    Returns:
        (B, H, W, 3) uint8; each component spans 0..255 between its 1st and 99th percentile, its sign fixed so
        that its largest loading is positive.
    """
    flat = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    _, directions = np.linalg.eigh(flat.T @ flat)
    top = directions[:, ::-1][:, :3]
    top = top * np.sign(np.take_along_axis(top, np.abs(top).argmax(0)[None], axis=0))
    parts = flat @ top
    low, high = np.percentile(parts, [1, 99], axis=0)
    scaled = np.clip((parts - low) / np.maximum(high - low, 1e-12), 0, 1) * 255
    colours = np.zeros((len(flat), 3), dtype=np.uint8)
    colours[:, : scaled.shape[1]] = scaled.round()
    return colours.reshape(*patches.shape[:3], 3)


def overlay(grey: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Attention as warm light on an image.

    Args:
        grey: (S, S) uint8. attention: (heads, H, W), averaged over heads.

    Returns:
        (S, S, 3) uint8; opacity follows attention between its 5th and 99.5th percentile in this image.
    """
    from matplotlib import colormaps
    from PIL import Image

    mean = attention.mean(0)
    low, high = np.percentile(mean, [5, 99.5])
    share = Image.fromarray(np.clip((mean - low) / max(high - low, 1e-12), 0, 1).astype(np.float32))
    wide = np.asarray(share.resize(grey.shape[::-1], Image.Resampling.BICUBIC)).clip(0, 1)[..., None]
    light = colormaps["inferno"](0.3 + 0.65 * wide[..., 0])[..., :3] * 255
    opacity = 0.85 * wide
    return ((1 - opacity) * 0.85 * grey[..., None] + opacity * light).round().astype(np.uint8)


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
