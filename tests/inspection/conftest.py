"""A packed corpus of a few small pictures."""

from pathlib import Path

import numpy as np
import pytest

from packed_corpus import pack
from raddino.corpus.dataset import Corpus


@pytest.fixture
def noise() -> list[np.ndarray]:
    """Twelve pictures (64, 80) uint8 over the whole range."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 80), dtype=np.uint8) for _ in range(12)]


@pytest.fixture
def corpus(tmp_path: Path, noise: list[np.ndarray]) -> Corpus:
    """The pictures packed."""
    return pack(tmp_path / "noise", noise)
