"""Probabilities on an image of any size and shape, from a network that sees squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from raddino.tasks.segmentation.augment import Pairs, mirror_logits
from raddino.tasks.segmentation.frame import Margin, square, unsquare
from raddino.tasks.segmentation.network import Network
from raddino.tasks.segmentation.settings import SegmentationConfig

TOGETHER = 8
HALF = 0.5


def probabilities(logits: Tensor, height: int, width: int, margin: Margin, exclusive: bool) -> Tensor:
    """Class probabilities (C, height, width) of an image from the logits of its square, background left out.

    Args:
        logits: (C, h, w), of exclusive classes (C + 1, h, w) with the background first.
        height, width: of the image.
        margin: of the network.
        exclusive: softmax over classes and background, else one sigmoid each.
    """
    whole = unsquare(logits.float(), height, width, margin)
    return whole.softmax(0)[1:] if exclusive else whole.sigmoid()


def to_bits(found: np.ndarray, exclusive: bool) -> np.ndarray:
    """Class bits (H, W) int32 of probabilities (C, H, W).

    Exclusive classes: the likeliest of them and the background, which has what they leave of 1. Overlapping classes:
    every one above 0.5; the threshold is not tuned, so that a probability means the same for every class.
    """
    if not exclusive:
        chosen = found > HALF
        return sum((chosen[c].astype(np.int32) << c for c in range(len(found))), np.zeros(found.shape[1:], np.int32))
    best = found.argmax(0)
    likely = np.take_along_axis(found, best[None], 0)[0] > 1 - found.sum(0)
    return np.where(likely, np.int32(1) << best.astype(np.int32), 0).astype(np.int32)


def drop_islands(bits: np.ndarray, classes: int, share: float) -> np.ndarray:
    """Class bits without small pieces, which become background.

    A piece is pixels of one class that touch by an edge or a corner.

    Args:
        bits: (H, W) int32, see :func:`to_bits`.
        classes: how many there are.
        share: of the class's largest piece in this image; smaller pieces are dropped. 0 drops none, 1 keeps the
            largest (and its equals).
    """
    kept = bits.copy()
    for position in range(classes):
        pieces, count = ndimage.label(bits >> position & 1, structure=np.ones((3, 3)))
        if count > 1:
            sizes = np.bincount(pieces.ravel())[1:]
            small = np.concatenate([[False], sizes < share * sizes.max()])
            kept[small[pieces]] &= ~np.int32(1 << position)
    return kept


def class_bits(found: np.ndarray, exclusive: bool, islands: float) -> np.ndarray:
    """:func:`to_bits` of probabilities (C, H, W), then :func:`drop_islands` with the share ``islands``."""
    bits = to_bits(found, exclusive)
    return drop_islands(bits, len(found), islands) if islands else bits


class Predictor:
    """A trained network with its test-time settings.

    Args:
        network: in evaluation.
        options: ``test_flips`` and ``window`` are followed.
        mirror: pairs of class positions, for flips.
    """

    def __init__(self, network: Network, options: SegmentationConfig, mirror: Pairs | None) -> None:
        self.network, self.options, self.mirror = network.eval(), options, mirror

    @property
    def plain(self) -> bool:
        """Whether an image is seen once, as a whole, so that features in a cache say all."""
        return not self.options.test_flips and self.options.window == 1

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Probabilities (C, H, W) float32 of a grey image (H, W), uint8 or uint16."""
        if self.options.window == 1:
            return self._whole([image])[0].cpu().numpy()
        canvas = square(image)
        side = len(canvas)
        cut = max(1, round(self.options.window * side))
        places = [(top, left) for top in window_starts(side, cut) for left in window_starts(side, cut)]
        found, seen = None, torch.zeros(side, side)
        for start in range(0, len(places), TOGETHER):
            part = places[start : start + TOGETHER]
            crops = self._whole([canvas[top : top + cut, left : left + cut] for top, left in part])
            found = torch.zeros(len(crops[0]), side, side) if found is None else found
            for (top, left), values in zip(part, crops, strict=True):
                found[:, top : top + cut, left : left + cut] += values.cpu()
                seen[top : top + cut, left : left + cut] += 1
        assert found is not None
        height, width = image.shape
        top, left = (side - height) // 2, (side - width) // 2
        return (found / seen)[:, top : top + height, left : left + width].numpy()

    def of_logits(self, logits: Tensor, shape: tuple[int, ...]) -> np.ndarray:
        """Probabilities (C, H, W) of an image of ``shape`` (H, W) from logits (C, h, w) of its square."""
        height, width = shape
        return probabilities(logits, height, width, self.network.margin, self.options.exclusive).cpu().numpy()

    def _whole(self, images: Sequence[np.ndarray]) -> list[Tensor]:
        """Probabilities (C, h, w) of images seen as a whole, averaged with their mirror images where that is asked."""
        flipped = [np.ascontiguousarray(image[:, ::-1]) for image in images] if self.options.test_flips else []
        batch = self.network.prepare([*images, *flipped]).to(self.network.device)
        logits = self.network(batch)
        exclusive, margin = self.options.exclusive, self.network.margin
        found = []
        for position, image in enumerate(images):
            height, width = image.shape
            here = probabilities(logits[position], height, width, margin, exclusive)
            if flipped:
                there = unsquare(logits[len(images) + position].float(), height, width, margin)
                there = mirror_logits(there, self.mirror or (), exclusive)
                here = (here + (there.softmax(0)[1:] if exclusive else there.sigmoid())) / 2
            found.append(here)
        return found


def window_starts(side: int, cut: int) -> list[int]:
    """Where windows of ``cut`` pixels begin along ``side``: evenly from edge to edge, overlapping by half or more."""
    count = 1 + -(-2 * (side - cut) // cut)
    return [round(position) for position in np.linspace(0, side - cut, count)]
