"""Fabricated folders and objects as fixtures."""

from pathlib import Path

import pandas as pd
import pytest

from .fabricated import (
    FAKES,
    FakeCorpus,
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


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the features of the fake corpus are cached."""
    return tmp_path_factory.mktemp("corpus")


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch, corpus_folder: Path) -> FakeCorpus:
    """A fake corpus; ``load_encoder`` knows the encoders "fake" and "floor"."""
    monkeypatch.setattr("raddino.encoders.load.load_encoder", lambda spec, device="cpu": FAKES[spec]())
    return FakeCorpus(path=corpus_folder)
