"""Ray Data: the features of one quiet run, and a refusal that stays one line."""

from pathlib import Path

import numpy as np
import pytest

from features.embed_job import corpus_at, small_vit
from raddino.errors import RaddinoError
from raddino.features.extract import embed


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(
        num_cpus=1, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}},
    )  # fmt: skip
    yield
    ray.shutdown()


def test_ray_gives_what_one_process_gives(cluster, tmp_path):
    corpus = corpus_at(tmp_path)
    spread = embed(corpus, small_vit(), batch_size=4, engine="ray", patches=True)
    alone = embed(corpus, small_vit(), batch_size=4, patches=True, cache=tmp_path / "alone")
    np.testing.assert_array_equal(spread.cls, alone.cls)
    np.testing.assert_array_equal(spread.patches[:], alone.patches[:])


def test_a_refusal_comes_back_as_it_was(cluster, tmp_path):
    corpus = corpus_at(tmp_path)
    corpus.images[3] = corpus.images[3].astype(np.float64)
    with pytest.raises(RaddinoError, match="takes grey") as error:
        embed(corpus, small_vit(), engine="ray")
    assert "\n" not in str(error.value)


def test_an_actor_that_fails_is_one_line(cluster, tmp_path):
    encoder = small_vit()
    encoder.preparation = None
    with pytest.raises(RaddinoError, match="run the same command again") as error:
        embed(corpus_at(tmp_path), encoder, engine="ray")
    assert "\n" not in str(error.value)
