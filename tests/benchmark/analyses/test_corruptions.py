"""Damage is graded, repeatable and of the stated size."""

import numpy as np
import pytest

from memory_corpus import toy_corpus
from raddino.benchmark.analyses.corruptions import CORRUPTIONS, CorruptedCorpus, corrupt
from raddino.errors import ConfigError


@pytest.fixture(params=[np.uint8, np.uint16])
def image(request):
    y, x = np.mgrid[:96, :80] / 96
    white = np.iinfo(request.param).max
    pattern = 0.5 + 0.2 * np.sin(12 * x + 5) + 0.15 * np.sign(np.sin(40 * y))
    return (pattern * white).astype(request.param)


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_graded_and_repeatable(image, kind):
    damaged = [corrupt(image, kind, severity, "a") for severity in (1, 2, 3)]
    distance = [np.abs(one.astype(float) - image).mean() for one in damaged]
    assert 0 < distance[0] < distance[1] < distance[2]
    for one in damaged:
        assert one.dtype == image.dtype
        assert one.shape == image.shape
    np.testing.assert_array_equal(damaged[1], corrupt(image, kind, 2, "a"))


def test_noise_has_the_stated_size_and_differs_between_images(image):
    white = np.iinfo(image.dtype).max
    flat = np.full_like(image, white // 2)
    assert corrupt(flat, "noise", 2, "a").std() / white == pytest.approx(0.05, rel=0.05)
    assert (corrupt(flat, "noise", 2, "a") != corrupt(flat, "noise", 2, "b")).any()


def test_what_damage_keeps(image):
    white = np.iinfo(image.dtype).max
    assert corrupt(image, "contrast", 2, "a").std() == pytest.approx(image.std() / 2, rel=0.02)
    assert corrupt(image, "blur", 3, "a").mean() == pytest.approx(image.mean(), rel=0.02)
    flat = np.full_like(image, white // 3)
    for kind in ("blur", "contrast", "resolution"):
        np.testing.assert_allclose(corrupt(flat, kind, 3, "a"), flat, atol=1)


def test_refusals(image):
    with pytest.raises(ConfigError, match="Did you mean 'noise'"):
        corrupt(image, "nosie", 1, "a")
    with pytest.raises(ConfigError, match="1 to 3"):
        corrupt(image, "noise", 4, "a")


def test_a_corrupted_corpus_has_a_fingerprint_of_its_own(tmp_path):
    corpus = toy_corpus(tmp_path, n=12)
    made = [CorruptedCorpus(corpus, kind, severity, seed) for kind in ("noise", "blur") for severity in (1, 2)
            for seed in (0, 1)]  # fmt: skip
    assert len({one.fingerprint for one in made} | {corpus.fingerprint}) == 9
    assert len(made[0]) == 12
    np.testing.assert_array_equal(made[0].read(3), corrupt(corpus.read(3), "noise", 1, "0/image3"))
