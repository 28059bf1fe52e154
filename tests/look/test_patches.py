import numpy as np
import torch
from sklearn.decomposition import PCA

from raddino.look.patches import Components, attention, pca_rgb, see, similarity, unit
from report.fabricated import FakeEncoder, FloorEncoder


def test_colours_are_principal_components_of_the_whole_batch() -> None:
    patches = np.random.default_rng(0).normal(size=(4, 5, 6, 9)) * np.arange(1, 10)
    colours = pca_rgb(patches).reshape(-1, 3).astype(float)
    parts = PCA(3).fit_transform(patches.reshape(-1, 9))
    for ours, theirs in zip(colours.T, parts.T, strict=True):
        inner = (ours > 0) & (ours < 255)
        assert abs(np.corrcoef(ours[inner], theirs[inner])[0, 1]) > 0.999


def test_colours_of_few_dimensions_and_of_nothing() -> None:
    assert pca_rgb(np.random.default_rng(0).normal(size=(2, 3, 3, 2))).shape == (2, 3, 3, 3)
    assert pca_rgb(np.ones((2, 3, 3, 8))).shape == (2, 3, 3, 3)


def test_components_fitted_on_several_give_each_the_same_colours() -> None:
    patches = np.random.default_rng(1).normal(size=(3, 4, 4, 7))
    fitted = Components.fit(patches)
    np.testing.assert_array_equal(fitted.colours(patches[1:2])[0], pca_rgb(patches)[1])
    assert not np.array_equal(pca_rgb(patches[1:2])[0], pca_rgb(patches)[1])


def test_similarity_is_the_cosine() -> None:
    patches = np.random.default_rng(2).normal(size=(2, 3, 5, 8))
    patches[1, 0, 0] = 0
    found = similarity(unit(patches)[0, 1, 2], unit(patches))
    expected = torch.cosine_similarity(torch.from_numpy(patches), torch.from_numpy(patches[0, 1, 2]), dim=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0, 1, 2] == found.max() <= 1
    assert found[1, 0, 0] == 0


def test_what_is_seen_is_what_the_encoder_gives() -> None:
    images = [np.full((70, 96), 40, np.uint8), np.arange(6400, dtype=np.uint16).reshape(80, 80)]
    encoder = FakeEncoder()
    seen = see(encoder, images)
    direct = encoder.encode(encoder.preprocess(images))
    np.testing.assert_array_equal(seen.patches, direct.patches.numpy())
    np.testing.assert_array_equal(seen.cls, direct.cls.numpy())
    assert attention(encoder, seen.batch).shape[0] == 2
    assert see(FloorEncoder(), images).patches is None
    assert attention(FloorEncoder(), seen.batch) is None
