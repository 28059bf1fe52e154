"""Fabricated folders and objects as fixtures."""

from pathlib import Path

import pandas as pd
import pytest

from .fabricated import (
    FakeCorpus,
    FakeEncoder,
    FloorEncoder,
    fabricate_metrics,
    fabricate_predictions,
    log_lines,
    write_results,
    write_run,
)


@pytest.fixture
def predictions() -> pd.DataFrame:
    return fabricate_predictions()


@pytest.fixture
def metrics(predictions: pd.DataFrame) -> dict:
    return fabricate_metrics(predictions)


@pytest.fixture
def results(tmp_path: Path, metrics: dict, predictions: pd.DataFrame) -> Path:
    return write_results(tmp_path / "results", metrics, predictions)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", log_lines())


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCorpus:
    """A fake corpus; ``load_encoder`` knows the encoders "fake" and "floor"."""
    import raddino.encoders.base as base

    encoders = {"fake": FakeEncoder, "floor": FloorEncoder}
    monkeypatch.setattr(base, "load_encoder", lambda spec, device="cpu": encoders[spec]())
    corpus = FakeCorpus()
    corpus.path = tmp_path / "corpus"
    return corpus
