"""Ranks at planted places: who leads, where the order turns, and what cannot be ranked."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from analysis_context import AGE, X, context_of, invented, only_rows
from raddino.benchmark.analyses.site_ranks import EVERYWHERE, INSIDE, site_ranks
from raddino.errors import RaddinoError

TASKS = (X, AGE)


def place(tmp_path, strength, called="", seed=0):
    """A context in which an encoder follows the label and the age as strongly as ``strength`` says."""
    manifest, draw = invented(240, seed=seed), np.random.default_rng(seed + 7)
    tasks = [one.model_copy(update={"name": f"{one.name} at {called}"}) if called else one for one in TASKS]
    outputs = {
        name: {
            tasks[0].name: by * manifest["label_x"].to_numpy() + draw.normal(size=len(manifest)),
            tasks[1].name: manifest["age"].to_numpy() + draw.normal(0, 20 / (1 + by), len(manifest)),
        }
        for name, by in strength.items()
    }
    return context_of(manifest, outputs, tasks, tmp_path / f"place{called}")


@pytest.fixture
def context(tmp_path):
    home = place(tmp_path, {"good": 3.0, "fair": 1.5, "poor": 0.0})
    near = place(tmp_path, {"good": 3.0, "fair": 1.5, "poor": 0.0}, "near", 1)
    far = place(tmp_path, {"good": 0.0, "fair": 1.5, "poor": 3.0}, "far", 2)
    return replace(home, sites={"near": near, "far": far})


def test_ranks_are_those_of_the_values_at_each_place(context):
    rows = site_ranks(context)
    json.dumps(rows)
    for site, there in {INSIDE: context, **context.sites}.items():
        scores = {name: one["x" if site == INSIDE else f"x at {site}"] for name, one in there.scores.items()}
        value = {
            name: roc_auc_score(one.examples.target[one.examples.at["test"]], one.test[0])
            for name, one in scores.items()
        }
        found = only_rows(rows, task="x", site=site, role="rank")
        assert {row["encoder"]: row["reached"] for row in found} == pytest.approx(value)
        order = sorted(value, key=value.get, reverse=True)
        assert {row["encoder"]: row["value"] for row in found} == {name: 1 + at for at, name in enumerate(order)}
        assert all(row["low"] <= row["value"] <= row["high"] for row in found)
    (poor,) = only_rows(rows, task="age", site=INSIDE, role="rank", encoder="poor")
    assert (poor["of"], poor["low"], poor["high"]) == ("mae", 3, 3), "of an error, the largest is last"
    assert "rank[auroc at far]" in only_rows(rows, task="x", site="far", role="rank")[0]["signature"]


def test_a_leader_that_falls_is_told_from_one_that_stays(context):
    rows = only_rows(site_ranks(context), task="x", role="leader")
    assert {row["encoder"] for row in rows} == {"good"}
    assert {row["site"]: row["leads"] for row in rows} == {INSIDE: True, "near": True, "far": False, EVERYWHERE: False}
    shares = {row["site"]: row["value"] for row in rows}
    assert shares["near"] > 0.95
    assert shares["far"] == shares[EVERYWHERE] == 0
    (behind,) = only_rows(site_ranks(context), task="x", role="rank", site="far", encoder="good")
    assert behind["low"] > 1


def test_agreement_is_kendalls_tau_of_the_values(context):
    rows = site_ranks(context)
    for row in only_rows(rows, task="x", role="agreement"):
        values = [
            [one["reached"] for one in only_rows(rows, task="x", role="rank", site=row[key])]
            for key in ("other", "site")
        ]
        assert row["value"] == pytest.approx(kendalltau(*values).statistic)
        assert row["low"] <= row["value"] <= row["high"]
    tau = {(row["other"], row["site"]): row["value"] for row in only_rows(rows, task="x", role="agreement")}
    assert tau == {(INSIDE, "near"): 1, (INSIDE, "far"): -1, ("near", "far"): -1}


def test_without_an_inside_the_leader_is_that_of_the_mean_over_sites(context):
    rows = site_ranks(replace(context, examples=(), scores={}))
    means = {}
    for row in only_rows(rows, task="x", role="rank"):
        means.setdefault(row["encoder"], []).append(row["reached"])
    best = max(means, key=lambda name: np.mean(means[name]))
    assert {row["encoder"] for row in only_rows(rows, task="x", role="leader")} == {best}
    assert INSIDE not in {row["site"] for row in rows}


def test_what_cannot_be_ranked_says_why(context, tmp_path):
    with pytest.raises(RaddinoError, match="the ranking is of one place"):
        site_ranks(replace(context, sites={}))
    alone = place(tmp_path / "one", {"good": 3.0})
    away = place(tmp_path / "one", {"good": 3.0}, "far", 2)
    with pytest.raises(RaddinoError, match="two encoders"):
        site_ranks(replace(alone, sites={"far": away}))
    lacking = replace(context, scores={name: dict(one) for name, one in context.scores.items()})
    del lacking.scores["good"]["x"]
    ranked = {row["encoder"] for row in only_rows(site_ranks(lacking), task="x", role="rank")}
    assert ranked == {"fair", "poor"}, "an encoder without a value at a place is ranked nowhere"
