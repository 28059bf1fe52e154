"""Bins against ``metrics.calibration``, the temperature on overconfident scores, and a site that is off by design."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from analysis_context import AGE, X, context_of, invented, only_rows
from raddino.benchmark.analyses.calibration import calibration
from raddino.metrics.calibration import expected_calibration_error, reliability
from raddino.report.analyses import sections
from raddino.report.calibration import calibration_lines


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


def two_places(tmp_path):
    """Inside honest; at the clinic the same logits, whose positives are rarer and whose spread is half."""
    manifest, draw = invented(600), np.random.default_rng(2)
    logit = draw.normal(0, 1.5, len(manifest))
    manifest["label_x"] = (draw.random(len(manifest)) < expit(logit)).astype(float)
    inside = context_of(manifest, {"one": {"x": logit}}, [X], tmp_path / "a")
    away = manifest.assign(label_x=(draw.random(len(manifest)) < expit(0.5 * logit - 1)).astype(float))
    away["patient"] = "far " + away["patient"]
    there = context_of(
        away, {"one": {"x at clinic": logit}}, [X.model_copy(update={"name": "x at clinic"})], tmp_path / "b"
    )
    return replace(inside, sites={"clinic": replace(there, scope="train:a,test:clinic")})


def test_sites_are_looked_at_and_recalibrated(tmp_path):
    rows = calibration(two_places(tmp_path))
    cox = {(row["site"], row["metric"]): row for row in only_rows(rows, role="cox")}
    assert cox[None, "in_the_large"]["low"] < 0 < cox[None, "in_the_large"]["high"]
    assert cox[None, "calibration_slope"]["low"] < 1 < cox[None, "calibration_slope"]["high"]
    assert cox["clinic", "in_the_large"]["high"] < -0.1
    assert cox["clinic", "calibration_slope"]["low"] < 0.5 < cox["clinic", "calibration_slope"]["high"] < 1
    assert cox["clinic", "calibration_intercept"]["high"] < 0
    assert cox["clinic", "in_the_large"]["task"] == "x at clinic"
    assert "scope:train:a,test:clinic" in cox["clinic", "in_the_large"]["signature"]
    mended = {(row["metric"], row["recalibration"]): row for row in only_rows(rows, role="recalibrated")}
    assert {row["site"] for row in mended.values()} == {"clinic"}
    assert mended["in_the_large", "intercept"]["value"] == pytest.approx(0, abs=0.01)
    assert mended["calibration_slope", "intercept"]["high"] < 1
    assert mended["calibration_slope", "platt"]["low"] < 1 < mended["calibration_slope", "platt"]["high"]
    (before,) = only_rows(rows, site="clinic", metric="ece", role="summary")
    assert mended["ece", "platt"]["high"] < before["low"]
    assert "in_the_large[recalibrated: platt]" in mended["in_the_large", "platt"]["signature"]


def test_rows_are_those_of_the_metrics_and_of_the_patients(tmp_path):
    context = two_places(tmp_path).sites["clinic"]
    scores = context.scores["one"]["x at clinic"]
    y = scores.examples.target[scores.examples.at["test"]]
    (row,) = only_rows(calibration(context), metric="in_the_large", role="cox")
    assert row["value"] == pytest.approx(y.mean() - expit(scores.test.mean(0)).mean())
    assert row["patients"] == len(set(scores.examples.patients[scores.examples.at["test"]]))
    residual = pd.Series(y - expit(scores.test[0])).groupby(scores.examples.patients[scores.examples.at["test"]]).mean()
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * residual.std() / np.sqrt(len(residual)), rel=0.2)


def test_a_slope_that_no_number_fits_says_so(tmp_path):
    manifest = invented(300)
    rows = calibration(context_of(manifest, {"oracle": {"x": manifest["label_x"] * 8 - 4}}, [X], tmp_path))
    (row,) = only_rows(rows, metric="calibration_slope")
    assert row["value"] is None
    assert "separate the classes" in row["reason"]


def test_the_section_says_what_is_off_and_what_mended_it(tmp_path):
    rows = calibration(two_places(tmp_path))
    metrics = {"encoders": [{"name": "one"}], "rows": [], "analyses": {"calibration": rows}}
    (section,) = sections(metrics)
    assert section.words[0].startswith("x at clinic, one: risks are too high on the whole, observed minus expected −0.")
    assert len(section.words) == 1, "inside nothing is off"
    titles = [table.caption for table in section.tables if table.lines]
    assert titles == ["In the large, intercept and slope", "Recalibrated at the site",
                      "Before and after temperature scaling"]  # fmt: skip
    assert all(len(cells) == len(table.head) for table in section.tables for _, cells in table.lines)
    assert set(section.pairs) == {"x", "x at clinic"}
    *_, line = calibration_lines(metrics)
    assert line.startswith("x at clinic: one −0.")
    assert not calibration_lines({"analyses": {"calibration": only_rows(rows, site=None)}})
    json.dumps(rows)
