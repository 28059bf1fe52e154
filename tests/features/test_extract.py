"""Embedding: once, in any order, through interruptions, and never with spoiled features."""

import numpy as np
import pytest
import torch

from memory_corpus import toy_corpus
from raddino.encoders.base import Features, Provenance
from raddino.encoders.floors import PixelPCA
from raddino.errors import RaddinoError
from raddino.features import extract
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed


class Means:
    """Mean and deviation of the image, and of its four quarters as patches."""

    name, dim, grid, provenance, fingerprint = "means", 2, (2, 2), Provenance(), "means-1"

    def __init__(self, spoil=None, fail_after=None):
        self.spoil, self.fail_after, self.seen = spoil, fail_after, 0

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        self.seen += len(batch)
        if self.fail_after is not None and self.seen > self.fail_after:
            raise KeyboardInterrupt
        cls = torch.stack([batch.mean((1, 2)), batch.std((1, 2))], 1)
        quarters = batch.unflatten(1, (2, -1)).unflatten(3, (2, -1))
        patches = torch.stack([quarters.mean((2, 4)), quarters.std((2, 4))], -1)
        features = Features(cls, patches)
        return self.spoil(features) if self.spoil else features


@pytest.fixture
def corpus(tmp_path):
    return toy_corpus(tmp_path / "corpus", n=50)


def test_features_follow_the_asked_rows(corpus):
    rows = np.array([7, 49, 3])
    features = embed(corpus, Means(), rows=rows, batch_size=2)
    np.testing.assert_allclose(features.cls[:, 0], [corpus.images[row].mean() for row in rows], rtol=1e-5)
    np.testing.assert_allclose(features.mean_patch[:, 0], features.cls[:, 0], rtol=1e-5)
    assert features.ids == ["image7", "image49", "image3"]
    assert features.cls.dtype == np.float32


def test_batch_size_changes_nothing_and_nothing_is_computed_twice(corpus, tmp_path):
    first = embed(corpus, Means(), batch_size=7)
    again = Means()
    second = embed(corpus, again)
    assert again.seen == 0
    np.testing.assert_array_equal(first.cls, second.cls)
    other = embed(corpus, Means(), batch_size=50, cache=tmp_path / "elsewhere")
    np.testing.assert_allclose(first.cls, other.cls, rtol=1e-6)


def test_only_missing_rows_are_computed(corpus):
    embed(corpus, Means(), rows=np.arange(10))
    encoder = Means()
    features = embed(corpus, encoder, rows=np.arange(5, 20))
    assert encoder.seen == 10
    np.testing.assert_allclose(features.cls[:, 0], [image.mean() for image in corpus.images[5:20]], rtol=1e-5)


def test_an_interrupted_run_continues(corpus, monkeypatch):
    monkeypatch.setattr(extract, "PART_IMAGES", 16)
    with pytest.raises(KeyboardInterrupt):
        embed(corpus, Means(fail_after=40), batch_size=8)
    encoder = Means()
    features = embed(corpus, encoder, batch_size=8)
    assert encoder.seen == 50 - 32
    np.testing.assert_allclose(features.cls[:, 0], [image.mean() for image in corpus.images], rtol=1e-5)


def test_out_is_a_feature_file(corpus, tmp_path):
    features = embed(corpus, Means(), out=tmp_path / "f.safetensors")
    assert features.path == tmp_path / "f.safetensors"
    np.testing.assert_array_equal(FeatureSet.load(features.path).cls, features.cls)
    with pytest.raises(RaddinoError, match=r"\.safetensors"):
        embed(corpus, Means(), out=tmp_path / "f.npy")


def test_an_encoder_that_needs_it_is_fitted_on_training_rows(corpus):
    encoder = PixelPCA(size=6, components=3)
    features = embed(corpus, encoder)
    reference = PixelPCA(size=6, components=3)
    reference.fit(corpus, corpus.rows(split="train"))
    assert encoder.fingerprint == reference.fingerprint
    assert features.cls.shape == (50, 3)
    assert features.mean_patch is None


def nan(features):
    return Features(features.cls * torch.nan, features.patches)


def infinite_patch(features):
    features.patches[0, 0, 0, 0] = torch.inf
    return features


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, "cls that hold NaN"),
        (infinite_patch, "patches that hold NaN or infinity"),
        (lambda f: Features(f.cls[:-1], f.patches), r"cls of shape \(\d+, 2\); it promised"),
        (lambda f: Features(f.cls[:, :1], f.patches), "cls of shape"),
        (lambda f: Features(f.cls, f.patches.flatten(1, 2)), "patches of shape"),
        (lambda f: Features(f.cls, None), "patches of shape None"),
    ],
)
def test_spoiled_features_are_refused_and_not_cached(corpus, spoil, message):
    with pytest.raises(RaddinoError, match=message):
        embed(corpus, Means(spoil))
    assert not list(corpus.path.rglob("*.safetensors"))


@pytest.mark.parametrize("rows", [[], [-1], [50]])
def test_impossible_rows_are_refused(corpus, rows):
    with pytest.raises(RaddinoError):
        embed(corpus, Means(), rows=np.array(rows))
