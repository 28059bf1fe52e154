"""Net benefit and operating points of known probabilities, inside and at a site; what is said of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import precision_score, recall_score

from analysis_context import AGE, X, context_of, invented, only_rows
from raddino.benchmark.analyses.decision_curves import THRESHOLDS, decision_curves, operating_points
from raddino.report.analyses import sections
from raddino.report.decisions import operating_lines

FAR = X.model_copy(update={"name": "x at clinic"})


@pytest.fixture
def context(tmp_path):
    manifest, draw = invented(500), np.random.default_rng(1)
    risk = draw.normal(-1, 1.5, len(manifest))
    manifest["label_x"] = (draw.random(len(manifest)) < expit(risk)).astype(float)
    outputs = {name: {"x": score, "age": risk} for name, score in (("honest", risk), ("blind", draw.permutation(risk)))}
    home = context_of(manifest, outputs, [X, AGE], tmp_path / "a")
    rarer = (draw.random(len(manifest)) < expit(risk - 1)).astype(float)
    rare = manifest.assign(label_x=manifest["label_x"].where(manifest["split"] != "test", rarer))
    clinic = context_of(rare, {name: {"x at clinic": one["x"]} for name, one in outputs.items()}, [FAR], tmp_path / "b")
    return replace(home, sites={"clinic": clinic})


def test_curves_are_the_net_benefits_of_the_calibrated_probability(context):
    rows = decision_curves(context)
    json.dumps(rows)
    assert {(row["task"], row["site"]) for row in rows} == {("x", None), ("x at clinic", "clinic")}
    for there, task in ((context, "x"), (context.sites["clinic"], "x at clinic")):
        scores = there.scores["honest"][task]
        y, temperature = scores.examples.target[scores.examples.at["test"]], None
        own = only_rows(rows, task=task, encoder="honest")
        assert [row["threshold"] for row in own] == list(THRESHOLDS)
        temperature = scores.statistics()["brier_temperature"].detail["temperature"]
        p = expit(scores.test[0] / temperature)
        for row in own:
            odds = row["threshold"] / (1 - row["threshold"])
            expected = np.mean((p >= row["threshold"]) * (y - (1 - y) * odds))
            everybody = y.mean() - (1 - y.mean()) * odds
            assert row["value"] == pytest.approx(expected)
            assert row["gain"] == pytest.approx(expected - max(everybody, 0))
            assert row["low"] <= row["value"] <= row["high"]
            (everyone,) = only_rows(rows, task=task, role="all", threshold=row["threshold"])
            assert everyone["value"] == pytest.approx(everybody)
            assert everyone["encoder"] is None


def test_who_sees_nothing_is_never_worth_acting_on(context):
    rows = decision_curves(context)
    assert not any(row["gain_low"] > 0 for row in only_rows(rows, encoder="blind"))
    assert any(row["gain_low"] > 0 for row in only_rows(rows, encoder="honest", task="x"))


def test_operating_points_come_from_validation_and_are_those_of_the_table(context):
    suite = context.suite.model_copy(update={"sensitivities": (0.8, 0.99)})
    clinic = replace(context.sites["clinic"], suite=suite)
    context = replace(context, suite=suite, sites={"clinic": clinic})
    rows = operating_points(context)
    json.dumps(rows)
    scores = context.scores["honest"]["x"]
    val, y_val = expit(scores.val[0]), scores.examples.target[scores.examples.at["val"]]
    for level in (0.8, 0.99):
        own = {row["metric"]: row for row in only_rows(rows, task="x", encoder="honest", level=level)}
        threshold = own["ppv"]["threshold"]
        assert recall_score(y_val, val >= threshold) >= level
        assert recall_score(y_val, val > threshold) < level
        y, called = scores.examples.target[scores.examples.at["test"]], expit(scores.test[0]) >= threshold
        assert own["sensitivity"]["value"] == pytest.approx(recall_score(y, called))
        assert own["specificity"]["value"] == pytest.approx(recall_score(1 - y, ~called))
        assert own["ppv"]["value"] == pytest.approx(precision_score(y, called))
        assert own["npv"]["value"] == pytest.approx(precision_score(1 - y, ~called))
        assert all(row["low"] < row["value"] < row["high"] for row in own.values())
        (away,) = only_rows(rows, task="x at clinic", encoder="honest", level=level, metric="ppv")
        assert away["threshold"] == threshold
        assert away["value"] < own["ppv"]["value"], "the finding is rarer there"


def test_a_point_that_calls_nobody_says_so(context):
    scores = context.scores["honest"]["x"]
    quiet = replace(scores, test=np.full_like(scores.test, logit(1e-6)))
    rows = operating_points(replace(context, scores={"honest": {"x": quiet}}, sites={}))
    reasons = {row["metric"]: row["reason"] for row in rows if row["value"] is None}
    assert reasons == {"ppv": "no test image is called positive at this threshold"}


def test_the_page_says_where_acting_is_worth_it(context):
    metrics = {
        "encoders": [{"name": "honest"}, {"name": "blind"}],
        "analyses": {"decision_curves": decision_curves(context), "operating_points": operating_points(context)},
    }
    points, curves = sections(metrics, "drawn")
    assert [figure.title for figure in curves.panels] == ["x", "x at clinic"]
    assert all(figure.svg.startswith("<svg") for figure in curves.panels)
    own = only_rows(metrics["analyses"]["decision_curves"], task="x", encoder="honest")
    first = next(row["threshold"] for row in own if row["gain_low"] > 0)
    assert curves.words[0].startswith(
        f"x, honest: clearly better than acting on everybody or nobody at thresholds of {100 * first:g} %"
    )
    assert curves.words[1] == "x, blind: at no threshold clearly better than acting on everybody or nobody."
    (table,) = points.tables
    assert [line[1][1][0] for line in table.lines[:2]] == ["90 %", "95 %"]
    assert all(len(cells) == len(each.head) for each in (*curves.tables, table) for _, cells in each.lines)
    assert operating_lines(metrics)[2].startswith("x, chosen 90 %: honest 0.")
