"""Crops by taps against dense products over the whole axis and torchvision's crop and antialiased resize."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2.functional import InterpolationMode, horizontal_flip, resized_crop

from raddino.views.crop import BICUBIC, crop_taps, random_boxes, resample

BOXES = [[10, 20, 60, 50], [0, 0, 140, 120], [5, 5, 20, 30], [139, 119, 1, 1]]


def crops(images: torch.Tensor, boxes: torch.Tensor, flip: torch.Tensor, size: int) -> torch.Tensor:
    """Views (V, B, size, size) of images (B, H, W) for boxes (V, B, 4) and mirrors (V, B)."""
    across, down = crop_taps(boxes, flip, size, torch.ones(flip.shape), int(boxes[..., 2:].max()))
    return resample(images.transpose(1, 2).contiguous(), across, down)


def dense_matrix(start: int, length: int, source: int, target: int, flip: bool) -> torch.Tensor:
    """Weights (target, source) of the definition: the cubic kernel at every pixel of the axis."""
    pixel, out = torch.arange(source)[None].float(), torch.arange(target)[:, None].float()
    out = target - 1 - out if flip else out
    step = torch.tensor(length) / target
    x = (pixel - start + 0.5 - (out + 0.5) * step).abs() / step.clamp(min=1)
    near = ((BICUBIC + 2) * x - (BICUBIC + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * BICUBIC - 4 * BICUBIC
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0)) * ((pixel >= start) & (pixel < start + length))
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize(("height", "width"), [(140, 120), (518, 620), (97, 300)])
@pytest.mark.parametrize("size", [16, 75, 196, 518])
def test_equal_to_the_dense_products(height, width, size):
    rng = np.random.default_rng(size + width)
    images = torch.from_numpy(rng.random((2, height, width), dtype=np.float32))
    boxes = np.stack([random_boxes(rng, 2, height, width, scale) for scale in [(0.5, 1), (0.2, 0.5), (0.001, 0.01)]])
    flip = torch.tensor([[False, True], [True, False], [False, True]])
    found = crops(images, torch.from_numpy(boxes), flip, size)
    for v, b in np.ndindex(3, 2):
        top, left, h, w = boxes[v, b]
        rows = dense_matrix(int(top), int(h), height, size, False)
        columns = dense_matrix(int(left), int(w), width, size, bool(flip[v, b]))
        expected = (rows.double() @ images[b].double() @ columns.double().T).float()
        torch.testing.assert_close(found[v, b], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 40, 113])
def test_no_pixel_under_the_kernel_is_left_out(length):
    """K = 4 max(1, length / target), rounded up, taps are all that the kernel touches."""
    across, _ = crop_taps(torch.tensor([[3, 3, length, length]]), torch.tensor([False]), 16, torch.ones(1), length)
    assert across.places.shape == (1, 16, math.ceil(4 * max(1, length / 16)))
    found = torch.zeros(16, 130).scatter_add_(1, across.places[0].long(), across.weights[0])
    torch.testing.assert_close(found, dense_matrix(3, length, 130, 16, False), rtol=0, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [16, 32, 75])
def test_equal_to_torchvision(size, flip):
    images = torch.rand(2, 140, 120, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor(BOXES)[:, None].expand(-1, 2, -1)
    views = crops(images, boxes, torch.full((len(BOXES), 2), flip), size)
    for image, found in zip(images, views.transpose(0, 1), strict=True):
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
    assert torch.equal(crops(image, boxes, flip, 16), crops(padded, boxes, flip, 16))


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
