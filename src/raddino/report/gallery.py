"""What an encoder sees: images beside the principal components of their patches and CLS attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raddino.look.patches import attention, pca_rgb, see
from raddino.look.shown import as_seen, facts
from raddino.report.style import data_uri

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

FITTED, SHOWN, SIDE = 16, 6, 448


@dataclass(frozen=True)
class Picture:
    """One line of the gallery, as data URIs; None where the encoder has no patches or no attention."""

    image: str
    colours: str | None
    attention: str | None
    caption: str


def gallery(corpus: Corpus, encoder: Encoder, rows: Sequence[int], shown: int = SHOWN) -> list[Picture]:
    """Pictures of the first ``shown`` rows; the components are fitted over the patches of all ``rows``."""
    images = [corpus.read(int(row)) for row in rows]
    seen = see(encoder, images)
    light = attention(encoder, seen.batch[:shown])
    colours = pca_rgb(seen.patches) if seen.patches is not None else [None] * len(images)
    pictures = []
    for i, row in enumerate(rows[:shown]):
        grey = as_seen(images[i], seen.batch[i].float().mean(0).cpu().numpy())
        painted = colours[i]
        pictures.append(
            Picture(
                data_uri(grey, SIDE),
                data_uri(painted, SIDE, lossless=True) if painted is not None else None,
                data_uri(overlay(grey, light[i]), SIDE) if light is not None else None,
                facts(corpus, int(row)),
            )
        )
    return pictures


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
