"""Strokes against SciPy's top-hats, and against what they must not see."""

import numpy as np
import pytest
from scipy import ndimage

from raddino.inspection.text_strokes import CELL, WINDOW, grey_bytes, halved, padded, square, strokes


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (48, 64), dtype=np.uint8)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 17])
def test_squares_are_those_of_scipy(noise, size):
    origin = 0 if size % 2 else -1
    np.testing.assert_array_equal(
        square(noise, size, np.maximum), ndimage.maximum_filter(noise, size, mode="nearest", origin=origin)
    )
    np.testing.assert_array_equal(
        square(noise, size, np.minimum), ndimage.minimum_filter(noise, size, mode="nearest", origin=origin)
    )


def test_contrast_is_the_larger_top_hat(noise):
    white = ndimage.white_tophat(noise, size=WINDOW, mode="nearest")
    black = ndimage.black_tophat(noise, size=WINDOW, mode="nearest")
    np.testing.assert_array_equal(strokes(noise).contrast, np.maximum(white, black))


def test_a_step_and_a_slope_have_no_strokes():
    step = np.where(np.arange(64) < 32, 20, 240).astype(np.uint8) * np.ones((64, 1), np.uint8)
    slope = (np.arange(64) * 3).astype(np.uint8) * np.ones((64, 1), np.uint8)
    assert not strokes(step).cells.any()
    assert not strokes(slope).cells.any()


@pytest.mark.parametrize("width", [1, 3, WINDOW - 1, WINDOW, WINDOW + 4])
def test_a_line_is_a_stroke_while_it_is_narrower_than_the_window(width):
    image = np.full((64, 64), 50, np.uint8)
    image[:, 20 : 20 + width] = 200
    assert strokes(image).cells.any() == (width < WINDOW)
    inverted = strokes(255 - image)
    assert inverted.cells.any() == (width < WINDOW)
    np.testing.assert_array_equal(inverted.dark, strokes(image).bright)


def test_sizes(noise):
    assert padded(noise[:45, :61]).shape == (48, 64)
    assert padded(noise) is not None
    assert padded(noise).shape == noise.shape
    np.testing.assert_allclose(halved(noise), noise.reshape(24, 2, 32, 2).mean(axis=(1, 3)), atol=0.5)
    assert strokes(noise).cells.shape == (48 // CELL, 64 // CELL)


def test_sixteen_bits_are_spread_over_eight():
    image = np.array([[1000, 2000], [3000, 5000]], np.uint16)
    np.testing.assert_array_equal(grey_bytes(image), [[0, 63], [127, 255]])
    np.testing.assert_array_equal(grey_bytes(np.full((2, 2), 7, np.uint16)), np.zeros((2, 2)))
