"""What analyses share: degenerate inputs, and the registry that evaluate reads."""

import json
import math

import numpy as np
import pytest

from analysis_context import X, Y, context_of, invented
from raddino.benchmark.analyses import base
from raddino.benchmark.analyses.calibration import calibration
from raddino.benchmark.analyses.rows import distribution_on, draw_of, only, restrict, weighted_mean
from raddino.benchmark.analyses.subgroups import subgroups
from raddino.benchmark.measure import Scores


@pytest.fixture
def context(tmp_path):
    manifest = invented(120)
    logit = np.random.default_rng(0).normal(size=len(manifest))
    return context_of(manifest, {"one": {"x": logit, "y": logit}}, [X, Y], tmp_path)


def test_every_analysis_is_registered():
    expected = {"calibration", "confounders", "consistency", "label_efficiency", "retrieval", "robustness", "subgroups"}
    assert expected <= set(base.ANALYSES)


def test_restriction_keeps_validation_and_thresholds(context):
    scores = context.scores["one"]["x"]
    keep = np.arange(scores.test.shape[1]) % 3 == 0
    part = restrict(scores, keep)
    at = scores.examples.at
    np.testing.assert_array_equal(part.examples.rows[part.examples.at["test"]], scores.examples.rows[at["test"]][keep])
    np.testing.assert_array_equal(part.examples.rows[part.examples.at["val"]], scores.examples.rows[at["val"]])
    whole, cut = (one.statistics()["sensitivity_at_specificity_90"].detail["threshold"] for one in (scores, part))
    assert whole == cut
    assert len(only(scores.examples, np.zeros(len(keep), bool)).at["test"]) == 0


def test_resamples_of_a_group_are_those_of_all(context):
    one = context.examples[0]
    draw = draw_of(context, [one])
    keep = np.arange(len(one.at["test"])) < 10
    expected = draw.bootstrap.distribution(lambda weights: weights[:, :10].sum(1))
    np.testing.assert_array_equal(distribution_on(draw, keep, lambda weights: weights.sum(1)), expected)


def test_weighted_mean_leaves_undefined_values_out():
    values = np.array([1.0, np.nan, 3.0])
    assert weighted_mean(values, None) == 2
    found = weighted_mean(values, np.array([[1.0, 5, 0], [1, 1, 3], [0, 9, 0]]))
    np.testing.assert_allclose(found[:2], [1, 2.5])
    assert np.isnan(found[2])


def test_one_test_patient_has_values_without_intervals(context):
    scores = context.scores["one"]["x"]
    keep = (
        scores.examples.patients[scores.examples.at["test"]] == scores.examples.patients[scores.examples.at["test"]][0]
    )
    part = restrict(scores, keep)
    context.scores["one"]["x"] = Scores(part.examples, part.val, part.test, part.chosen)
    object.__setattr__(context, "examples", [part.examples])
    found = calibration(context)
    undefined = {row["metric"] for row in found if row["value"] is None}
    assert undefined <= {"calibration_intercept", "calibration_slope"}
    rows = [row for row in found if row["metric"] not in undefined]
    assert rows
    assert all(math.isnan(row["low"]) and not math.isnan(row["value"]) for row in rows)
    assert {row["role"] for row in subgroups(context)} <= {"suppressed"}


def test_rows_are_flat_and_signed(context):
    for row in [*calibration(context), *subgroups(context)]:
        assert not [key for key, value in row.items() if isinstance(value, dict | list | np.generic)]
        assert row["signature"]
        json.dumps(row)
