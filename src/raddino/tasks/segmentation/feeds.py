"""Where training and validation batches come from: patch features on disk, or images read anew."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from raddino.features.patches import PatchRows
from raddino.progress import bar
from raddino.tasks.segmentation.augment import Pairs, augment
from raddino.tasks.segmentation.frame import Margin, square, square_bits
from raddino.tasks.segmentation.network import Network, PatchNetwork
from raddino.tasks.segmentation.targets import Targets

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

THREADS = 4
WHOLE: Margin = (0.0, 0.0)


def read_squares(targets: Targets, rows: np.ndarray, side: int, margin: Margin) -> np.ndarray:
    """Square targets of corpus rows (N, side, side) int32, with a bar; see :func:`square_bits`."""
    made = np.empty((len(rows), side, side), np.int32)

    def fill(position: int) -> None:
        made[position] = square_bits(targets.read(int(rows[position])), side, margin)

    with bar("read masks", total=len(rows)) as shown, ThreadPoolExecutor(THREADS) as threads:
        for _ in threads.map(fill, range(len(rows))):
            shown.advance()
    return made


class FeatureFeed:
    """Frozen patch features (N, H, W, K * D) and square targets (N, side, side); never augmented."""

    def __init__(self, patches: PatchRows, bits: np.ndarray) -> None:
        self.patches, self.bits = patches, bits

    def __len__(self) -> int:
        return len(self.bits)

    def read(self, at: np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Patches (B, H, W, K * D) float32 and bits; the seeds change nothing."""
        return torch.from_numpy(self.patches[at].astype(np.float32)), torch.from_numpy(self.bits[at])

    def logits(self, network: Network, batch: Tensor) -> Tensor:
        """Of the head alone."""
        assert isinstance(network, PatchNetwork)
        return network.head(batch)


class PictureFeed:
    """Images of a corpus, read and prepared for every batch.

    Args:
        corpus, rows: the images.
        bits: (N, side, side) square targets; of the square alone (:data:`WHOLE`) where there is augmentation.
        network: prepares them.
        augmented: change images and targets as the seeds say.
        mirror: see :func:`augment`.
    """

    def __init__(
        self, corpus: Corpus, rows: np.ndarray, bits: np.ndarray, network: Network, *, augmented: bool = False,
        mirror: Pairs | None = None,
    ) -> None:  # fmt: skip
        self.corpus, self.rows, self.bits, self.network = corpus, rows, bits, network
        self.augmented, self.mirror = augmented, mirror

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, at: np.ndarray, seeds: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Prepared images (B, C, S, S) and bits."""
        with ThreadPoolExecutor(THREADS) as threads:
            if not self.augmented or seeds is None:
                images = list(threads.map(lambda one: self.network.prepare([self._image(one)]), at))
                return torch.cat(images), torch.from_numpy(self.bits[at])
            squares = torch.stack(list(threads.map(self._square, at)))
            moved, bits = augment(squares, torch.from_numpy(self.bits[at]), seeds.tolist(), self.mirror)
            grey = (moved[:, 0].clamp(0, 1) * 65535).round().to(torch.int32).numpy().astype(np.uint16)
            images = list(threads.map(lambda one: self.network.prepare([one]), grey))
        margin = self.network.margin
        return torch.cat(images), torch.from_numpy(_in_frame(bits.numpy(), margin))

    def logits(self, network: Network, batch: Tensor) -> Tensor:
        """Of the whole network."""
        return network(batch)

    def _image(self, position: int) -> np.ndarray:
        return self.corpus.read(int(self.rows[position]))

    def _square(self, position: int) -> Tensor:
        """(1, S, S) in 0..1."""
        image = square(self._image(position))
        grey = torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max)[None]
        side = [self.network.picture] * 2
        return resize(grey, side, interpolation=InterpolationMode.BILINEAR, antialias=True).clamp(0, 1)


def _in_frame(bits: np.ndarray, margin: Margin) -> np.ndarray:
    """Bits of whole squares (B, s, s) as the encoder sees them."""
    if margin == WHOLE:
        return bits
    return np.stack([square_bits(one, one.shape[0], margin) for one in bits])
