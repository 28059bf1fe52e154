"""Projection against closed forms: chords, magnification, conservation of mass."""

import numpy as np
import pytest

from raddino.sample.projection import Camera, Ellipsoid, Interval, Points, Stack, resample, splat, tube


def far(size: int = 65, pitch: float = 0.25, **options: float) -> Camera:
    """A camera with hardly any magnification, centred on the origin."""
    return Camera(size, pitch, beam=0.0, source=1e7, detector=0.0, **options)


def sampled_chord(axes, rotation, x, y):
    """Length of the line (x, y, .) in an ellipsoid, by counting points."""
    z = np.linspace(-12, 12, 48001)
    p = (
        np.stack([np.full_like(z, x), np.full_like(z, y), z])
        if rotation is None
        else rotation.T @ [x + 0 * z, y + 0 * z, z]
    )
    return np.sum(np.sum((p / np.asarray(axes)[:, None]) ** 2, 0) <= 1) * (z[1] - z[0])


@pytest.mark.parametrize("turn", [0.0, 0.3, -np.pi / 2])
def test_ellipsoid_chords_are_those_of_the_turned_solid(turn):
    camera = far(turn=turn)
    length = Ellipsoid((0, 0, 0), (5.0, 3.0, 2.0)).interval(camera).length
    u, v = camera.axes(0.0)
    for row, column in [(32, 32), (30, 40), (36, 20), (25, 33), (3, 3)]:
        expected = sampled_chord((5.0, 3.0, 2.0), camera.rotation, u[column], v[row])
        assert length[row, column] == pytest.approx(expected, abs=0.01)


def test_a_stack_with_the_profile_of_a_sphere_is_the_sphere():
    camera = far()

    def sphere(y):
        half = np.sqrt(np.clip(16 - y**2, 0, None))
        return np.zeros_like(y), half, np.zeros_like(y), half

    np.testing.assert_allclose(
        Stack(sphere).interval(camera).length,
        Ellipsoid((0, 0, 0), (4, 4, 4)).interval(camera).length,
        atol=2e-3,
    )


def test_a_square_stack_never_leaves_its_silhouette():
    def box(y):
        there = np.where(np.abs(y) < 3, 4.0, 0.0)
        return np.zeros_like(y), there, np.zeros_like(y), there

    for squareness in (-0.35, 0.0, 0.75, 1.0):
        inside = Stack(box, squareness).interval(far()).inside
        u, v = far().axes(0.0)
        np.testing.assert_array_equal(inside, (np.abs(u)[None] < 4) & (np.abs(v)[:, None] < 3))


def test_intervals_meet_and_join():
    a, b = (Interval(np.array([lo]), np.array([hi])) for lo, hi in ((0.0, 4.0), (3.0, 9.0)))
    nothing = Interval(np.array([np.nan]), np.array([np.nan]))
    assert (a & b).length == 1
    assert Interval.hull([a, b]).length == 9
    assert (a & nothing).length == 0
    assert Interval.hull([a, nothing]).length == 4
    assert not nothing.inside.any()


def test_the_heart_is_larger_when_the_beam_comes_from_the_front():
    heart = Ellipsoid((0, 0, 5), (6, 6, 4))
    pa = Camera(128, 0.3, beam=0.0, source=180, detector=15)
    ap = Camera(128, 0.3, beam=0.0, source=110, detector=-15)
    width = [heart.interval(c).inside.any(0).sum() * 0.3 / 12 for c in (pa, ap)]
    assert width[0] == pytest.approx(180 / 170, abs=0.03)
    assert width[1] == pytest.approx(110 / 90, abs=0.03)


def test_tubes_keep_their_volume_and_their_chord():
    camera = far(size=200, pitch=0.05)
    path = resample(np.array([[-3.0, -0.25, 0], [3.0, 0.25, 1.0]]), 0.04)
    length = np.linalg.norm(path[-1] - path[0])
    image = tube(path, 0.5, camera).image(camera)
    assert image.sum() * 0.05**2 == pytest.approx(np.pi * 0.25 * length, rel=0.02)
    assert image[100, 100] == pytest.approx(1.0 * length / np.hypot(6, 0.5), rel=0.05)
    hollow = tube(path, 0.5, camera, wall=0.3).image(camera)
    assert hollow.sum() / image.sum() == pytest.approx(1 - 0.7**2, rel=0.02)
    assert hollow[100, 100] < hollow[100 - 9 : 100 + 10, 100].max()


def test_a_window_is_a_part_of_the_whole():
    camera = far(size=96, turn=0.2)
    part = camera.on((-3, -2, -3), (5, 4, 3))
    points = Points.at(np.random.default_rng(0).normal(0, 2, (500, 3)), np.ones(500), camera)
    solid = Ellipsoid((1, 0, 0), (4, 3, 2))
    np.testing.assert_allclose(points.image(part), points.image(camera)[part.window], atol=1e-3)
    np.testing.assert_allclose(solid.interval(part).length, solid.interval(camera).length[part.window], atol=1e-4)


def test_splat_shares_a_point_among_four_pixels_and_drops_what_is_outside():
    at = lambda x, y: splat(*(np.array([v], np.float32) for v in (x, y, 2.0)), (4, 5))  # noqa: E731
    assert at(1.0, 2.0)[2, 1] == 2
    np.testing.assert_allclose(at(1.5, 2.25)[2:4, 1:3], [[0.75, 0.75], [0.25, 0.25]])
    for x, y in [(-7.0, 1.0), (2.0, 90.0), (5.0, 1.0), (2.0, -1.01), (-1.5, -1.5)]:
        assert at(x, y).sum() == 0
    assert at(-0.5, 0.0).sum() == 1


def test_resampling_passes_through_the_corners():
    corners = np.array([[0.0, 0, 0], [1, 3, 0], [4, 4, 2], [6, 0, 1]])
    curve = resample(corners, 0.01)
    for corner in corners:
        assert np.linalg.norm(curve - corner, axis=1).min() < 0.01
    assert np.linalg.norm(np.diff(curve, axis=0), axis=1).max() < 0.025
