import numpy as np
from sklearn.decomposition import PCA

from raddino.look.maps import plane


def test_the_plane_is_that_of_scikit_learn() -> None:
    features = np.random.default_rng(0).normal(size=(60, 7)) * np.arange(1, 8)
    expected = PCA(2).fit_transform(features)
    np.testing.assert_allclose(np.abs(plane(features)), np.abs(expected), rtol=1e-4, atol=1e-4)


def test_one_dimension_and_no_spread() -> None:
    assert plane(np.arange(5.0)[:, None]).shape == (5, 2)
    assert not plane(np.ones((4, 3))).any()
