"""The simulation of coverage and sizes: its truths against closed forms, and a few replicates of it."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from raddino.metrics.ranking import auprc, auroc

PATH = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def coverage():
    spec = importlib.util.spec_from_file_location("simulated_coverage", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.LARGE = 40_000
    return module


def test_truths_are_those_of_closed_forms(coverage):
    binary = coverage._truth(coverage.binary, (60, 1, 0.3, 1.0, 0.0))
    assert binary["auroc"] == pytest.approx((norm.cdf(1 / np.sqrt(2)), 0.5), abs=0.01)
    assert binary["auprc"][1] == pytest.approx(0.3, abs=0.01)
    assert binary["sensitivity_at_specificity_90"][0] == pytest.approx(norm.sf(norm.ppf(0.9) - 1), abs=0.01)
    ages = coverage._truth(coverage.numbers, (60, 1, 1.0, 1000, 0.5))
    assert ages["mae"][0] == pytest.approx(8 * np.sqrt(2 / np.pi), rel=0.02)
    assert ages["r2"] == pytest.approx((1 - 64 / 225, 1 - (64 + 7.5**2) / 225), abs=0.02)
    masks = coverage._truth(coverage.masks, (60, 1, 0.0, 0.1, 0.8, 0.5))
    assert masks["dice"] == pytest.approx((0.72, 0.45), abs=0.01)


def test_quick_ranking_metrics_are_those_of_the_library(coverage):
    rng = np.random.default_rng(0)
    y, s, w = rng.integers(0, 2, 60).astype(float), rng.normal(size=60).round(1), rng.integers(0, 3, (20, 60)) * 1.0
    w[0] = 1 - y  # no positive
    np.testing.assert_allclose(coverage.quick_auroc(y, s, w), auroc(y, s, w), rtol=1e-6)
    np.testing.assert_allclose(coverage.quick_auprc(y, s, w), auprc(y, s, w), rtol=1e-5)


def test_a_run_goes_on_after_the_settings_that_are_done(coverage):
    done = {("families", coverage._said(setting)) for setting in ((60, 2, 3), (100, 1, 5), (100, 3, 10))}
    assert {row["setting"] for row in coverage.families(2, done)} == {"200 1 5"}


def test_every_metric_has_at_least_ten_settings(coverage):
    assert all(len(set(settings)) >= 10 for _, settings in coverage.WORLDS.values())


@pytest.mark.parametrize("name", ["binary", "aggregate", "multiclass", "regression", "segmentation", "findings"])
def test_a_few_replicates(coverage, name, monkeypatch):
    world, settings = coverage.WORLDS[name]
    monkeypatch.setitem(coverage.WORLDS, name, (world, settings[:1]))
    rows = pd.DataFrame(coverage.coverage(name, 4, 50))
    assert rows["covered"].between(0, 1).all()
    assert (rows["width"] > 0).all()
    kinds = rows["metric"].str.extract("^(difference of|drop of)?")[0]
    assert (kinds.value_counts() * 3 == len(rows)).all()
    tests = pd.DataFrame(coverage.sizes(name, 3, 20))
    assert (tests["p < 0.05"] <= tests["p < 0.2"]).all()
    assert f"| {name}: {rows['metric'][0]} | 1 |" in coverage.coverage_table(rows)
    assert f"| {name}: {tests['test'][0]} | 1 |" in coverage.size_table(tests)


def test_the_command_leaves_its_counts(coverage, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["coverage.py", "--replicates", "2", "--resamples", "20", "--only", "families",
                                     "--out", str(tmp_path)])  # fmt: skip
    coverage.main()
    rows = pd.read_csv(tmp_path / "sizes.csv")
    assert len(rows) == 4
    assert "any of a family after Holm" in capsys.readouterr().out
