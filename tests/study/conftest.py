"""A synthetic corpus of two sources and a study whose arms train in a second each."""

import copy
from pathlib import Path

import pytest
import yaml

from raddino.corpus.dataset import Corpus
from raddino.study.data import draw_corpus
from raddino.study.plan import StudyPlan, plan_study
from raddino.study.settings import Sample, load_study

VALUES = {
    "question": "Do more images help?",
    "preset": "cpu-smoke",
    "set": {
        "batch_size": 4,
        "checkpoint_every": 4,
        "precision": "fp32",
        "vit": {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 32},
        "views": {"global_size": 32, "local_size": 16, "local_views": 1},
        "ssl": {"head": {"prototypes": 16, "hidden": 16, "bottleneck": 8, "layers": 3}},
        "monitor": {"every": 100, "images": 16},
    },
    "budget": {"steps": 10},
    "arms": {
        "quantity": {"vary": {"fraction": [0.3, 1.0]}, "axis": "images"},
        "floors": {"encoders": ["hog"]},
    },
    "tasks": {"metadata": {"targets": ["sex", "age"], "probe": {"kind": "logistic"}}},
    "resamples": 50,
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """160 synthetic images of 48 px of two sources."""
    return draw_corpus(Sample(images=160, side=48, sources=2), tmp_path_factory.mktemp("study"), 1)


@pytest.fixture
def values() -> dict:
    """Of a study, to be changed."""
    return copy.deepcopy(VALUES)


@pytest.fixture
def planned(corpus, tmp_path):
    """Plans a study of some values."""

    def plan(values: dict, out: Path | None = None, name: str = "own", **more) -> StudyPlan:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        short, study = load_study(str(file))
        return plan_study(short, study, out or tmp_path / "out", (corpus, corpus), **more)

    return plan
