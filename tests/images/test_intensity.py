"""Resampling and scaling against closed forms and scikit-image."""

import numpy as np
import pytest

from cubic_kernel import keys
from raddino.images.errors import UnreadableImage
from raddino.images.intensity import resize_nearest, target_shape, to_grey
from raddino.images.types import Facts, Radiograph


@pytest.fixture
def smooth() -> np.ndarray:
    y, x = np.mgrid[:120, :90] / 30
    return (1000 * np.sin(y) * np.cos(x) + 50 * y).astype(np.float32)


def test_min_max_of_a_ramp():
    ramp = np.linspace(-3, 5, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_array_equal(to_grey(Radiograph(ramp)).ravel(), np.arange(256))
    sixteen = to_grey(Radiograph(ramp), bits=16)
    assert (sixteen.dtype, sixteen.min(), sixteen.max()) == (np.uint16, 0, 65535)


def test_an_affine_change_changes_nothing(smooth):
    image, other = Radiograph(smooth), Radiograph(smooth * 0.25 + 7000)
    assert np.abs(to_grey(image, 50).astype(int) - to_grey(other, 50)).max() <= 1


def test_nothing_is_clipped(smooth):
    spiked = smooth.copy()
    spiked[60, 40] = 90_000
    grey = to_grey(Radiograph(spiked), bits=16)
    assert (grey == 65535).sum() == 1


def test_reduction_is_antialiased(smooth):
    from skimage.transform import resize

    noisy = smooth + np.random.default_rng(0).normal(0, 300, smooth.shape).astype(np.float32)
    ours = to_grey(Radiograph(noisy), 30, bits=16) / 65535
    theirs = resize(noisy.astype(float), (40, 30), order=3, anti_aliasing=True)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("shape", "spacing", "side", "expected"),
    [
        ((1000, 800), None, 518, (648, 518)),
        ((800, 1000), None, 518, (518, 648)),
        ((300, 400), None, 518, (300, 400)),
        ((300, 400), None, None, (300, 400)),
        ((488, 460), (0.4, 0.2), None, (488, 230)),
        ((460, 488), (0.2, 0.4), 100, (100, 212)),
        ((100, 100), (0.001, 10), None, (100, 100)),
        ((5000, 1), None, 518, (5000, 1)),
    ],
)
def test_target_shape(shape, spacing, side, expected):
    assert target_shape(shape, spacing, side) == expected


def test_padding_stays_out_when_resized(smooth):
    padded = np.full((160, 90), -30_000, np.float32)
    padded[40:] = smooth
    valid = np.zeros((160, 90), bool)
    valid[40:] = True
    grey = to_grey(Radiograph(padded, valid), 45)
    assert (grey[:20] == 0).all()
    alone = to_grey(Radiograph(smooth), 45)
    assert np.abs(grey[24:].astype(int) - alone[4:]).max() <= 3


@pytest.mark.parametrize("valid", [None, np.zeros((4, 4), bool)])
def test_nothing_to_see_is_an_error(valid):
    with pytest.raises(UnreadableImage):
        to_grey(Radiograph(np.full((4, 4), 7, np.float32), valid))


def test_nearest_keeps_values_and_centres():
    mask = np.arange(36, dtype=np.uint16).reshape(6, 6)
    np.testing.assert_array_equal(resize_nearest(mask, (2, 2)), mask[1::3, 1::3])
    np.testing.assert_array_equal(resize_nearest(mask, (12, 12)), mask.repeat(2, 0).repeat(2, 1))


def test_inverse_survives_ties():
    values = np.array([[0, 127, 254]], np.float32)
    plain = to_grey(Radiograph(values, facts=Facts(photometric="MONOCHROME2")))
    turned = to_grey(Radiograph(254 - values, facts=Facts(photometric="MONOCHROME1")))
    np.testing.assert_array_equal(turned, 255 - plain)


@pytest.mark.parametrize("side", [30, 45, 67])
def test_resizing_is_bicubic_with_a_of_minus_one_half(smooth, side):
    """Against Keys' kernel written out, widened by the reduction; a = -0.75 gives other pixels."""
    noisy = smooth + np.random.default_rng(1).normal(0, 300, smooth.shape).astype(np.float32)
    grey = to_grey(Radiograph(noisy), side, bits=16).astype(float)
    for sharpness, equal in ((-0.5, True), (-0.75, False)):
        rows, columns = (keys(old, new, sharpness) for old, new in zip(noisy.shape, grey.shape, strict=True))
        expected = rows @ noisy.astype(float) @ columns.T
        expected = (expected - expected.min()) * 65535 / np.ptp(expected)
        assert (np.abs(grey - expected).max() <= 1) == equal
