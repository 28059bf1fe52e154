"""Confident learning's rule by hand, and planted flips of labels that a good model contradicts."""

import numpy as np
import pytest
from scipy.special import expit

from raddino.metrics.label_noise import suspect_labels


def test_the_rule_by_hand():
    p = np.array([0.1, 0.2, 0.9, 0.8, 0.6, 0.3, 0.7])
    given = np.array([0, 0, 0, 1, 1, 1, 1])
    found = suspect_labels(given, np.stack([1 - p, p], 1))
    np.testing.assert_allclose(found.thresholds, [(0.9 + 0.8 + 0.1) / 3, (0.8 + 0.6 + 0.3 + 0.7) / 4])
    # 1 from 0.6 on, 0 from 0.6 on: the third image says 1, the sixth 0
    np.testing.assert_array_equal(found.suspect, [0, 0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(found.suggested, [0, 0, 1, 1, 1, 0, 1])
    np.testing.assert_allclose(found.margin, [0, 0, 0.8, 0, 0, 0.4, 0], atol=1e-12)


def test_a_class_on_which_the_model_is_shy_is_held_to_less():
    p = np.array([0.02] * 8 + [0.2, 0.3, 0.25])
    given = np.array([0] * 7 + [0, 1, 1, 0])
    found = suspect_labels(given, np.stack([1 - p, p], 1))
    assert found.suspect[10], "0.25 is as much as the class says of its own, and 0.75 is less than the other does"
    assert not found.suspect[:10].any()


def test_of_several_confident_classes_the_most_probable_counts():
    p = np.array([[0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.3, 0.45, 0.25], [0.34, 0.33, 0.33], [0.4, 0.2, 0.4]])
    found = suspect_labels([0, 2, 1, 1, 2], p)
    np.testing.assert_array_equal(found.suspect, [False, False, False, False, False])
    assert found.suggested[3] == 1, "where no class is confident the label stands"


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_planted_flips_are_found(share):
    rng = np.random.default_rng(0)
    true = (rng.random(4000) < 0.4).astype(int)
    p = expit(3.5 * (2 * true - 1) + rng.normal(0, 1.5, 4000))
    flipped = rng.random(4000) < share
    found = suspect_labels(np.where(flipped, 1 - true, true), np.stack([1 - p, p], 1))
    hits = (found.suspect & flipped).sum()
    assert hits / flipped.sum() > 0.75, "recall"
    assert hits / found.suspect.sum() > 0.6, "precision"


def test_where_the_labels_are_right_few_are_doubted():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 2, 2000)
    p = expit(4 * (2 * true - 1) + rng.normal(0, 1, 2000))
    assert suspect_labels(true, np.stack([1 - p, p], 1)).suspect.mean() < 0.01


@pytest.mark.parametrize(
    ("given", "p", "words"),
    [
        ([0, 1], np.ones((3, 2)) / 2, "do not belong together"),
        ([0, 1], np.ones(2) / 2, "do not belong together"),
        ([0, 1], np.array([[1.5, -0.5], [0.5, 0.5]]), "outside"),
        ([0, 0], np.ones((2, 2)) / 2, "classes have 2, 0 images"),
        ([0, 2], np.ones((2, 2)) / 2, "each of 2 needs one"),
    ],
)
def test_what_cannot_be_judged_is_refused(given, p, words):
    with pytest.raises(ValueError, match=words):
        suspect_labels(given, p)
