"""Radiographs made worse in known steps, the same way each time: noise, blur, contrast, rotation, resolution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from raddino.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

Pixels = np.ndarray
VERSION = 1


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    Attributes:
        apply: takes pixels (H, W) float32 in 0..1, a level, and a generator of the image's own.
        levels: of severity 1, 2, 3.
        unit: of the levels, in words.
    """

    apply: Callable[[Pixels, float, np.random.Generator], Pixels]
    levels: tuple[float, ...]
    unit: str


def _noise(x: Pixels, level: float, draw: np.random.Generator) -> Pixels:
    return x + draw.normal(0, level, x.shape)


def _blur(x: Pixels, level: float, draw: np.random.Generator) -> Pixels:
    return ndimage.gaussian_filter(x, level * min(x.shape), mode="nearest")


def _contrast(x: Pixels, level: float, draw: np.random.Generator) -> Pixels:
    return x.mean() + level * (x - x.mean())


def _rotation(x: Pixels, level: float, draw: np.random.Generator) -> Pixels:
    return ndimage.rotate(x, level * draw.choice([-1, 1]), reshape=False, order=1, mode="constant", cval=0.0)


def _resolution(x: Pixels, level: float, draw: np.random.Generator) -> Pixels:
    import torch
    from torch.nn.functional import interpolate

    small = [max(1, round(side * level)) for side in x.shape]
    reduced = interpolate(torch.from_numpy(x)[None, None], small, mode="bilinear", antialias=True)
    return interpolate(reduced, x.shape, mode="bilinear")[0, 0].numpy()


CORRUPTIONS = {
    "noise": Corruption(_noise, (0.02, 0.05, 0.1), "SD of Gaussian noise, share of white"),
    "blur": Corruption(_blur, (0.005, 0.01, 0.02), "SD of a Gaussian, share of the shorter side"),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.25), "factor about the image's mean"),
    "rotation": Corruption(_rotation, (5.0, 10.0, 20.0), "degrees, either way, black corners"),
    "resolution": Corruption(_resolution, (0.5, 0.25, 0.125), "side kept, then enlarged again"),
}


def corrupt(image: Pixels, kind: str, severity: int, key: str) -> Pixels:
    """A damaged copy in the type of the image; the same arguments give the same pixels.

    Args:
        image: (H, W) uint8 or uint16.
        kind: a name of :data:`CORRUPTIONS`.
        severity: 1 to 3.
        key: of the image, for example its id; noise and direction of rotation follow from it.

    Raises:
        ConfigError: unknown kind or severity.
    """
    if kind not in CORRUPTIONS:
        raise ConfigError(
            f"unknown corruption {kind!r}.{did_you_mean(kind, CORRUPTIONS)} Known: {', '.join(CORRUPTIONS)}"
        )
    how = CORRUPTIONS[kind]
    if not 1 <= severity <= len(how.levels):
        raise ConfigError(f"severity of {kind} goes from 1 to {len(how.levels)}, got {severity}")
    digest = hashlib.sha256(f"{VERSION}/{kind}/{key}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    white = np.iinfo(image.dtype).max
    pixels = how.apply(image.astype(np.float32) / white, how.levels[severity - 1], draw)
    return (pixels.clip(0, 1) * white).round().astype(image.dtype)


class CorruptedCorpus:
    """A corpus whose images are damaged as they are read; features of it are cached under a fingerprint of its own.

    Args:
        corpus: the clean one.
        kind, severity: as :func:`corrupt` takes them.
        seed: another seed, another noise.
    """

    def __init__(self, corpus: Corpus, kind: str, severity: int, seed: int) -> None:
        self.path, self.manifest, self.info = corpus.path, corpus.manifest, corpus.info
        self._corpus, self._how, self._seed = corpus, (kind, severity), seed
        self._ids = corpus.manifest["id"].astype(str).to_numpy()
        settings = [corpus.fingerprint, VERSION, kind, CORRUPTIONS[kind].levels[severity - 1], seed]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._corpus)

    def read(self, i: int) -> Pixels:
        """Image ``i``, damaged: (H, W) uint8 or uint16."""
        return corrupt(self._corpus.read(i), *self._how, f"{self._seed}/{self._ids[i]}")
