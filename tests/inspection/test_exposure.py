"""Planted faults of exposure are found, and each alone."""

import numpy as np
import pandas as pd
import pytest

from raddino.inspection.exposure import Exposure


def reasons(image: np.ndarray) -> list[str]:
    check = Exposure()
    return [one.reason for one in check.judge(pd.DataFrame(), pd.DataFrame(check.measure([image])))]


@pytest.fixture
def sound() -> np.ndarray:
    """A smooth picture over the whole range, with grain."""
    y, x = np.mgrid[-1:1:200j, -1:1:180j]
    grain = np.random.default_rng(0).normal(0, 6, y.shape)
    return (128 + 100 * np.sin(3 * x) * np.cos(2 * y) + grain).clip(1, 254).astype(np.uint8)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_sound_picture_has_no_finding(sound, kind):
    assert reasons(sound.astype(kind) * (257 if kind is np.uint16 else 1)) == []


def test_equal_pixels():
    assert reasons(np.full((50, 60), 7, np.uint8)) == ["constant"]


@pytest.mark.parametrize(("low", "high"), [(0, 150), (100, 255)])
def test_clipping_at_either_end(sound, low, high):
    clipped = np.interp(sound, (low, high), (0, 255)).astype(np.uint8)
    assert reasons(clipped) == ["clipped"]


def test_a_bright_marker_that_squeezes_the_rest(sound):
    squeezed = (sound / 6).astype(np.uint8)
    squeezed[2:9, 2:12] = 255
    assert reasons(squeezed) == ["low-contrast"]


@pytest.mark.parametrize("value", [0, 255])
def test_frames_of_any_side(sound, value):
    assert reasons(np.pad(sound, ((0, 0), (60, 0)), constant_values=value)) == ["borders"]
    framed = np.pad(sound, 30, constant_values=value)
    assert reasons(framed) == ["borders"]
    share = Exposure().measure([framed])[0]["border"]
    assert share == pytest.approx(1 - sound.size / framed.size, abs=0.01)


def test_a_narrow_frame_is_none(sound):
    assert reasons(np.pad(sound, 4)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (16, 3)])
def test_small_pictures_are_measured(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert all(np.isfinite(value) for value in Exposure().measure([image])[0].values())
