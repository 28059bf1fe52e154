"""Power laws: recovered from curves that are drawn by one, refused where they cannot be, in words."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from raddino.errors import RaddinoError
from raddino.metrics.power_law import DELTA, fit_power_law

A, B, C = 0.5, 0.35, 0.12


def curve(x):
    return A * (x / 100) ** -B + C


def test_a_curve_without_noise_is_found_to_the_digits():
    x = np.geomspace(100, 1e5, 6)
    law = fit_power_law(x, curve(x), resamples=20)
    assert (law.b, law.c) == pytest.approx((B, C), rel=1e-6)
    assert law.a * law.unit**law.b == pytest.approx(A * 100**B, rel=1e-6)
    assert law(x) == pytest.approx(curve(x), rel=1e-8)
    assert law.told
    assert (law.losses, law.sizes) == (6, 6)


def test_the_fit_is_that_of_another_optimiser():
    rng = np.random.default_rng(1)
    x = np.repeat(np.geomspace(50, 5e4, 6), 2)
    y = np.log(curve(x) * np.exp(rng.normal(0, 0.03, 12)))
    law = fit_power_law(x, np.exp(y), resamples=10)
    u = np.log(x / law.unit)

    def residual(theta):
        return np.logaddexp(theta[0] - theta[1] * u, theta[2]) - y

    start = [np.log(A), 0.5, np.log(0.1)]
    other = least_squares(residual, start, loss="huber", f_scale=DELTA, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert law.b == pytest.approx(other.x[1], abs=1e-3)
    assert law.c == pytest.approx(np.exp(other.x[2]), rel=1e-2)


@pytest.mark.parametrize(("sizes", "seeds", "noise"), [(7, 2, 0.02), (5, 1, 0.01), (6, 3, 0.03)])
def test_the_exponent_lies_within_its_interval(sizes, seeds, noise):
    """Of 30 curves at least 25; at 95 % fewer than 25 happen once in 600 times."""
    rng, held = np.random.default_rng(sizes), 0
    x = np.repeat(np.geomspace(100, 1e5, sizes), seeds)
    for draw in range(30):
        law = fit_power_law(x, curve(x) * np.exp(rng.normal(0, noise, len(x))), resamples=100, seed=draw)
        held += law.low <= B <= law.high
        assert law.low <= law.b <= law.high
    assert held >= 25


def test_an_outlier_moves_little():
    x = np.geomspace(100, 1e5, 9)
    loss = curve(x)
    loss[4] *= 1.3
    assert fit_power_law(x, loss, resamples=10).b == pytest.approx(B, abs=0.03)


def test_a_flat_curve_is_not_told():
    rng = np.random.default_rng(0)
    x = np.repeat(np.geomspace(100, 1e5, 5), 2)
    assert not fit_power_law(x, 0.4 * np.exp(rng.normal(0, 0.02, 10)), resamples=100).told


def test_a_curve_that_rises_is_not_told():
    x = np.repeat(np.geomspace(100, 1e5, 5), 2)
    assert not fit_power_law(x, 0.2 + 0.05 * np.log(x), resamples=100).told


@pytest.mark.parametrize(
    ("sizes", "losses", "words"),
    [
        ([1, 2], [0.5, 0.4], "2 losses of 2 sizes cannot carry a power law of three parameters"),
        ([1, 1, 2, 2, 3, 3], [0.5] * 6, "6 losses of 3 sizes"),
        ([1, 2, 3, 4], [0.5, 0.4, 0.3, 0.2], "4 losses of 4 sizes"),
        ([], [], "0 losses of 0 sizes"),
        ([1, 2, 3, 4, 5], [0.5, 0.4, 0.3, 0.2, 0.0], "above 0"),
        ([0, 2, 3, 4, 5], [0.5, 0.4, 0.3, 0.2, 0.1], "above 0"),
        ([1, 2, 3, 4, np.nan], [0.5, 0.4, 0.3, 0.2, 0.1], "above 0"),
        ([1, 2, 3], [0.5, 0.4], "3 sizes for 2 losses"),
    ],
)
def test_what_cannot_carry_a_law_is_refused_in_words(sizes, losses, words):
    with pytest.raises(RaddinoError, match=words):
        fit_power_law(sizes, losses)


def test_the_unit_of_sizes_and_the_order_change_nothing():
    rng = np.random.default_rng(3)
    x = np.geomspace(100, 1e5, 8)
    loss = curve(x) * np.exp(rng.normal(0, 0.02, 8))
    law = fit_power_law(x, loss, resamples=10)
    assert fit_power_law(1e15 * x, loss, resamples=10).b == pytest.approx(law.b, abs=1e-6)
    order = rng.permutation(8)
    assert fit_power_law(x[order], loss[order], resamples=10).b == pytest.approx(law.b, abs=1e-6)
