"""Losses against MONAI where the definitions agree, and their gradients where they must be zero or finite."""

import pytest
import torch

from raddino.tasks.segmentation.losses import SMOOTH, dice_loss, one_hot, segmentation_loss
from raddino.tasks.segmentation.targets import IGNORE

KINDS = ("dice_ce", "dice_focal")


def problem(exclusive, classes=3, side=16, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes + exclusive, side, side, generator=random)
    if exclusive:
        position = torch.randint(0, classes + 1, (2, side, side), generator=random)
        bits = torch.where(position > 0, 1 << (position - 1).clamp(min=0), 0).int()
    else:
        bits = torch.randint(0, 1 << classes, (2, side, side), generator=random).int()
    return logits, bits


def gradient(logits, bits, exclusive, kind):
    logits = logits.clone().requires_grad_()
    loss = segmentation_loss(logits, bits, exclusive, kind)
    loss.backward()
    return loss.detach(), logits.grad


def test_equal_to_monai_for_exclusive_classes():
    losses = pytest.importorskip("monai.losses")
    logits, bits = problem(True)
    target = torch.cat([bits[:, None] == 0, one_hot(bits, 3)], 1).float()
    dice = {"softmax": True, "include_background": False, "batch": True, "smooth_nr": SMOOTH, "smooth_dr": SMOOTH}
    expected = losses.DiceLoss(**dice)(logits, target)
    focal = losses.FocalLoss(use_softmax=True, include_background=True)(logits, target)
    entropy = losses.DiceCELoss(**dice)(logits, target)
    torch.testing.assert_close(segmentation_loss(logits, bits, True), entropy)
    # MONAI averages its focal loss over the channels too, of which one a pixel counts.
    torch.testing.assert_close(segmentation_loss(logits, bits, True, "dice_focal"), expected + focal * 4)


def test_equal_to_monai_for_overlapping_classes():
    losses = pytest.importorskip("monai.losses")
    logits, bits = problem(False)
    target = one_hot(bits, 3).float()
    dice = {"sigmoid": True, "batch": True, "smooth_nr": SMOOTH, "smooth_dr": SMOOTH}
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(
        segmentation_loss(logits, bits, False), losses.DiceLoss(**dice)(logits, target) + entropy
    )
    focal = losses.DiceFocalLoss(**dice)(logits, target)
    torch.testing.assert_close(segmentation_loss(logits, bits, False, "dice_focal"), focal)
    one = problem(False, classes=1)
    expected = losses.DiceCELoss(**dice)(one[0], one_hot(one[1], 1).float())
    torch.testing.assert_close(segmentation_loss(*one, False), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclusive", [True, False])
def test_ignored_pixels_change_nothing_and_get_no_gradient(exclusive, kind):
    logits, bits = problem(exclusive)
    bits[:, 4:9] = IGNORE
    loss, grad = gradient(logits, bits, exclusive, kind)
    assert (grad[:, :, 4:9] == 0).all()
    assert (grad[:, :, :4] != 0).any()
    other = logits.clone()
    other[:, :, 4:9] = 1e4
    assert torch.equal(segmentation_loss(other, bits, exclusive, kind), loss)
    kept = [i for i in range(16) if not 4 <= i < 9]
    torch.testing.assert_close(loss, segmentation_loss(logits[:, :, kept], bits[:, kept], exclusive, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_give_finite_losses_and_gradients(exclusive, kind, size):
    logits, bits = problem(exclusive)
    for signed in (size * logits.sign(), torch.full_like(logits, size), torch.full_like(logits, -size)):
        loss, grad = gradient(signed, bits, exclusive, kind)
        assert torch.isfinite(loss)
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclusive", [True, False])
def test_empty_masks_teach_that_nothing_is_there(exclusive, kind):
    logits, bits = problem(exclusive)
    loss, grad = gradient(logits, bits * 0, exclusive, kind)
    assert torch.isfinite(loss)
    assert (grad[:, int(exclusive) :].sum((0, 2, 3)) > 0).all()
    everything, nothing = gradient(logits, torch.full_like(bits, IGNORE), exclusive, kind)
    assert everything == 0
    assert (nothing == 0).all()


def test_dice_is_of_the_classes_that_occur():
    target = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    target[0, 0, :2] = True
    counted = torch.ones(1, 4, 4, dtype=torch.bool)
    perfect = torch.cat([target[:, :1].float(), torch.ones(1, 1, 4, 4)], 1)
    assert dice_loss(perfect, target, counted) == 0
    assert dice_loss(1 - perfect, target, counted) == pytest.approx(1 - SMOOTH / (8 + 8 + SMOOTH))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclusive", [True, False])
def test_the_right_answer_costs_nothing(exclusive, kind):
    _, bits = problem(exclusive)
    target = one_hot(bits, 3)
    target = torch.cat([(bits == 0)[:, None], target], 1) if exclusive else target
    assert segmentation_loss(60.0 * (2.0 * target.float() - 1), bits, exclusive, kind) < 1e-5


def test_coarse_logits_are_judged_at_the_size_of_the_mask():
    logits, _ = problem(True, side=4)
    bits = problem(True, side=16)[1]
    fine = torch.nn.functional.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(segmentation_loss(logits, bits, True), segmentation_loss(fine, bits, True))


def test_half_precision_logits_are_summed_in_single():
    logits, bits = problem(False, side=64)
    loss = segmentation_loss(logits.bfloat16(), bits, False)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, segmentation_loss(logits, bits, False), atol=2e-3, rtol=0)
