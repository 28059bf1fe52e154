"""Probabilities come back at the image's own size and place, with flips and windows as without."""

import numpy as np
import pytest
import torch
from torch import nn

from raddino.config import validate
from raddino.tasks.segmentation.frame import square
from raddino.tasks.segmentation.predict import Predictor, class_bits, drop_islands, to_bits, window_starts
from raddino.tasks.segmentation.settings import SegmentationConfig


class BrightLeft(nn.Module):
    """Logits from grey values: class 0 where bright, class 1 where dark and in the left half of what is seen."""

    margin, device = (0.0, 0.0), torch.device("cpu")

    def __init__(self, side=64):
        super().__init__()
        self.side = side

    def prepare(self, images):
        batch = torch.stack([torch.from_numpy(square(one).astype(np.float32))[None] for one in images])
        return nn.functional.interpolate(batch, size=(self.side, self.side), mode="bilinear", antialias=True)

    def forward(self, batch):
        bright = (batch - 128) / 8
        left = (torch.arange(self.side) < self.side // 2).float() * 2 - 1
        return torch.cat([bright, 10 * left.expand_as(bright)], dim=1)


CLASSES = {"coding": "bits", "classes": {"bright": 0, "left": 1}}


def predictor(**values):
    options = validate(SegmentationConfig, CLASSES | values)
    return Predictor(BrightLeft(), options, None if options.mirror is None else [])


@pytest.mark.parametrize("shape", [(64, 64), (50, 90), (120, 40), (7, 200)])
@pytest.mark.parametrize("values", [{}, {"window": 0.5}, {"test_flips": True, "mirror": []}], ids=str)
def test_what_is_bright_is_found_in_its_place(shape, values):
    image = np.zeros(shape, np.uint8)
    height, width = shape
    image[height // 4 : height // 2 + 2, width // 2 :] = 255
    found = predictor(**values)(image)
    assert found.shape == (2, *shape)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    wrong = (found[0] > 0.5) != (image > 128)
    assert wrong.mean() < 0.1


def test_flips_average_with_the_mirror_image_and_swap_its_classes():
    options = validate(SegmentationConfig, CLASSES | {"mirror": [], "test_flips": True})
    image = np.full((64, 64), 200, np.uint8)
    there = Predictor(BrightLeft(), options, [])(image)
    np.testing.assert_allclose(there[1], 0.5, atol=1e-4)
    swapped = Predictor(BrightLeft(), options, [(0, 1)])(image)
    np.testing.assert_allclose(swapped[0, :, :20], (1 + 0) / 2, atol=1e-3)
    np.testing.assert_allclose(swapped[0, :, 44:], (1 + 1) / 2, atol=1e-3)


def test_bits_of_exclusive_classes_compete_with_the_background():
    found = np.array([[[0.5, 0.2, 0.4]], [[0.3, 0.2, 0.45]]], np.float32)
    np.testing.assert_array_equal(to_bits(found, True), [[1, 0, 2]])
    np.testing.assert_array_equal(to_bits(np.float32([[[0.6, 0.4]], [[0.7, 0.6]]]), False), [[3, 2]])


def test_windows_reach_both_edges_and_overlap_by_half():
    assert window_starts(100, 100) == [0]
    assert window_starts(100, 50) == [0, 25, 50]
    for side, cut in ((97, 31), (64, 63), (11, 5)):
        starts = window_starts(side, cut)
        assert starts[0] == 0
        assert starts[-1] == side - cut
        assert max(np.diff(starts)) <= cut / 2 + 1


def by_hand(mask, share):
    """Pieces found by walking from pixel to pixel."""
    left, pieces = {tuple(at) for at in np.argwhere(mask)}, []
    while left:
        piece, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            piece.add((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    edge.append(near)
        pieces.append(piece)
    kept = np.zeros_like(mask)
    for piece in pieces:
        if len(piece) >= share * max(map(len, pieces)):
            kept[tuple(zip(*piece, strict=True))] = True
    return kept


@pytest.mark.parametrize("share", [0.0, 0.1, 0.34, 0.9, 1.0])
def test_islands_are_dropped_as_by_hand_and_by_scikit_image(share):
    measure = pytest.importorskip("skimage.measure")
    rng = np.random.default_rng(5)
    for _ in range(20):
        bits = (rng.random((3, 24, 17)) < 0.35).astype(np.int32)
        whole = sum((bits[c] << c for c in range(3)), np.zeros((24, 17), np.int32))
        before, kept = whole.copy(), drop_islands(whole, 3, share)
        np.testing.assert_array_equal(whole, before)
        assert kept.dtype == np.int32
        for c in range(3):
            found = kept >> c & 1 == 1
            np.testing.assert_array_equal(found, by_hand(bits[c] == 1, share))
            pieces = measure.label(bits[c], connectivity=2)
            sizes = {one.label: one.area for one in measure.regionprops(pieces)}
            good = [label for label, size in sizes.items() if size >= share * max(sizes.values())]
            np.testing.assert_array_equal(found, np.isin(pieces, good))


def test_two_lungs_stay_and_a_speck_goes():
    bits = np.zeros((20, 20), np.int32)
    bits[2:18, 2:8] = bits[2:18, 12:17] = 1
    alone = bits.copy()
    bits[0, 19] = 1
    np.testing.assert_array_equal(drop_islands(bits, 1, 0.1), alone)
    assert drop_islands(bits, 1, 1)[:, 10:].sum() == 0
    np.testing.assert_array_equal(class_bits(bits[None].astype(np.float32), False, 0), bits)
    np.testing.assert_array_equal(class_bits(bits[None].astype(np.float32), True, 0.1), alone)
    assert not drop_islands(np.zeros((4, 4), np.int32), 2, 1).any()
