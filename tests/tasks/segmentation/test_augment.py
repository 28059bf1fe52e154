"""Images and masks stay together whatever is drawn, and only the seed decides what is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from raddino.tasks.segmentation.augment import (
    DEFAULT,
    Strength,
    _backward,
    _move_bits,
    _move_images,
    augment,
    mirror_logits,
    swap_bits,
)  # fmt: skip
from raddino.tasks.segmentation.targets import IGNORE

NONE = Strength(0, 0, 0, 0, 0, 0, 0)
MOVES = replace(DEFAULT, brightness=0, contrast=0, gamma=0)


def smooth(batch=6, side=64):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = torch.stack([0.5 + 0.4 * torch.sin(x / (7 + i)) * torch.cos(y / (9 + i)) for i in range(batch)])
    bits = torch.randint(0, 8, (batch, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    return waves[:, None], bits


def test_without_strength_nothing_changes():
    images, bits = smooth()
    moved, moved_bits = augment(images, bits, range(6), [(0, 1)], NONE)
    torch.testing.assert_close(moved, images, atol=1e-4, rtol=0)
    assert torch.equal(moved_bits, bits)
    assert moved_bits.dtype == torch.int32


def test_a_square_and_its_mask_stay_together():
    bits = torch.zeros(32, 64, 64, dtype=torch.int32)
    bits[:, 24:44, 20:36] = 1
    images, moved = augment(bits[:, None].float(), bits, range(32), [], MOVES)
    inside = (moved == 1).float()[:, None]
    core = -torch.nn.functional.max_pool2d(-inside, 3, 1, 1)
    near = torch.nn.functional.max_pool2d(inside, 3, 1, 1)
    assert (images[core == 1] > 0.95).all()
    assert (images[near == 0] < 0.05).all()
    centres = [(one == 1).nonzero().float().mean(0) for one in moved]
    assert torch.stack(centres).std(0).min() > 1


def test_what_moves_in_is_black_and_ignored():
    images, bits = torch.ones(16, 1, 48, 48), torch.ones(16, 48, 48, dtype=torch.int32)
    moved, moved_bits = augment(images, bits, range(16), None, replace(MOVES, shift=0.2))
    assert set(moved_bits.unique().tolist()) == {1, IGNORE}
    assert (moved[:, 0][moved_bits == 1] > 0.24).all()
    assert (moved[:, 0][moved_bits == IGNORE] < 0.76).all()
    assert (moved_bits == IGNORE).any((1, 2)).all()


def test_a_turn_equals_scipy():
    images, bits = smooth(1)
    angle, scale, shift = 0.3, 1.2, np.array([0.1, -0.06])  # x, y
    place = _backward(torch.tensor([angle]), torch.tensor([scale]), torch.tensor(shift).float()[None])
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    matrix = np.array([[c, -s], [s, c]])  # y, x
    centre = np.full(2, 31.5)
    offset = centre - matrix @ (centre + shift[::-1] * 32)
    expected = affine_transform(images[0, 0].numpy(), matrix, offset, order=1, mode="grid-constant")
    torch.testing.assert_close(_move_images(images, place)[0, 0].numpy(), expected, atol=1e-4, rtol=0)
    nearest = affine_transform(bits[0].numpy(), matrix, offset, order=0, mode="constant", cval=IGNORE)
    inside = _move_bits(bits, place)[0].numpy()
    assert (inside == nearest).mean() > 0.97  # scipy's outside begins at the centre of the last pixel


def test_masks_of_another_size_move_as_far():
    coarse = torch.zeros(8, 16, 16, dtype=torch.int32)
    coarse[:, 4:9, 6:12] = 1
    fine = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    images, moved = augment(fine[:, None].float(), coarse, range(8), [], MOVES)
    pooled = torch.nn.functional.avg_pool2d(images, 4)[:, 0]
    agreed = ((pooled > 0.5) == (moved == 1))[moved != IGNORE].float().mean()
    assert agreed > 0.97


def test_the_seed_alone_decides():
    images, bits = smooth()
    together = augment(images, bits, [3, 1, 4, 1, 5, 9], [(0, 2)])
    alone = augment(images[2:3], bits[2:3], [4], [(0, 2)])
    for whole, one in zip(together, alone, strict=True):
        torch.testing.assert_close(whole[2:3], one)
    same = augment(images[:1].expand(2, -1, -1, -1), bits[:1].expand(2, -1, -1), [1, 1], [])
    assert torch.equal(same[0][0], same[0][1])
    assert not torch.allclose(together[0][1], augment(images[1:2], bits[1:2], [2], [(0, 2)])[0][0])


def test_light_stays_in_range_and_leaves_the_mask():
    images, bits = smooth()
    lit, same = augment(images, bits, range(6), None, replace(NONE, brightness=0.5, contrast=0.5, gamma=0.5))
    assert torch.equal(same, bits)
    assert lit.min() >= 0
    assert lit.max() <= 1
    assert (lit - images).abs().mean() > 0.02


def test_mirror_swaps_pairs_and_twice_is_nothing():
    images, bits = smooth()
    bits[:, 5] = IGNORE
    always = replace(NONE, mirror=1)
    mirrored, swapped = augment(images, bits, range(6), [(0, 2)], always)
    torch.testing.assert_close(mirrored, images.flip(-1), atol=1e-4, rtol=0)
    there = bits.flip(-1)
    assert torch.equal(swapped >> 0 & 1, there >> 2 & 1)
    assert torch.equal(swapped >> 1 & 1, there >> 1 & 1)
    assert torch.equal(swapped == IGNORE, there == IGNORE)
    assert torch.equal(augment(mirrored, swapped, range(6), [(0, 2)], always)[1], bits)
    assert torch.equal(augment(images, bits, range(6), None, always)[1], bits)
    many = bits[:1].expand(200, -1, -1)
    half = augment(images[:1].expand(200, -1, -1, -1), many, range(200), [], replace(NONE, mirror=0.5))[1]
    assert 70 < (half == many.flip(-1)).all((1, 2)).sum() < 130
    assert ((half == many.flip(-1)).all((1, 2)) | (half == many).all((1, 2))).all()


@pytest.mark.parametrize("exclusive", [False, True])
def test_logits_of_the_mirror_image_are_brought_back(exclusive):
    pairs, classes = [(0, 2), (3, 1)], 5
    bits = torch.randint(0, classes, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    bits = (1 << bits).int()
    mirrored = swap_bits(bits.flip(-1), pairs)
    logits, of_mirror = (
        torch.stack([torch.zeros(2, 8, 8, dtype=torch.int32)] * exclusive + [b >> c & 1 for c in range(classes)], 1)
        for b in (bits, mirrored)
    )
    assert torch.equal(mirror_logits(of_mirror, pairs, exclusive), logits)
