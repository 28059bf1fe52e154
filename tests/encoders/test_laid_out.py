"""Image embeddings that tell where in the image something is."""

import numpy as np
import pytest
import torch

from memory_corpus import toy_corpus
from raddino.encoders.base import Features, Provenance
from raddino.encoders.flipped import Flipped
from raddino.encoders.floors import HOG, PixelPCA, Pixels
from raddino.encoders.laid_out import LaidOut, as_read
from raddino.encoders.load import load_encoder
from raddino.features.extract import embed


class Blocks:
    """Patches: the image's pixels, and their negatives."""

    name, dim, fingerprint, logit_scale = "blocks", 2, "blocks-1", 7.0
    provenance = Provenance()

    def __init__(self, rows, columns):
        self.grid = (rows, columns)

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])[:, None]

    def encode(self, batch):
        patches = batch[:, 0, :, :, None]
        return Features(batch.flatten(1)[:, :2], torch.cat([patches, -patches], -1))


def test_each_place_has_the_mean_of_its_patches():
    image = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12)
    encoder = LaidOut(Blocks(8, 12))
    features = encoder.encode(encoder.preprocess([image]))
    assert (encoder.dim, encoder.grid, features.patches) == (32, None, None)
    assert features.cls.shape == (1, 32)
    places = features.cls.reshape(4, 4, 2)
    expected = image.reshape(4, 2, 4, 3).mean((1, 3))
    np.testing.assert_allclose(places[..., 0], expected)
    np.testing.assert_allclose(places[..., 1], -expected)


@pytest.mark.parametrize(("rows", "columns", "dim"), [(1, 1, 2), (3, 9, 24), (4, 4, 32), (37, 37, 32)])
def test_grids_of_any_size(rows, columns, dim):
    image = np.full((rows, columns), 3, dtype=np.uint8)
    encoder = LaidOut(Blocks(rows, columns))
    assert encoder.dim == dim
    found = encoder.encode(encoder.preprocess([image, image])).cls
    assert found.reshape(2, -1, 2).unique(dim=0).shape[0] == 1
    torch.testing.assert_close(found.reshape(2, -1, 2)[..., 0], torch.full((2, dim // 2), 3.0))


@pytest.mark.parametrize("flips", [False, True])
def test_a_mirror_image_stands_mirrored(flips):
    image = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    encoder = as_read(Blocks(8, 8), "grid", flips)
    here, there = encoder.encode(encoder.preprocess([image, image[:, ::-1].copy()])).cls.reshape(2, 4, 4, 2)
    torch.testing.assert_close(here, there.flip(1))


def test_what_a_probe_does_not_read_laid_out_is_left_as_it_is():
    encoder = Blocks(8, 8)
    assert as_read(encoder, "cls", False) is encoder
    assert isinstance(as_read(encoder, "both", True), Flipped)
    for floor in (Pixels(), HOG(), PixelPCA()):
        assert as_read(floor, "grid", False) is floor


def test_the_cache_tells_it_from_the_encoder(tmp_path):
    corpus = toy_corpus(tmp_path, n=6, size=112)
    encoder = load_encoder("raddino-tiny", "cpu")
    found = embed(corpus, LaidOut(encoder), cache=tmp_path / "cache")
    assert found.encoder == f"{encoder.fingerprint}+grid4"
    patches = encoder.encode(encoder.preprocess([corpus.read(row) for row in range(6)])).patches
    expected = patches.reshape(6, 4, 2, 4, 2, 192).mean((2, 4)).reshape(6, -1)
    np.testing.assert_allclose(found.cls, expected, atol=1e-4, rtol=1e-4)
    assert embed(corpus, encoder, cache=tmp_path / "cache").cls.shape == (6, 192)
    assert LaidOut(Blocks(8, 8)).logit_scale == 7
    with pytest.raises(AttributeError):
        LaidOut(encoder).fast_encode  # noqa: B018
