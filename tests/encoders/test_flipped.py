"""Features averaged over an image and its mirror image."""

import numpy as np
import pytest
import torch

from memory_corpus import toy_corpus
from raddino.encoders.base import Features, Provenance
from raddino.encoders.flipped import Flipped
from raddino.encoders.floors import HOG, PixelPCA
from raddino.encoders.load import load_encoder
from raddino.features.extract import embed


class Columns:
    """CLS: the left column; patches: the image itself."""

    name, dim, grid, fingerprint, logit_scale = "columns", 4, (4, 3), "columns-1", 7.0
    provenance = Provenance()

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])[:, None]

    def encode(self, batch):
        return Features(batch[:, 0, :, 0], batch[:, 0, :, :, None].expand(-1, -1, -1, 4))


def test_the_mean_of_both_sides_and_patches_keep_their_place():
    image = np.arange(12, dtype=np.uint8).reshape(4, 3)
    encoder = Flipped(Columns())
    features = encoder.encode(encoder.preprocess([image]))
    assert features.cls.tolist() == [[1, 4, 7, 10]]
    assert features.patches[0, :, :, 0].tolist() == image.tolist()


def test_a_mirror_image_has_the_same_features():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (160, 160), dtype=np.uint8)
    encoder = Flipped(HOG())
    here, there = (encoder.encode(encoder.preprocess([one])).cls for one in (image, image[:, ::-1].copy()))
    torch.testing.assert_close(here, there)


def test_the_cache_tells_it_from_the_encoder_and_fitting_passes_through(tmp_path):
    corpus = toy_corpus(tmp_path)
    plain, flipped = PixelPCA(size=8, components=4), Flipped(PixelPCA(size=8, components=4))
    found = [embed(corpus, one, cache=tmp_path / "cache") for one in (plain, flipped)]
    assert found[1].encoder == f"{found[0].encoder}+flips"
    assert (flipped.name, flipped.dim, flipped.grid) == ("pca", 4, None)
    assert not np.allclose(found[0].cls, found[1].cls)
    assert Flipped(Columns()).logit_scale == 7
    with pytest.raises(AttributeError):
        Flipped(Columns()).encode_text  # noqa: B018


def test_our_encoders_have_no_way_past_the_flips(tmp_path):
    corpus = toy_corpus(tmp_path, n=6, size=112)
    encoder = load_encoder("raddino-tiny", "cpu")
    images = [corpus.read(row) for row in range(len(corpus))]
    both = [[image, image[:, ::-1].copy()] for image in images]
    expected = torch.stack([encoder.encode(encoder.preprocess(pair)).cls.mean(0) for pair in both])
    found = embed(corpus, Flipped(encoder), cache=tmp_path / "cache").cls
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)
