"""Floors that any learned encoder has to beat: raw pixels, their principal components, and HOG."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from raddino.encoders.base import ENCODERS, Encoder, Family, Features, Provenance, check_batch
from raddino.errors import RaddinoError
from raddino.progress import track

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

MAX_FITTED = 20_000


class _Floor:
    """Grey images squeezed to a small square in 0..1; what follows is the subclass's.

    Their numbers belong to places in the image, so a probe that reads ``grid`` reads them as they are.
    """

    name: str
    size: int
    dim: int
    grid: tuple[int, int] | None = None
    laid_out = True

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey (H, W) uint8 or uint16, squeezed to (B, 1, size, size) float32 in 0..1 with antialiasing.

        Values are rounded to 8 bits: in flat background nothing is then left for HOG's block norm to amplify.
        """
        resized = [
            torch.nn.functional.interpolate(
                torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max)[None, None],
                size=(self.size, self.size), mode="bicubic", antialias=True,
            )
            for image in images
        ]  # fmt: skip
        return torch.cat(resized).clamp_(0, 1).mul_(255).round_().div_(255)


class Pixels(_Floor):
    """A small raw image, pixel by pixel.

    Args:
        size: side of the image in pixels.
    """

    name = "pixels"

    def __init__(self, size: int = 32) -> None:
        self.size, self.dim = size, size * size
        self.provenance = Provenance(note="raw pixels, nothing learned")
        self.fingerprint = _digest({"encoder": "pixels", "bits": 8, "size": size})

    def encode(self, batch: Tensor) -> Features:
        """(B, 1, size, size) to ``cls`` (B, size * size)."""
        check_batch(self.name, batch, 1, 0, 1)
        return Features(cls=batch.flatten(1).cpu(), patches=None)


class PixelPCA(_Floor):
    """The leading principal components of small raw images; has to be fitted on training rows.

    Args:
        size: side of the image in pixels.
        components: upper bound of ``dim``; fewer where there are fewer training images.
    """

    name = "pca"

    def __init__(self, size: int = 64, components: int = 64) -> None:
        self.size, self.dim = size, components
        self.provenance = Provenance(note="fitted on the training rows of the corpus it is evaluated on")
        self._fingerprint: str | None = None

    @property
    def fitted(self) -> bool:
        """Whether :meth:`fit` has run."""
        return self._fingerprint is not None

    @property
    def fingerprint(self) -> str:
        """Names settings and fitting data. Raises RaddinoError before :meth:`fit`."""
        if self._fingerprint is None:
            raise RaddinoError("encoder 'pca' has to be fitted first: encoder.fit(corpus, corpus.rows(split='train'))")
        return self._fingerprint

    def fit(self, corpus: Corpus, rows: np.ndarray) -> None:
        """Find mean and components of the images in ``rows``, at most 20,000 of them, evenly spaced.

        Raises:
            RaddinoError: fewer than two rows.
        """
        from sklearn.decomposition import PCA

        if len(rows) < 2:
            raise RaddinoError(f"encoder 'pca' needs at least 2 training images, got {len(rows)}")
        rows = np.asarray(rows)[np.unique(np.linspace(0, len(rows) - 1, MAX_FITTED).astype(int))]
        images = [self.preprocess([corpus.read(int(row))]) for row in track(rows, "fit pca")]
        pixels = torch.cat(images).flatten(1).numpy()
        self.dim = min(self.dim, *pixels.shape)
        pca = PCA(self.dim, svd_solver="randomized", random_state=0).fit(pixels)
        self._mean, self._axes = (torch.from_numpy(part.astype(np.float32)) for part in (pca.mean_, pca.components_))
        settings = {"size": self.size, "components": self.dim, "corpus": corpus.fingerprint}
        self._fingerprint = _digest({"encoder": "pca", "bits": 8, **settings, "rows": rows.tolist()})

    def encode(self, batch: Tensor) -> Features:
        """(B, 1, size, size) to ``cls`` (B, dim)."""
        _ = self.fingerprint
        check_batch(self.name, batch, 1, 0, 1)
        return Features(cls=(batch.flatten(1).cpu() - self._mean) @ self._axes.T, patches=None)


class HOG(_Floor):
    """Histograms of oriented gradients (Dalal and Triggs 2005) over the whole image.

    Args:
        size: side of the image in pixels.
        cell: side of a cell in pixels; blocks are 2 x 2 cells, L2-Hys normalised.
        orientations: unsigned directions of a histogram.
    """

    name = "hog"

    def __init__(self, size: int = 160, cell: int = 20, orientations: int = 12) -> None:
        self.size, self.cell, self.orientations = size, cell, orientations
        self.dim = (size // cell - 1) ** 2 * 4 * orientations
        self.provenance = Provenance(note="hand-made features, nothing learned")
        self.fingerprint = _digest(
            {"encoder": "hog", "bits": 8, "size": size, "cell": cell, "orientations": orientations}
        )

    def encode(self, batch: Tensor) -> Features:
        """(B, 1, size, size) to ``cls`` (B, dim)."""
        from skimage.feature import hog

        check_batch(self.name, batch, 1, 0, 1)
        cls = [
            hog(image, self.orientations, (self.cell, self.cell), (2, 2), "L2-Hys", transform_sqrt=True)
            for image in batch[:, 0].cpu().numpy()
        ]
        return Features(cls=torch.from_numpy(np.stack(cls).astype(np.float32)), patches=None)


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _without_weights(name: str, make: Callable[[], Encoder], summary: str) -> None:
    def load(place: str | None, device: str) -> Encoder:
        if place is not None:
            raise RaddinoError(f"{name} has no weights; leave out the part after the colon")
        return make()

    made: Any = make()
    ENCODERS.register(name)(Family(load, summary, made.provenance, dim=made.dim, side=made.size))


_without_weights("pixels", Pixels, "floor: small raw images")
_without_weights("pca", PixelPCA, "floor: principal components of small raw images")
_without_weights("hog", HOG, "floor: histograms of oriented gradients")
