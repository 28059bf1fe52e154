"""Bins against ``metrics.calibration``, and the temperature's work on overconfident scores."""

import numpy as np
import pytest
from scipy.special import expit

from analysis_context import AGE, X, context_of, invented, only_rows
from raddino.benchmark.analyses.calibration import calibration
from raddino.metrics.calibration import expected_calibration_error, reliability


@pytest.fixture
def context(tmp_path):
    manifest, draw = invented(400), np.random.default_rng(1)
    logit = draw.normal(0, 1.5, len(manifest))
    manifest["label_x"] = (draw.random(len(manifest)) < expit(logit)).astype(float)
    outputs = {
        "honest": {"x": logit, "age": logit},
        "loud": {"x": 4 * logit, "age": logit},
        "certain": {"x": np.where(logit > 0, 900.0, -900.0), "age": logit},
    }
    return context_of(manifest, outputs, [X, AGE], tmp_path)


def test_bins_are_the_reliability_diagram(context):
    rows = calibration(context)
    assert {row["task"] for row in rows} == {"x"}
    for name in ("honest", "loud", "certain"):
        scores = context.scores[name]["x"]
        target = scores.examples.target[scores.examples.at["test"]]
        probability = expit(scores.test.mean(0))
        expected = reliability(target, probability)
        bins = only_rows(rows, encoder=name, role="bin", scaled=False)
        np.testing.assert_allclose([row["predicted"] for row in bins], expected["probability"])
        np.testing.assert_allclose([row["value"] for row in bins], expected["frequency"])
        assert [row["n"] for row in bins] == expected["n"]
        (ece,) = only_rows(rows, encoder=name, metric="ece")
        assert ece["value"] == pytest.approx(float(expected_calibration_error(target, probability)))
        by_hand = np.average([abs(row["value"] - row["predicted"]) for row in bins], weights=[row["n"] for row in bins])
        assert ece["value"] == pytest.approx(by_hand)
        for row in bins:
            assert np.isnan(row["low"]) or row["low"] <= row["value"] <= row["high"]


def test_temperature_mends_overconfidence_only(context):
    rows = calibration(context)
    (before,), (after,) = (only_rows(rows, encoder="loud", metric=key) for key in ("ece", "ece_temperature"))
    assert before["temperature"] == pytest.approx(4, rel=0.4)
    assert after["high"] < before["low"]
    (honest,) = only_rows(rows, encoder="honest", metric="ece")
    assert honest["temperature"] == pytest.approx(1, rel=0.4)
