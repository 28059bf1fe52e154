"""Folds by patient: nobody on two sides, everybody tested once a repeat, means and paired differences of folds."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import mean_absolute_error, roc_auc_score

from benchmark.test_evaluate import Halves, Noise
from memory_corpus import MemoryCorpus, toy_corpus
from raddino.benchmark import cross_validation
from raddino.benchmark.cross_validation import INTERVAL, folds_of, probe_folds
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.results import Results
from raddino.benchmark.suite import CrossValidation
from raddino.encoders.base import Provenance
from raddino.encoders.floors import PixelPCA
from raddino.errors import ConfigError, RaddinoError
from raddino.features.extract import embed
from raddino.metrics.folds import corrected_mean
from raddino.report.html import report
from raddino.report.terminal import text_table
from raddino.tasks.base import TaskConfig, select_pool
from raddino.tasks.probes import LinearConfig, Request

TASKS = [
    {"name": "left", "target": "label_left", "kind": "binary"},
    {"name": "age", "target": "age", "kind": "regression"},
    {"name": "view", "target": "view", "kind": "multiclass"},
    {"name": "none", "target": "label_none", "kind": "binary"},
]
PROBE = {"kind": "logistic"}
SETTING = CrossValidation(folds=4, repeats=2)
LEFT = TaskConfig(name="left", target="label_left", kind="binary")


@pytest.fixture
def corpus(tmp_path):
    return toy_corpus(tmp_path / "corpus")


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    values = {"tasks": TASKS, "probe": PROBE, "macro": {"mean": ["left", "none"]},
              "cross_validation": {"folds": 4, "repeats": 2}}  # fmt: skip
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def row(results, task, encoder, metric):
    (one,) = [
        row for row in results.data["rows"] if (row["task"], row["encoder"], row["metric"]) == (task, encoder, metric)
    ]
    return one


def test_folds_hold_whole_patients_and_both_classes_alike(corpus):
    pool = select_pool(corpus, LEFT, 4)
    for repeat in range(3):
        fold = folds_of(pool, 4, repeat, 0)
        table = pd.DataFrame({"fold": fold, "patient": pool.patients, "y": pool.target})
        assert (table.groupby("patient")["fold"].nunique() == 1).all()
        positive = table.groupby("patient").agg({"fold": "first", "y": "max"})
        counts = positive.groupby(["y", "fold"]).size().unstack()
        assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert (folds_of(pool, 4, 0, 0) != folds_of(pool, 4, 1, 0)).any()
    assert (folds_of(pool, 4, 0, 0) != folds_of(pool, 4, 0, 1)).any()
    assert (folds_of(pool, 4, 0, 0) == folds_of(pool, 4, 0, 0)).all()


def test_nobody_is_fitted_selected_and_tested_at_once(corpus, monkeypatch):
    pool, seen = select_pool(corpus, LEFT, 4), []

    class Spy:
        chosen = ({"probe": "spy"},)

        def predict(self, x):
            seen[-1].append(set(map(tuple, x)))
            return np.zeros((1, len(x), 1))

    def fit(train, val, config, request):
        seen.append([set(map(tuple, train[0]))])
        return Spy()

    features = embed(corpus, Halves(), rows=pool.rows)
    known = {tuple(one): patient for one, patient in zip(features.cls, pool.patients, strict=True)}
    method = cross_validation.PROBES["linear"]
    monkeypatch.setattr(cross_validation, "PROBES", {"linear": type(method)(method.config, fit)})
    asked = partial(Request, device="cpu")
    probe_folds(features, pool, LinearConfig(), SETTING, asked, 0)
    assert len(seen) == 8
    for train, val, test in seen:
        patients = [{known[one] for one in part} for part in (train, val, test)]
        assert sum(map(len, patients)) == len(set.union(*patients))
        assert set.union(*patients) == set(pool.patients)
    for repeat in (seen[:4], seen[4:]):
        assert sum(len(test) for _, _, test in repeat) == len(pool.rows)


def test_values_are_means_over_folds_and_differences_are_paired(corpus, suite, tmp_path):
    results = evaluate(corpus, [Noise(), Halves()], suite=suite, out=tmp_path / "results")
    pools = {name: select_pool(corpus, TaskConfig(**task), 4) for task in TASKS[:3] for name in [task["name"]]}
    assert row(results, "left", "halves", "auroc")["n"] == len(pools["left"].rows) == 216
    assert row(results, "left", "halves", "auroc")["value"] > 0.9
    difference = row(results, "left", "halves", "auroc")["difference"]
    values = [row(results, "left", name, "auroc")["value"] for name in ("halves", "noise")]
    assert difference["value"] == pytest.approx(values[0] - values[1])
    assert difference["test"] == INTERVAL
    assert difference["p"] <= difference["p_holm"] < 0.01
    assert row(results, "view", "halves", "accuracy")["low"] < 0.55
    for one in results.data["rows"]:
        assert one["low"] <= one["value"] <= one["high"]
        assert one["interval"] == INTERVAL
        assert "4-fold cross-validation by patient, 2 times" in one["signature"]
        assert one["resamples"] == 8
    reasons = {one["task"]: one["reason"] for one in results.data["absent"]}
    assert "class 1" in reasons["none"]
    assert "mean" in reasons
    predicted = results.predictions[results.predictions["encoder"] == "halves"]
    for task, metric in (("left", roc_auc_score), ("age", mean_absolute_error)):
        own = predicted[predicted["task"] == task]
        assert own["id"].is_unique
        key = "auroc" if task == "left" else "mae"
        assert metric(own["target"], own["score"]) == pytest.approx(row(results, task, "halves", key)["value"], rel=0.1)
    opened = Results.open(tmp_path / "results")
    assert opened.data["rows"] == results.data["rows"]
    assert not (tmp_path / "results" / "probes").exists()
    report(tmp_path / "results")
    page, paper = ((tmp_path / "results" / name).read_text(encoding="utf-8") for name in ("report.html", "table.tex"))
    terminal = text_table(results.data)
    for text in (page, paper, terminal):
        assert "4-fold cross-validation by patient, 2 times" in text
        assert not any(word in text for word in ("on test patients", "test images.", "over patients", "  test n="))
    assert "over folds" in terminal
    assert "8 folds" in page
    assert "8 folds" in paper


def test_images_without_a_value_are_counted(corpus, suite, tmp_path):
    some = np.flatnonzero(corpus.manifest["label_left"].notna())[:7]
    corpus.manifest.loc[corpus.manifest.index[some], "label_left"] = np.nan
    results = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "results")
    one = row(results, "left", "halves", "auroc")
    assert one["excluded"] == len(corpus) - one["n"] >= 7
    assert f"excluded={one['excluded']}" in text_table(results.data)


def test_the_value_is_that_of_a_plain_loop(corpus, suite, tmp_path):
    results = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "results")
    pool = select_pool(corpus, LEFT, 4)
    x = embed(corpus, Halves(), rows=pool.rows).cls
    from raddino.tasks.probes import PROBES, parse_probe

    values = np.empty((2, 4))
    for repeat in range(2):
        fold = folds_of(pool, 4, repeat, 0)
        for tested in range(4):
            held, chosen = fold == tested, fold == (tested + 1) % 4
            rest = ~held & ~chosen
            y = pool.target[:, None]
            probe = PROBES["logistic"].fit((x[rest], y[rest]), (x[chosen], y[chosen]), parse_probe(PROBE),
                                           Request("logistic", ("left",), device="cpu"))  # fmt: skip
            values[repeat, tested] = roc_auc_score(pool.target[held], probe.predict(x[held])[0, :, 0])
    expected, found = corrected_mean(values, 1 / 2, 0, 1), row(results, "left", "halves", "auroc")
    assert (found["value"], found["low"], found["high"]) == pytest.approx((expected.value, expected.low, expected.high))


def test_splits_of_the_corpus_do_not_count(corpus, suite, tmp_path):
    before = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "before")
    table = corpus.manifest.assign(split=None)
    other = MemoryCorpus(corpus.images, table, tmp_path / "other")
    after = evaluate(other, [Halves()], suite=suite, out=tmp_path / "after")
    assert [one["value"] for one in before.data["rows"]] == [one["value"] for one in after.data["rows"]]


def test_who_trained_on_any_split_has_seen_what_folds_test(corpus, suite, tmp_path):
    encoder = Halves()
    seen = {corpus.fingerprint: ["train"]}
    encoder.provenance = Provenance(sources=["toy"], supervision="self-supervised", corpora=seen)
    results = evaluate(corpus, [encoder], suite=suite, out=tmp_path / "r")
    assert results.data["encoders"][0]["contamination"] == {"toy": "image seen"}
    with pytest.raises(ConfigError, match="cross-validation tests all"):
        evaluate(corpus, [encoder], suite=suite, out=tmp_path / "s", held_out={"halves": ["toy"]})


def test_what_cannot_be_is_said(corpus, suite, tmp_path):
    with pytest.raises(RaddinoError, match="fitted on training images"):
        evaluate(corpus, [PixelPCA(8, 4)], suite=suite, out=tmp_path / "r")
    with pytest.raises(ConfigError, match="leave train_on and test_on out"):
        evaluate(two(corpus), [Halves()], suite=suite, out=tmp_path / "s", train_on=["toy"])
    with pytest.raises(ConfigError, match="analyses"):
        evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "t", analyses=["subgroups"])
    suite.write_text(suite.read_text(encoding="utf-8").replace("folds: 4", "folds: 2"), encoding="utf-8")
    with pytest.raises(ConfigError, match="folds"):
        evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "u")


def two(corpus):
    return MemoryCorpus(corpus.images, corpus.manifest.assign(source=["toy", "far"] * 120), corpus.path)
