"""Embedding: once, in any order, through interruptions, and never with spoiled features."""

import os
import signal
from functools import partial

import numpy as np
import pytest
import torch

from acquisition_columns import with_acquisition
from features.embed_job import Means, small_vit
from memory_corpus import MemoryCorpus, toy_corpus
from raddino.encoders.base import Features
from raddino.encoders.floors import PixelPCA
from raddino.errors import RaddinoError
from raddino.features import parts
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed


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
    monkeypatch.setattr(parts, "PART_IMAGES", 16)
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
    again = Means()
    with pytest.raises(RaddinoError, match=r"\.safetensors or \.parquet"):
        embed(corpus, again, out=tmp_path / "f.npy")
    assert again.seen == 0


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


def beyond_float32(features):
    return Features(features.cls.double() * 1e300, features.patches)


def patches_beyond_float32(features):
    return Features(features.cls, features.patches.double() * 1e300)


def infinite_patch(features):
    features.patches[0, 0, 0, 0] = torch.inf
    return features


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, "cls that hold NaN"),
        (infinite_patch, "patches that hold NaN or infinity"),
        (beyond_float32, "cls that hold NaN or infinity"),
        (patches_beyond_float32, "patches that hold NaN or infinity"),
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


def test_another_width_under_the_same_fingerprint_is_refused(corpus):
    embed(corpus, Means(), rows=np.arange(10))
    for dim in (1, 3):
        wider = Means()
        wider.dim = dim
        with pytest.raises(RaddinoError, match=rf"'means', which has width {dim}"):
            embed(corpus, wider)
        assert wider.seen == 0


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_that_cannot_be_written_is_told_before_the_work(corpus, tmp_path, place):
    (tmp_path / "file").touch()
    encoder = Means()
    with pytest.raises(RaddinoError, match=r"file.* cannot be written .*a file stands where a folder should be"):
        embed(corpus, encoder, cache=tmp_path / place)
    assert encoder.seen == 0


@pytest.mark.parametrize("rows", [[], [-1], [50]])
def test_impossible_rows_are_refused(corpus, rows):
    with pytest.raises(RaddinoError):
        embed(corpus, Means(), rows=np.array(rows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"workers": -1}, "workers"),
        ({"engine": "spark"}, "local or ray"),
        ({"precision": "fp16"}, "fp32, bf16 or auto"),
    ],
)
def test_impossible_options_are_refused(corpus, options, message):
    with pytest.raises(RaddinoError, match=message):
        embed(corpus, Means(), **options)


def test_readers_in_processes_change_nothing(corpus, tmp_path):
    threads = embed(corpus, small_vit(), batch_size=8)
    processes = embed(corpus, small_vit(), batch_size=8, workers=2, cache=tmp_path / "other")
    np.testing.assert_array_equal(threads.cls, processes.cls)
    np.testing.assert_array_equal(threads.mean_patch, processes.mean_patch)


def test_embedding_is_what_encode_says(corpus):
    encoder = small_vit()
    features = embed(corpus, encoder, batch_size=7)
    expected = encoder.encode(encoder.preprocess(corpus.images))
    np.testing.assert_allclose(features.cls, expected.cls, atol=1e-5)
    np.testing.assert_allclose(features.mean_patch, expected.patches.mean((1, 2)), atol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_line(corpus, workers):
    corpus.images[30] = corpus.images[30].astype(np.float64)
    with pytest.raises(RaddinoError, match="takes grey") as error:
        embed(corpus, small_vit(), batch_size=8, workers=workers)
    assert "\n" not in str(error.value)


def test_a_killed_reader_is_one_line_and_the_rerun_equals(corpus, tmp_path, monkeypatch):
    read, main = corpus.read, os.getpid()

    def deadly(row):
        if row == 20 and os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(row)

    monkeypatch.setattr(corpus, "read", deadly)
    with pytest.raises(RaddinoError, match=r"a process that reads images died .* with fewer workers"):
        embed(corpus, Means(), workers=2, batch_size=4)
    again = embed(corpus, Means(), batch_size=4)
    np.testing.assert_array_equal(again.cls, embed(corpus, Means(), batch_size=4, cache=tmp_path / "other").cls)


def test_an_error_in_a_reader_is_told_as_what_it_is(corpus, monkeypatch):
    def broken(row):
        raise RuntimeError("a bug")

    monkeypatch.setattr(corpus, "read", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        embed(corpus, Means(), workers=2, batch_size=4)


def test_bf16_is_near_and_kept_apart(corpus):
    encoder = small_vit()
    full = embed(corpus, encoder)
    half = embed(corpus, encoder, precision="bf16")
    assert full.path != half.path
    assert (half.encoder, full.encoder) == (f"{encoder.fingerprint}-bf16", encoder.fingerprint)
    assert np.abs(full.cls - half.cls).max() < 0.1
    assert not np.array_equal(full.cls, half.cls)
    np.testing.assert_array_equal(embed(corpus, encoder, precision="auto").cls, full.cls)


def test_a_foreign_encoder_runs_under_autocast(corpus):
    class Foreign(Means):
        name, fingerprint = "foreign", "foreign-1"

        def encode(self, batch):
            kept = super().encode(batch)
            return Features((kept.cls @ torch.eye(2)).float(), kept.patches)

    exact, rounded = (embed(corpus, Foreign(), precision=precision).cls for precision in ("fp32", "bf16"))
    np.testing.assert_array_equal(rounded, torch.from_numpy(exact).bfloat16().float().numpy())


def test_compiled_is_the_same(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    for encoder in (small_vit, Means):
        plain = embed(corpus, encoder(), batch_size=25)
        compiled = embed(corpus, encoder(), batch_size=25, compile=True, cache=tmp_path / "other")
        np.testing.assert_allclose(compiled.cls, plain.cls, atol=1e-5)


def test_a_compiler_that_fails_is_one_line(corpus, monkeypatch):
    from torch._dynamo.exc import InternalTorchDynamoError

    def broken(*batch):
        raise InternalTorchDynamoError("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda call: broken)
    with pytest.raises(RaddinoError, match=r"\(no compiler\): turn compile off"):
        embed(corpus, small_vit(), compile=True)


def test_an_encoder_is_not_told_how_images_were_taken(corpus, tmp_path):
    told = MemoryCorpus(corpus.images, with_acquisition(corpus.manifest), tmp_path / "told")
    assert told.fingerprint != corpus.fingerprint
    first, second = (embed(one, small_vit(), patches=True) for one in (corpus, told))
    np.testing.assert_array_equal(first.cls, second.cls)
    np.testing.assert_array_equal(first.patches.array, second.patches.array)
