"""Grey-value changes against torchvision."""

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from raddino.views.photometric import blur, jitter, solarize


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_blur_is_torchvisions(images):
    sigma = torch.tensor([0.2, 1.0, 2.0])
    expected = torch.cat(
        [tv.gaussian_blur(i[None], [9, 9], [s.item()] * 2) for i, s in zip(images, sigma, strict=True)]
    )
    torch.testing.assert_close(blur(images, sigma), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("contrast_first", [False, True])
def test_jitter_is_torchvisions(images, contrast_first):
    brightness, contrast = torch.tensor([0.6, 1.0, 1.4]), torch.tensor([1.4, 0.7, 1.0])
    found = jitter(images, brightness, contrast, torch.full((3,), contrast_first))
    for image, b, c, view in zip(images, brightness, contrast, found, strict=True):
        steps = [
            lambda x, b=b: tv.adjust_brightness(x, b.item()),
            lambda x, c=c: tv.adjust_contrast(x, c.item()),
        ]
        expected = image[None]
        for step in reversed(steps) if contrast_first else steps:
            expected = step(expected)
        torch.testing.assert_close(view, expected[0], rtol=0, atol=1e-6)


def test_solarize_is_torchvisions(images):
    torch.testing.assert_close(solarize(images), tv.solarize(images, 0.5))
