"""A small synthetic corpus and a configuration that trains on it in seconds."""

import pytest

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.sample.generate import sample

TINY = {
    "steps": 8,
    "batch_size": 8,
    "checkpoint_every": 3,
    "precision": "fp32",
    "vit": {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 32, "layerscale_init": 0.1,
            "drop_path": 0.2},
    "ssl": {"head": {"prototypes": 32, "hidden": 32, "bottleneck": 16}, "centering": "sinkhorn_knopp"},
    "views": {"global_size": 32, "local_size": 16, "local_views": 2},
    "monitor": {"every": 4, "images": 16, "patience": 0},
}  # fmt: skip


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """40 synthetic images of 48 px."""
    folder = tmp_path_factory.mktemp("synthetic")
    sample(folder / "sample", 40, seed=3, size=64, workers=1)
    return prepare(folder / "sample", folder / "corpus", shorter_side=48, workers=1)


@pytest.fixture(scope="session")
def tiny() -> dict:
    """Values of a PretrainConfig."""
    return {**TINY}
