"""Dice, Jaccard and surface metrics against scikit-learn, MONAI, scipy and closed forms, empty masks included."""

import warnings

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt
from sklearn.metrics import f1_score, jaccard_score

from raddino.metrics import overlap


def disc(y, x, radius, shape=(40, 52)):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def single(y, x, shape=(40, 52)):
    mask = np.zeros(shape, bool)
    mask[y, x] = True
    return mask


EMPTY = np.zeros((40, 52), bool)
PAIRS = {
    "shifted": (disc(20, 20, 9), disc(22, 25, 9)),
    "nested": (disc(20, 20, 5), disc(20, 20, 14)),
    "apart": (disc(8, 8, 3), disc(30, 40, 5)),
    "at the edge": (disc(0, 0, 9), disc(39, 51, 12)),
    "whole image": (~EMPTY, disc(20, 20, 9)),
    "equal": (disc(20, 20, 9), disc(20, 20, 9)),
    "one pixel each": (single(3, 4), single(6, 8)),
    "one pixel, one disc": (single(0, 51), disc(20, 20, 9)),
    "noise": tuple(np.random.default_rng(0).random((2, 40, 52)) < 0.3),
    "missed": (EMPTY, disc(20, 20, 9)),
    "false alarm": (single(5, 5), EMPTY),
    "both empty": (EMPTY, EMPTY),
}


def counts(predicted, true):
    return (predicted & true).sum(), predicted.sum(), true.sum()


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "both empty"])
def test_dice_and_jaccard_equal_scikit_learn(name):
    predicted, true = PAIRS[name]
    flat = true.ravel(), predicted.ravel()
    assert overlap.dice(*counts(predicted, true)) == pytest.approx(f1_score(*flat, zero_division=0))
    assert overlap.iou(*counts(predicted, true)) == pytest.approx(jaccard_score(*flat, zero_division=0))


def test_each_rule_on_each_kind_of_empty_mask():
    #                      miss  false alarm  both empty  half
    both, p, t = np.array([[0, 0, 0, 2], [0, 5, 0, 4], [7, 0, 0, 4]])
    np.testing.assert_array_equal(overlap.dice(both, p, t), [0, 0, np.nan, 0.5])
    np.testing.assert_array_equal(overlap.dice_nonempty(both, p, t), [0, np.nan, np.nan, 0.5])
    np.testing.assert_array_equal(overlap.dice_all(both, p, t), [0, 0, 1, 0.5])
    np.testing.assert_array_equal(overlap.iou(both, p, t), [0, 0, np.nan, 2 / 6])
    np.testing.assert_array_equal(overlap.false_alarm(p, t), [np.nan, 1, 0, np.nan])
    np.testing.assert_array_equal(overlap.false_alarm([1, 1, 0], [1, 0, 1]), [np.nan, 1, np.nan])


@pytest.mark.parametrize("name", PAIRS)
def test_surface_metrics_equal_monai(name):
    metrics, torch = pytest.importorskip("monai.metrics"), pytest.importorskip("torch")
    predicted, true = PAIRS[name]
    p, t = (torch.tensor(mask)[None, None] for mask in (predicted, true))
    distances = overlap.surface_distances(predicted, true)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        far = metrics.compute_hausdorff_distance(p, t, include_background=True, percentile=95).item()
        near = [metrics.compute_surface_dice(p, t, [tau], include_background=True).item() for tau in (0, 1, 4)]
    if np.isfinite(far):
        assert overlap.hausdorff_95(*distances) == pytest.approx(far, abs=1e-4)
    else:
        assert not np.isfinite(overlap.hausdorff_95(*distances))
    ours = [overlap.surface_dice(*distances, tau) for tau in (0, 1, 4)]
    assert ours == pytest.approx(near, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", PAIRS)
def test_borders_and_distances_equal_scipy(name):
    predicted, true = PAIRS[name]
    borders = [mask & ~binary_erosion(mask) for mask in (predicted, true)]
    for mask, expected in zip((predicted, true), borders, strict=True):
        np.testing.assert_array_equal(overlap.border(mask), expected)
    if all(one.any() for one in borders):
        expected = [distance_transform_edt(~borders[1])[borders[0]], distance_transform_edt(~borders[0])[borders[1]]]
        for ours, theirs in zip(overlap.surface_distances(predicted, true), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_what_one_empty_mask_gives():
    for predicted, true in (PAIRS["missed"], PAIRS["false alarm"]):
        distances = overlap.surface_distances(predicted, true)
        assert overlap.hausdorff_95(*distances) == np.inf
        assert overlap.surface_dice(*distances, 4) == 0
    nothing = overlap.surface_distances(EMPTY, EMPTY)
    assert np.isnan([overlap.hausdorff_95(*nothing), overlap.surface_dice(*nothing, 4)]).all()


def test_a_shifted_line_is_as_far_as_the_shift():
    line = np.zeros((30, 30), bool)
    line[5:25, 10] = True
    distances = overlap.surface_distances(line, np.roll(line, 6, axis=1))
    assert overlap.hausdorff_95(*distances) == 6
    assert [overlap.surface_dice(*distances, tau) for tau in (5.9, 6)] == [0, 1]


def test_ignored_pixels_make_no_border_and_hide_one():
    true = disc(20, 26, 12)
    ignored = np.zeros_like(true)
    ignored[:, :26] = True
    spoiled = np.where(ignored, np.random.default_rng(0).random(true.shape) < 0.5, true)
    found = overlap.border(spoiled, ignored)
    np.testing.assert_array_equal(found, overlap.border(true) & ~ignored)
    distances = overlap.surface_distances(spoiled, true, ignored)
    assert overlap.hausdorff_95(*distances) == 0
    assert overlap.surface_dice(*distances, 0) == 1


def test_masks_of_different_size_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        overlap.surface_distances(EMPTY, EMPTY[1:])
