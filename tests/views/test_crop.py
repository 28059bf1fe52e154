"""Crops as matrix products against torchvision's crop and antialiased resize."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2.functional import InterpolationMode, horizontal_flip, resized_crop

from raddino.views.crop import crop_and_resize, random_boxes

BOXES = [[10, 20, 60, 50], [0, 0, 140, 120], [5, 5, 20, 30], [139, 119, 1, 1]]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [16, 32, 75])
def test_equal_to_torchvision(size, flip):
    images = torch.rand(2, 140, 120, generator=torch.Generator().manual_seed(0))
    views = crop_and_resize(images, torch.tensor([BOXES] * 2), torch.full((2, len(BOXES)), flip), size)
    for image, found in zip(images, views, strict=True):
        for box, view in zip(BOXES, found, strict=True):
            expected = resized_crop(
                image[None], *box, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True
            )[0]
            expected = horizontal_flip(expected) if flip else expected
            torch.testing.assert_close(view, expected, rtol=0, atol=2e-5)


def test_padding_below_and_right_changes_nothing():
    image = torch.rand(1, 40, 30)
    padded = torch.nn.functional.pad(image, (0, 9, 0, 5), value=7.0)
    boxes, flip = torch.tensor([[[3, 2, 37, 28]]]), torch.zeros(1, 1, dtype=torch.bool)
    torch.testing.assert_close(crop_and_resize(image, boxes, flip, 16), crop_and_resize(padded, boxes, flip, 16))


def test_boxes_are_drawn_like_torchvisions():
    rng = np.random.default_rng(0)
    ours = random_boxes(rng, 4000, 200, 300, (0.2, 0.5))
    torch.manual_seed(0)
    draw = RandomResizedCrop(10, scale=(0.2, 0.5))
    params = [draw.make_params([torch.zeros(1, 200, 300)]) for _ in range(4000)]
    theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in params])
    assert (ours[:, 0] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= 200).all()
    assert (ours[:, 1] + ours[:, 3] <= 300).all()
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), rtol=0.04)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.06)


@pytest.mark.parametrize(("height", "width"), [(10, 400), (400, 10), (1, 1)])
def test_extreme_images_get_a_box_inside(height, width):
    boxes = random_boxes(np.random.default_rng(0), 20, height, width, (0.9, 1.0))
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()
