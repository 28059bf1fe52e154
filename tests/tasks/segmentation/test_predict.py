"""Probabilities come back at the image's own size and place, with flips and windows as without."""

import numpy as np
import pytest
import torch
from torch import nn

from raddino.config import validate
from raddino.tasks.segmentation.frame import square
from raddino.tasks.segmentation.predict import Predictor, to_bits, window_starts
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
