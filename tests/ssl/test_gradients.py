"""Oriented gradients as the target of patches: histograms by hand, the loss, and nothing where it is off."""

import math

import numpy as np
import pytest
import torch
from skimage.feature import hog

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation, SslConfig, Views
from raddino.ssl.gradients import GradientsConfig, OrientedGradients, histograms
from raddino.training.settings import PretrainConfig
from raddino.vit import VitConfig

VIT = VitConfig(embed_dim=16, depth=2, num_heads=2, patch_size=4, image_size=16, layerscale_init=0.5)
BINS = 6
HEAD = {"prototypes": 12, "hidden": 16, "bottleneck": 8}


def task(**gradients) -> SelfDistillation:
    config = SslConfig(head=HEAD, gradients=gradients)
    return SelfDistillation(VIT, config).init_weights(torch.Generator().manual_seed(0)).double().train()


def views() -> Views:
    generator = torch.Generator().manual_seed(1)
    crops, small = (torch.randn(8, 1, side, side, generator=generator).double() for side in (16, 8))
    return Views.build(crops, small, torch.rand(8, 16, generator=generator) < 0.3)


def ramp(degrees: float, size: int = 24, slope: float = 1.0) -> torch.Tensor:
    """(1, 1, size, size) whose grey rises at one rate in one direction, x to the right and y down."""
    y, x = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    return slope * (x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees)))[None, None]


@pytest.mark.parametrize(("degrees", "bins"), [(0, {0: 1}), (90, {3: 1}), (150, {5: 1}), (165, {5: 1, 0: 1}),
                                               (210, {1: 1}), (40, {1: 2, 2: 1})])  # fmt: skip
def test_a_ramp_is_in_the_bins_of_its_direction(degrees, bins):
    inside = histograms(ramp(degrees), 8, BINS).view(3, 3, BINS, 2, 2)[1, 1]
    share = torch.zeros(BINS).double()
    share[list(bins)] = torch.tensor(list(bins.values())).double()
    expected = math.sqrt(BINS) * share / share.norm()
    torch.testing.assert_close(inside, expected.view(-1, 1, 1).expand_as(inside), rtol=0.05, atol=0.02)


def test_a_cell_has_its_own_histogram_and_patches_come_row_by_row():
    image = torch.cat([ramp(0, 16)[..., :8], ramp(90, 16)[..., :8]], 3)
    energy = histograms(image, 8, BINS).view(2, 2, BINS, 2, 2).square()
    assert (energy[:, 0, 0, :, 0] > 4 * energy[:, 0, 3, :, 0]).all()
    assert (energy[:, 1, 3, :, 1] > 4 * energy[:, 1, 0, :, 1]).all()


def test_contrast_and_brightness_do_not_count_and_flat_background_says_nothing():
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(histograms(5 * image + 3, 8, 9), histograms(image, 8, 9), rtol=0.3, atol=0.1)
    assert histograms(torch.ones(1, 1, 32, 32), 8, 9).abs().max() == 0
    assert histograms(1e-4 * image, 8, 9).abs().max() < 0.2


def test_mean_square_is_about_one():
    image = 9 * torch.rand(4, 1, 56, 56, generator=torch.Generator().manual_seed(0)).double()
    assert histograms(image, 14, 9).square().mean().item() == pytest.approx(1, rel=0.15)


def test_turned_by_a_quarter_all_turns():
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    plain = histograms(image, 8, BINS).view(4, 4, BINS, 2, 2)
    turned = histograms(image.rot90(1, (2, 3)), 8, BINS).view(4, 4, BINS, 2, 2)
    expected = plain.rot90(1, (0, 1)).rot90(1, (3, 4)).roll(BINS // 2, 2)
    torch.testing.assert_close(turned, expected)


def test_agrees_with_scikit_image():
    """Whose bins are hard, beside each other where ours overlap, and whose norm is a cell's own."""
    coarse = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, size=(96, 96), mode="bicubic")
    ours = histograms(image, 16, 9).view(6, 6, 9, 2, 2).permute(0, 3, 1, 4, 2).reshape(144, 9).numpy()
    hard = hog(image[0, 0].numpy(), 9, (8, 8), (1, 1), feature_vector=False).reshape(144, 9)
    ours, theirs = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (ours, hard + np.roll(hard, 1, 1)))
    alike = [np.median((ours * np.roll(theirs, shift, 1)).sum(1)) for shift in range(9)]
    assert alike[0] > 0.9
    assert max(alike[1:]) < alike[0] - 0.05


def test_a_head_that_tells_the_target_loses_nothing():
    part = OrientedGradients(4 * BINS, 8, GradientsConfig(weight=3, orientations=BINS)).double()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    target = histograms(image, 8, BINS)
    with torch.no_grad():
        part.head.weight.copy_(torch.eye(4 * BINS))
        part.head.bias.zero_()
    assert part(target, image).item() == pytest.approx(0, abs=1e-20)
    assert part(0 * target, image).item() == pytest.approx(3 * target.square().mean().item(), rel=1e-12)


def test_all_patches_and_no_teacher_learn_from_it():
    plain, asked = task(), task(weight=2.0)
    losses, more = plain(views(), 0.05), asked(views(), 0.05)
    assert more.total.item() == pytest.approx((losses.total + more.options["gradients"]).item(), rel=1e-12)
    assert more.options["gradients"].item() == pytest.approx(2.0, rel=0.3), "told nothing yet"
    more.options["gradients"].backward()
    assert asked.student.gradients.head.weight.grad.abs().sum() > 0
    assert asked.student.backbone.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    assert asked.student.backbone.mask_token.grad.abs().sum() > 0
    assert asked.teacher.gradients is None


def test_off_it_is_the_plain_step():
    assert task().state_dict().keys() == task(weight=0.0, orientations=3).state_dict().keys()
    assert task().student.gradients is None


def test_gradients_and_an_anchor_together():
    config = SslConfig(head=HEAD, gradients={"weight": 1.0}, gram={"weight": 1.0})
    model = SelfDistillation(VIT, config).init_weights(torch.Generator().manual_seed(0)).double().train()
    assert {"gradients", "gram"} <= model(views(), 0.05).options.keys()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"ssl": {"gradients": {"weight": -1}}}, "greater than or equal to 0"),
        ({"ssl": {"gradients": {"orientations": 1}}}, "greater than or equal to 2"),
        ({"ssl": {"gradients": {"wight": 1}}}, "Did you mean 'weight'"),
        ({"ssl": {"gradients": {"weight": 1}}, "vit": {"patch_size": 7, "image_size": 28},
          "views": {"global_size": 28, "local_size": 14}}, "patch_size 7 is odd"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_line(values, match):
    with pytest.raises(ConfigError, match=match):
        validate(PretrainConfig, values)
