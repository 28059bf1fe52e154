"""Masks: the share of masked views, the spread of ratios, and where randomness comes from."""

import itertools
import math

import numpy as np
import pytest

from raddino.views import masks as sampler
from raddino.views.masks import Ahead, MaskConfig, _fill, batch_masks, block_mask, most_masked
from raddino.views.randomness import generator


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
    hole = 0b111101111
    found = {_fill(rng, (3, 3), 1, hole) for _ in range(20)}
    assert found <= {hole, 0b111111111}
    assert 0b111111111 in found


def plain_masks(seed: int, step: int, count: int, grid: tuple[int, int], config: MaskConfig) -> np.ndarray:
    """The definition, number by number from numpy's own generator."""
    rng, (rows, columns) = generator(seed, "masks", step), grid
    masks = np.zeros((count, rows, columns), dtype=bool)
    masked = int(count * config.probability)
    edges = np.linspace(*config.ratio, masked + 1)
    for view, low, high in zip(rng.permutation(count)[:masked], edges[:-1], edges[1:], strict=True):
        missing, attempts = int(rows * columns * rng.uniform(low, high)), 0
        while missing > 0 and attempts < 10:
            attempts += 1
            area = rng.uniform(4, max(4, min(missing, int(0.5 * rows * columns))))
            aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (0 < height < rows and 0 < width < columns):
                continue
            top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
            block = masks[view, top : top + height, left : left + width]
            if 0 < (new := block.size - int(block.sum())) <= missing:
                block[:] = True
                missing, attempts = missing - new, 0
    return masks.reshape(count, -1)


@pytest.mark.parametrize("grid", [(37, 37), (16, 16), (8, 8), (3, 3), (2, 5)])
@pytest.mark.parametrize("config", [MaskConfig(), MaskConfig(probability=1, ratio=(0, 1)), MaskConfig(probability=0)])
def test_masks_stay_as_published_runs_had_them(grid, config):
    for step, count in itertools.product(range(5), (80, 7, 1)):
        found = batch_masks(3, step, count, grid, config)
        assert found.dtype == bool
        assert np.array_equal(found, plain_masks(3, step, count, grid, config))


@pytest.mark.parametrize("before", [0, 1])
def test_numbers_drawn_ahead_are_the_generators(before):
    """Through several thousand draws, whichever half of 64 bits comes first; 3 x 2^30 rejects a quarter of them."""
    plain, other = generator(1, "masks", 2), generator(1, "masks", 2)
    assert plain.integers(9, size=before).tolist() == other.integers(9, size=before).tolist()
    ahead = Ahead(other)
    for high in [1, 2, 34, 3 * 2**30, 2**32 - 1] * 500:
        assert ahead.integers(high) == plain.integers(high)
        assert ahead.uniform(-1.5, high) == plain.uniform(-1.5, high)


@pytest.mark.parametrize("ratio", [(0.5, 0.1), (-0.1, 0.5), (0.5, 1.1)])
def test_shares_out_of_order_are_refused(ratio):
    with pytest.raises(ValueError, match="ratio must hold 0 <= low <= high <= 1"):
        MaskConfig(ratio=ratio)


def test_one_share_for_all_and_whole_shares_are_allowed():
    assert MaskConfig(ratio=(0, 1)).ratio == (0, 1)
    assert MaskConfig(ratio=(0.3, 0.3)).ratio == (0.3, 0.3)


SETTINGS = [
    ((16, 16), MaskConfig()), ((37, 37), MaskConfig(probability=1.0, ratio=(0.3, 0.3))), ((1, 9), MaskConfig()),
    ((4, 4), MaskConfig(ratio=(0.0, 1.0))), ((5, 7), MaskConfig(probability=0.3, ratio=(0.2, 0.9))),
    ((8, 8), MaskConfig(probability=0.0)), ((7, 7), MaskConfig(ratio=(0.1, 0.7))),
    ((3, 10), MaskConfig(ratio=(0, 0.1))),
]  # fmt: skip


@pytest.mark.parametrize("own", [None, 3, 16])
@pytest.mark.parametrize(("grid", "config"), SETTINGS)
def test_no_step_masks_more_than_the_most(grid, config, own):
    """Of all views, or of whichever share of them has the largest masks."""
    most = most_masked(16, grid, config, own)
    for step in range(100):
        assert np.sort(batch_masks(1, step, 16, grid, config).sum(1))[::-1][:own].sum() <= most


@pytest.mark.parametrize("own", [None, 3, 16])
@pytest.mark.parametrize(("grid", "config"), SETTINGS)
def test_the_most_is_met_where_the_largest_numbers_are_drawn_and_every_block_fits(monkeypatch, grid, config, own):
    monkeypatch.setattr(Ahead, "uniform", lambda _, low, high: low + (high - low) * (1 - 2.0**-53))
    monkeypatch.setattr(sampler, "_fill", lambda _, grid, missing: (1 << missing) - 1)
    found = np.sort(batch_masks(1, 0, 16, grid, config).sum(1))[::-1][:own].sum()
    assert most_masked(16, grid, config, own) == found
