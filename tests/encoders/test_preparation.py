"""Preparation against torchvision and Pillow, on sizes with odd borders, tiny and long images, both depths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from cubic_kernel import keys
from raddino.encoders.preparation import Preparation
from raddino.errors import RaddinoError
from transformers_folders import close

SHAPES = [(64, 64), (150, 131), (91, 200), (40, 51), (33, 40), (48, 79), (83, 48), (1, 3)]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("backend", ["pil", "tensor"])
@pytest.mark.parametrize(("resize", "crop"), [(48, 48), (57, 40), (40, 56), ((40, 56), None)])
def test_eight_bits_are_prepared_as_torchvision_does(shape, interpolation, backend, resize, crop):
    image = noise(shape)
    mode = v2.InterpolationMode[interpolation.upper()]
    steps = [v2.Resize(resize, mode, antialias=True), *([v2.CenterCrop(crop)] if crop else [])]
    rgb = Image.fromarray(image).convert("RGB")
    source = rgb if backend == "pil" else v2.functional.pil_to_tensor(rgb)
    to_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    theirs = v2.Compose([*steps, *to_float])(source)
    ours = Preparation(resize, crop, MEAN, STD, interpolation, backend)
    batch = ours("x", [image])
    close(batch[0], theirs, 1e-5)
    assert batch.shape[2:] == ours.size
    ours.check("x", batch)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", ["pil", "tensor"])
def test_sixteen_bits_agree_with_eight_to_a_grey_level(shape, backend):
    image = noise(shape) // 4 + 90  # nothing to clip between the two passes of a resize
    steps = Preparation(40, 40, (0.0,), (1.0,), backend=backend)
    eight, sixteen = steps("x", [image]), steps("x", [image.astype(np.uint16) * 257])
    assert (eight - sixteen).abs().max() <= 1.5 / 255
    steps.check("x", sixteen)


def test_an_odd_border_goes_where_the_library_puts_it():
    image = np.tile(np.arange(45, dtype=np.uint8), (10, 1))
    nearest = Preparation(10, 10, (0.0,), (1.0,), maximum=255.0)
    assert nearest("x", [image])[0, 0, 0, 0] == 18
    assert replace(nearest, crop_start="down")("x", [image])[0, 0, 0, 0] == 17


def test_floats_are_not_rounded_and_their_overshoot_is_let_through():
    image = np.where(np.arange(60) % 10 < 5, 0, 255).astype(np.uint8)[None].repeat(60, 0)
    steps = Preparation((64, 64), None, (0.0,), (1.0,), float_resize=True)
    batch = steps("x", [image])
    assert batch.min() < -0.01
    assert batch.max() > 1.01
    steps.check("x", batch)
    with pytest.raises(RaddinoError, match="takes values in"):
        replace(steps, float_resize=False).check("x", batch)


def test_images_of_several_sizes_views_and_read_only_ones_make_one_batch():
    image = noise((30, 50))
    image.flags.writeable = False
    batch = Preparation(20, 20, MEAN, STD)("x", [image, image[:, ::-1], noise((90, 31)), image.T])
    assert batch.shape == (4, 3, 20, 20)
    assert batch.dtype == torch.float32
    assert batch.isfinite().all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8), np.int32),
        np.zeros((8, 8), bool),
        np.zeros((0, 8), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_what_is_not_a_grey_image_is_refused(image):
    with pytest.raises(RaddinoError, match="chexnet takes grey"):
        Preparation(8, 8, MEAN, STD)("chexnet", [image])


@pytest.mark.parametrize(
    "changed",
    [
        {"std": (0.2, 0.0, 0.2)}, {"std": (-0.1,) * 3}, {"std": (float("nan"),) * 3}, {"std": (0.2,)}, {"crop": 10**6},
        {"crop": 0}, {"crop": 8.5}, {"resize": -5}, {"resize": (8, 0)}, {"resize": None}, {"maximum": 0.0},
        {"mean": (float("inf"),) * 3},
    ],
)  # fmt: skip
def test_impossible_steps_are_refused(changed):
    with pytest.raises(RaddinoError):
        Preparation(**{"resize": 8, "crop": 8, "mean": MEAN, "std": STD} | changed)


def test_no_image_is_refused():
    with pytest.raises(RaddinoError, match="no image"):
        Preparation(8, 8, MEAN, STD)("chexnet", [])


@pytest.mark.parametrize("maximum", [1.0, 255.0])
def test_check_knows_channels_range_and_finiteness(maximum):
    steps = Preparation(16, 16, tuple(m * maximum for m in MEAN), tuple(s * maximum for s in STD), maximum=maximum)
    good = steps("x", [noise((20, 20)), np.zeros((9, 9), np.uint8), np.full((9, 9), 255, np.uint8)])
    steps.check("x", good)
    steps.check("x", good[:0])
    for bad, words in (
        (good[:, :1], r"batches \(B, 3, H, W\)"),
        (good[0], r"batches \(B, 3, H, W\)"),
        (good + 5, "takes values in"),
        (good * 255, "takes values in"),
        (torch.where(good > 1, torch.inf, good), "takes values in"),
        (torch.where(good > 1, torch.nan, good), "takes values in"),
    ):
        with pytest.raises(RaddinoError, match=words):
            steps.check("x", bad)


@pytest.mark.parametrize("side", [40, 64, 100, 301])
def test_no_image_overshoots_the_values_that_are_accepted(side):
    prepare = Preparation(resize=64, crop=64, mean=(0.5,) * 3, std=(0.25,) * 3, float_resize=True)
    noise = np.random.default_rng(side).integers(0, 2, (side, side)).astype(np.uint8) * 255
    prepare.check("dinov3", prepare("dinov3", [noise]))


@pytest.mark.parametrize("backend", ["pil", "tensor"])
@pytest.mark.parametrize("shape", [(90, 120), (30, 40), (31, 90)])
def test_bicubic_has_a_of_minus_one_half(backend, shape):
    """Reduced and enlarged, against Keys' kernel written out; a = -0.75, torch's without antialiasing, is another."""
    image = noise(shape, 3) // 3 + 80  # nothing to clip between the two passes of a resize
    found = Preparation((45, 60), None, (0.0,), (1.0,), "bicubic", backend)("x", [image])[0, 0].numpy() * 255
    for sharpness, equal in ((-0.5, True), (-0.75, False)):
        rows, columns = keys(shape[0], 45, sharpness), keys(shape[1], 60, sharpness)
        expected = (rows @ image.astype(float) @ columns.T).clip(0, 255)
        assert (np.abs(found - expected).max() < 1.6) == equal
