"""Patch features: on disk in half precision, resumable, refused when they would be wrong."""

import numpy as np
import pytest
import torch

from features.embed_job import Means, small_vit
from memory_corpus import toy_corpus
from raddino.encoders.base import Features
from raddino.encoders.floors import HOG, PixelPCA
from raddino.errors import RaddinoError
from raddino.features import parts, patches
from raddino.features.extract import embed


@pytest.fixture
def corpus(tmp_path):
    return toy_corpus(tmp_path / "corpus", n=30)


def test_they_are_what_encode_says_in_half_precision(corpus):
    encoder = small_vit()
    features = embed(corpus, encoder, batch_size=8, patches=True)
    expected = encoder.encode(encoder.preprocess(corpus.images)).patches.half().numpy()
    assert isinstance(features.patches.array, np.memmap)
    assert features.patches.shape == (30, 3, 3, 32)
    assert features.patches.dtype == np.float16
    np.testing.assert_allclose(np.asarray(features.patches), expected, atol=2e-3)
    np.testing.assert_array_equal(np.load(features.path / "patches.npy", mmap_mode="r"), features.patches[:])


def test_taking_rows_reads_nothing(corpus):
    features = embed(corpus, Means(), rows=np.array([9, 2, 20]), patches=True)
    taken = features.take([20, 9])
    assert taken.patches.array is features.patches.array
    np.testing.assert_array_equal(taken.patches[:], features.patches[np.array([2, 0])])
    assert isinstance(taken.patches[1], np.memmap)
    np.testing.assert_allclose(taken.patches[1].mean((0, 1))[0], corpus.images[9].mean(), rtol=1e-3)


def test_what_was_embedded_without_them_is_embedded_again(corpus):
    embed(corpus, Means(), rows=np.arange(12))
    encoder = Means()
    features = embed(corpus, encoder, rows=np.arange(20), patches=True)
    assert encoder.seen == 20
    assert len(features.patches) == 20
    again = Means()
    embed(corpus, again, rows=np.arange(20))
    embed(corpus, again, rows=np.arange(20), patches=True)
    assert again.seen == 0


def test_an_interrupted_run_continues(corpus, monkeypatch):
    monkeypatch.setattr(parts, "PART_IMAGES", 8)
    with pytest.raises(KeyboardInterrupt):
        embed(corpus, Means(fail_after=20), batch_size=4, patches=True)
    encoder = Means()
    features = embed(corpus, encoder, batch_size=4, patches=True)
    assert encoder.seen == 30 - 16
    whole = Means().encode(Means().preprocess(corpus.images)).patches.half().numpy()
    np.testing.assert_array_equal(features.patches[:], whole)


def test_an_encoder_without_a_grid_is_refused(corpus):
    with pytest.raises(RaddinoError, match="has no patch features"):
        embed(corpus, HOG(size=20, cell=5), patches=True)
    unfitted = PixelPCA(size=8)
    with pytest.raises(RaddinoError, match=r"leave --patches \(patches=True\) out"):
        embed(corpus, unfitted, patches=True)
    assert not unfitted.fitted


def test_values_beyond_half_precision_are_refused(corpus):
    large = Means(lambda features: Features(features.cls, features.patches * 1e4))
    with pytest.raises(RaddinoError, match="half precision"):
        embed(corpus, large, patches=True)
    assert torch.isfinite(torch.from_numpy(embed(corpus, large).mean_patch)).all()


def test_a_full_disk_is_told_before_the_work(corpus, monkeypatch):
    monkeypatch.setattr(patches.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    encoder = Means()
    with pytest.raises(RaddinoError, match=r"the disk of .*features.* has 0\.0: free some"):
        embed(corpus, encoder, patches=True)
    assert encoder.seen == 0


def test_a_lost_file_is_not_begun_anew_for_the_rows_that_are_missing(corpus):
    embed(corpus, Means(), rows=np.arange(12), patches=True).path.joinpath("patches.npy").unlink()
    encoder = Means()
    with pytest.raises(RaddinoError, match="missing or damaged"):
        embed(corpus, encoder, patches=True)
    assert encoder.seen == 0
    assert len(embed(corpus, encoder).cls) == 30


@pytest.mark.parametrize("damage", ["cut", "gone", "other", "header"])
def test_damage_is_refused_in_one_line(corpus, damage):
    file = embed(corpus, Means(), patches=True).path / "patches.npy"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "gone":
        file.unlink()
    elif damage == "header":
        data = file.read_bytes()
        file.write_bytes(data.replace(b"), }", b"((, ", 1))
    else:
        np.save(file, np.zeros((30, 2, 2, 2), np.float32))
    with pytest.raises(RaddinoError, match="embed again") as error:
        embed(corpus, Means(), patches=True)
    assert "\n" not in str(error.value)
