"""Masks: the share of masked views, the spread of ratios, and where randomness comes from."""

import hashlib
import itertools
import math

import numpy as np
import pytest

from raddino.views import masks
from raddino.views.masks import MaskConfig, batch_masks, most_masked
from raddino.views.randomness import generator


def shares_of(share: float) -> MaskConfig:
    return MaskConfig(probability=1, ratio=(share, share))


@pytest.mark.parametrize("grid", [(37, 37), (8, 8), (3, 3), (2, 5)])
def test_never_more_than_asked_and_never_everything(grid):
    patches = grid[0] * grid[1]
    for target in range(patches):
        found = batch_masks(0, target, 4, grid, shares_of((target + 0.5) / patches))
        assert found.shape == (4, patches)
        assert (found.sum(1) <= target).all()


def test_large_grids_come_close_to_the_target():
    assert batch_masks(0, 0, 50, (37, 37), shares_of(500.5 / 37**2)).sum(1).mean() > 480


def test_half_the_views_are_masked_with_ratios_spread_evenly():
    shares = np.sort(batch_masks(0, 5, 64, (37, 37), MaskConfig()).mean(1))
    assert (shares[:32] == 0).all()
    np.testing.assert_allclose(shares[32:], np.linspace(0.1, 0.5, 33)[:-1] + 0.2 / 33, atol=0.05)


def test_masks_depend_on_seed_and_step_alone():
    first = batch_masks(1, 2, 16, (8, 8), MaskConfig())
    assert np.array_equal(first, batch_masks(1, 2, 16, (8, 8), MaskConfig()))
    assert not np.array_equal(first, batch_masks(1, 3, 16, (8, 8), MaskConfig()))
    assert not np.array_equal(first, batch_masks(2, 2, 16, (8, 8), MaskConfig()))
    assert not batch_masks(1, 2, 16, (8, 8), MaskConfig(probability=0)).any()


def test_a_single_missing_patch_is_found():
    """Of 3 x 3 patches only blocks of 2 x 2 are possible: the last patch is the only one that such a block adds."""
    assert batch_masks(0, 0, 20, (3, 3), shares_of(1)).all(1).any()


def plain_masks(seed: int, step: int, count: int, grid: tuple[int, int], config: MaskConfig) -> np.ndarray:
    """The definition, number by number from numpy's own generator."""
    rng, (rows, columns) = generator(seed, "masks", step), grid
    plain = np.zeros((count, rows, columns), dtype=bool)
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
            block = plain[view, top : top + height, left : left + width]
            if 0 < (new := block.size - int(block.sum())) <= missing:
                block[:] = True
                missing, attempts = missing - new, 0
    return plain.reshape(count, -1)


@pytest.mark.parametrize("grid", [(37, 37), (16, 16), (8, 8), (3, 3), (2, 5)])
@pytest.mark.parametrize("config", [MaskConfig(), MaskConfig(probability=1, ratio=(0, 1)), MaskConfig(probability=0)])
def test_masks_stay_as_published_runs_had_them(grid, config):
    for step, count in itertools.product(range(5), (80, 7, 1)):
        found = batch_masks(3, step, count, grid, config)
        assert found.dtype == bool
        assert np.array_equal(found, plain_masks(3, step, count, grid, config))


@pytest.mark.parametrize("sure", [0, 2**32 - 1 - 2**26])
def test_numbers_that_numpy_might_reject_are_numpys(monkeypatch, sure):
    """All of them, and one in 64 of them, which is so rare with the true bound that no test would meet it."""
    monkeypatch.setattr(masks, "SURE", sure)
    for grid, count in itertools.product([(37, 37), (3, 3)], (80, 7)):
        asked = 5, 1, count, grid, MaskConfig()
        assert np.array_equal(batch_masks(*asked), plain_masks(*asked))


@pytest.mark.parametrize(("grid", "step"), [((8, 1005), 1287), ((1005, 8), 383)])
def test_numbers_that_numpy_rejects_are_drawn_again(grid, step):
    """Steps that were searched for: at one of their blocks the place across, or down, is drawn twice."""
    config = MaskConfig(probability=1, ratio=(0.002, 0.004))
    assert np.array_equal(batch_masks(0, step, 60, grid, config), plain_masks(0, step, 60, grid, config))


@pytest.mark.parametrize("ahead", [31, 33, 48, 1000])
def test_masks_do_not_depend_on_how_many_numbers_are_drawn_at_once(monkeypatch, ahead):
    monkeypatch.setattr(masks, "AHEAD", ahead)
    for grid, ratio in itertools.product([(37, 37), (3, 3)], [(0.1, 0.5), (0, 0.3)]):
        config = MaskConfig(probability=1, ratio=ratio)
        for count in (1, 40):
            assert np.array_equal(batch_masks(2, 0, count, grid, config), plain_masks(2, 0, count, grid, config))


def test_masks_stay_those_of_the_first_release():
    """A digest that was taken before masks were made from bits."""
    digest = hashlib.sha256()
    for seed, count, grid in ((0, 80, (37, 37)), (7, 16, (8, 8)), (3, 9, (16, 12)), (2**60, 40, (37, 37))):
        for step in range(20):
            digest.update(np.packbits(batch_masks(seed, step, count, grid, MaskConfig())).tobytes())
    assert digest.hexdigest() == "a5096dfc05e0e4d749d5d490ebf924b305a41266ae2e152eb4b2cdec428527cf"


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
    def full(rng, grid, shares):
        for low, high in shares:
            yield (1 << int(math.prod(grid) * (low + (high - low) * (1 - 2.0**-53)))) - 1

    monkeypatch.setattr(masks, "_block_masks", full)
    found = np.sort(batch_masks(1, 0, 16, grid, config).sum(1))[::-1][:own].sum()
    assert most_masked(16, grid, config, own) == found
