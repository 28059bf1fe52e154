"""A packed corpus of a few small pictures."""

from pathlib import Path

import numpy as np
import pytest

from packed_corpus import pack
from raddino.corpus.dataset import Corpus
from raddino.sample.scene import render
from raddino.sample.studies import draw_scene


@pytest.fixture
def noise() -> list[np.ndarray]:
    """Twelve pictures (64, 80) uint8 over the whole range."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 80), dtype=np.uint8) for _ in range(12)]


@pytest.fixture
def corpus(tmp_path: Path, noise: list[np.ndarray]) -> Corpus:
    """The pictures packed."""
    return pack(tmp_path / "noise", noise)


@pytest.fixture(scope="session")
def drawn() -> list[np.ndarray]:
    """Six frontal radiographs (160, 160) uint8, from 0 to 255."""
    scenes = (draw_scene(3, index, 160) for index in range(40))
    frontal = [one.scene for one in scenes if one.scene.view != "LATERAL"][:6]
    images = [render(scene).image for scene in frontal]
    return [np.rint((image - image.min()) / np.ptp(image) * 255).astype(np.uint8) for image in images]
