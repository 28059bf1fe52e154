"""Histograms are those of NumPy, and pictures unlike their source are found."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy, wasserstein_distance

from raddino.inspection.intensity import BINS, FEWEST, Intensity, distances


def found(images: list[np.ndarray], sources: list[str]) -> list[int]:
    check = Intensity()
    measures = pd.DataFrame(check.measure(images))
    return [one.row for one in check.judge(pd.DataFrame({"source": sources}), measures)]


def pictures(count: int, centre: float, seed: int = 0) -> list[np.ndarray]:
    """Noise about a grey value that differs a little from picture to picture."""
    draw = np.random.default_rng(seed)
    return [draw.normal(centre + draw.normal(0, 8), 30, (32, 32)).clip(0, 255).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_measures_are_those_of_numpy_and_scipy(kind):
    top = np.iinfo(kind).max
    image = np.random.default_rng(0).beta(2, 5, (40, 50)) * top
    image = image.astype(kind)
    (measured,) = Intensity().measure([image])
    shares = np.histogram(image, BINS, (0, top + 1))[0] / image.size
    assert measured["histogram"] == pytest.approx(shares, abs=1e-5)
    assert measured["mean"] == pytest.approx(image.mean() / top, abs=1e-5)
    assert measured["std"] == pytest.approx(image.std() / top, abs=1e-5)
    assert measured["entropy"] == pytest.approx(entropy(np.histogram(image, 256, (0, top + 1))[0], base=2), abs=1e-4)


def test_ends_of_entropy():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    even, flat = Intensity().measure([every, np.full((3, 3), 255, np.uint8)])
    assert even["entropy"] == 8
    assert flat["entropy"] == 0
    assert flat["histogram"] == [0.0] * (BINS - 1) + [1.0]


def test_the_distance_is_that_of_scipy():
    histograms = np.random.default_rng(1).dirichlet(np.ones(BINS), 5)
    middle = np.diff(np.median(histograms.cumsum(1), axis=0), prepend=0)
    places = np.arange(BINS) / BINS
    expected = [wasserstein_distance(places, places, one, middle) for one in histograms]
    assert distances(histograms) == pytest.approx(expected)


def test_an_inverted_and_a_dark_picture_are_found_in_their_source():
    images = pictures(60, 170)
    images[7] = 255 - images[7]
    images[40] = images[40] // 4
    assert found(images, ["a"] * 60) == [7, 40]


def test_each_source_has_its_own_grey_values():
    images = [*pictures(40, 60), *pictures(40, 190, seed=1)]
    assert found(images, ["a", "b"] * 20 + ["a", "b"] * 20) == []  # either is half of its source
    assert found(images, ["a"] * 40 + ["b"] * 40) == []
    images[3], images[70] = images[70], images[3]
    assert found(images, ["a"] * 40 + ["b"] * 40) == [3, 70]


def test_few_are_odd_among_pictures_of_one_kind():
    assert len(found(pictures(1500, 120), ["a"] * 1500)) <= 8


def test_small_sources_and_equal_pictures_have_none():
    images = pictures(FEWEST - 1, 120)
    images[0] = 255 - images[0] // 4
    assert found(images, ["a"] * len(images)) == []
    assert found([images[1]] * 50, ["a"] * 50) == []
