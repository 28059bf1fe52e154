"""Floors against scikit-learn and scikit-image, and how they take odd images."""

import numpy as np
import pytest
import torch
from skimage.feature import hog
from sklearn.decomposition import PCA

from memory_corpus import toy_corpus
from raddino.encoders.floors import HOG, PixelPCA, Pixels
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError


def test_all_are_found_by_name_and_declare_no_pretraining():
    for name in ("pixels", "pca", "hog"):
        encoder = load_encoder(name)
        assert encoder.name == name
        assert encoder.provenance.sources == []
        assert encoder.grid is None


def test_preprocess_takes_any_size_and_depth_to_eight_bit_steps():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 90)).astype(np.uint8)
    flat = np.full((300, 10), 65535, np.uint16)
    batch = HOG(size=40, cell=10).preprocess([image, image.astype(np.uint16) * 257, flat])
    assert batch.shape == (3, 1, 40, 40)
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch[0], batch[1])
    assert (batch[2] == 1).all()
    torch.testing.assert_close((batch * 255).round() / 255, batch)


def test_pixels_are_the_image_and_wrong_batches_are_refused():
    encoder = Pixels(size=8)
    image = np.random.default_rng(2).integers(0, 256, (8, 8)).astype(np.uint8)
    batch = encoder.preprocess([image])
    torch.testing.assert_close(encoder.encode(batch).cls[0], torch.from_numpy(image / np.float32(255)).flatten())
    for floor in (encoder, HOG(size=40, cell=10)):
        with pytest.raises(RaddinoError, match=f"{floor.name} takes"):
            floor.encode(batch.repeat(1, 3, 1, 1))
        with pytest.raises(RaddinoError, match=f"{floor.name} takes"):
            floor.encode(batch * 255)


def test_hog_is_scikit_image_and_ignores_flat_images():
    encoder = HOG(size=80, cell=20, orientations=8)
    image = np.random.default_rng(1).integers(0, 256, (80, 80)).astype(np.uint8)
    batch = encoder.preprocess([image, np.full((80, 80), 90, np.uint8)])
    features = encoder.encode(batch)
    expected = hog(image / np.float32(255), 8, (20, 20), (2, 2), "L2-Hys", transform_sqrt=True)
    assert features.cls.shape == (2, encoder.dim)
    np.testing.assert_allclose(features.cls[0].numpy(), expected, atol=1e-4)
    assert not features.cls[1].any()
    assert features.patches is None


def test_pca_spans_what_scikit_learn_finds_on_the_fitted_rows_only(tmp_path):
    corpus = toy_corpus(tmp_path, n=60)
    train = corpus.rows(split="train")
    encoder = PixelPCA(size=8, components=5)
    encoder.fit(corpus, train)
    pixels = encoder.preprocess([corpus.read(i) for i in range(60)]).flatten(1).numpy()
    reference = PCA(5, svd_solver="full").fit(pixels[train])
    ours = encoder.encode(encoder.preprocess([corpus.read(i) for i in range(60)])).cls.numpy()
    theirs = reference.transform(pixels)
    overlap = np.abs(np.corrcoef(ours.T, theirs.T)[:5, 5:]).diagonal()
    assert overlap[:2].min() > 0.99


def test_pca_is_fitted_on_a_bounded_even_choice(tmp_path, monkeypatch):
    monkeypatch.setattr("raddino.encoders.floors.MAX_FITTED", 11)
    corpus = toy_corpus(tmp_path, n=60)
    PixelPCA(size=8, components=4).fit(corpus, np.arange(60))
    assert corpus.reads == 11


def test_pca_keeps_to_the_number_of_training_images(tmp_path):
    encoder = PixelPCA(size=8, components=50)
    encoder.fit(toy_corpus(tmp_path, n=60), np.arange(12))
    assert encoder.dim == 12


def test_pca_fingerprint_names_what_it_was_fitted_on(tmp_path):
    corpus = toy_corpus(tmp_path, n=60)
    fingerprints = set()
    for rows in (np.arange(20), np.arange(20), np.arange(21)):
        encoder = PixelPCA(size=8, components=4)
        encoder.fit(corpus, rows)
        fingerprints.add(encoder.fingerprint)
    assert len(fingerprints) == 2
    assert HOG().fingerprint == HOG().fingerprint != HOG(orientations=9).fingerprint


def test_pca_refuses_use_before_fit_and_too_few_images(tmp_path):
    encoder = PixelPCA()
    with pytest.raises(RaddinoError, match="fitted first"):
        _ = encoder.fingerprint
    with pytest.raises(RaddinoError, match="fitted first"):
        encoder.encode(torch.zeros(1, 1, 64, 64))
    with pytest.raises(RaddinoError, match="at least 2"):
        encoder.fit(toy_corpus(tmp_path, n=12), np.arange(1))
