"""Masks: the share of masked views, the spread of ratios, and where randomness comes from."""

import numpy as np
import pytest

from raddino.views.masks import MaskConfig, _add_block, batch_masks, block_mask


@pytest.mark.parametrize("grid", [(37, 37), (8, 8), (3, 3), (2, 5)])
def test_never_more_than_asked_and_never_everything(grid):
    rng = np.random.default_rng(0)
    for target in range(grid[0] * grid[1]):
        mask = block_mask(rng, grid, target)
        assert mask.shape == grid
        assert mask.sum() <= target


def test_large_grids_come_close_to_the_target():
    rng = np.random.default_rng(0)
    reached = [block_mask(rng, (37, 37), 500).sum() for _ in range(50)]
    assert np.mean(reached) > 480


def test_half_the_views_are_masked_with_ratios_spread_evenly():
    masks = batch_masks(0, 5, 64, (37, 37), MaskConfig())
    shares = np.sort(masks.mean(1))
    assert (shares[:32] == 0).all()
    np.testing.assert_allclose(shares[32:], np.linspace(0.1, 0.5, 33)[:-1] + 0.2 / 33, atol=0.05)


def test_masks_depend_on_seed_and_step_alone():
    first = batch_masks(1, 2, 16, (8, 8), MaskConfig())
    assert np.array_equal(first, batch_masks(1, 2, 16, (8, 8), MaskConfig()))
    assert not np.array_equal(first, batch_masks(1, 3, 16, (8, 8), MaskConfig()))
    assert not np.array_equal(first, batch_masks(2, 2, 16, (8, 8), MaskConfig()))
    assert not batch_masks(1, 2, 16, (8, 8), MaskConfig(probability=0)).any()


def test_a_single_missing_patch_is_found():
    rng = np.random.default_rng(0)
    hole = np.ones((3, 3), dtype=bool)
    hole[1, 1] = False
    added = []
    for _ in range(20):
        mask = hole.copy()
        added.append(_add_block(rng, mask, 1, 4))
        assert mask.sum() == 8 + added[-1]
    assert 1 in added


@pytest.mark.parametrize("ratio", [(0.5, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_shares_out_of_order_are_refused(ratio):
    with pytest.raises(ValueError, match="ratio must hold 0 <= low <= high <= 1"):
        MaskConfig(ratio=ratio)


def test_one_share_for_all_and_whole_shares_are_allowed():
    assert MaskConfig(ratio=(0, 1)).ratio == (0, 1)
    assert MaskConfig(ratio=(0.3, 0.3)).ratio == (0.3, 0.3)
