"""The planted-truth benchmark: its closed forms against large samples, and a few repetitions of it."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, mean_absolute_error, roc_auc_score

PATH = Path(__file__).parents[2] / "benchmarks" / "planted.py"


@pytest.fixture(scope="module")
def planted():
    spec = importlib.util.spec_from_file_location("planted_coverage", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_closed_forms_are_the_limits_of_large_samples(planted, tmp_path, monkeypatch):
    corpus = planted.Planted(60_000, 5, tmp_path)
    weight = np.array([0.9, -0.3, 0.7, 0.4, 0, 0.2, -0.5, 0.1])
    line = planted.Line(51.0, weight)
    output = line.offset + corpus.features["signal"] @ weight
    for task in ("finding", "trait"):
        y = corpus.manifest[f"label_{task}"]
        assert planted.true_auroc(line, task) == pytest.approx(roc_auc_score(y, output), abs=0.005)
        assert planted.true_auprc(line, task) == pytest.approx(average_precision_score(y, output), abs=0.007)
    assert planted.true_mae(line) == pytest.approx(mean_absolute_error(corpus.manifest["age"], output), abs=0.15)


def test_planted_signal_is_found_and_intervals_hold_it(planted):
    seen = planted.run(repetitions=5, patients=200, resamples=200)
    kinds = seen.groupby("kind")["value"]
    assert kinds.get_group("rank").all()
    assert kinds.get_group("interval").astype(float).mean() > 0.8  # at 95 %, less is seen once in thousands of times
    assert kinds.get_group("p").astype(float).between(0, 1).all()
    text = planted.summary(seen)
    assert text.count("\n|---") == 3
    assert "| finding auroc | 100.0% |" in text
