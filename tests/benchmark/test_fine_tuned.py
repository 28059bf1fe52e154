"""Rows of encoders that were trained on the labels, beside those of their probes."""

import json

import numpy as np
import pytest
import yaml

from benchmark.test_evaluate import Halves
from benchmark.test_sites import two_sources
from blob_corpus import grey_encoder
from memory_corpus import toy_corpus
from raddino.benchmark import fine_tuned
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.results import Results
from raddino.benchmark.suite import CrossValidation
from raddino.errors import ConfigError, RaddinoError

FAST = {"method": "full", "learning_rates": [1e-3], "steps": 6, "warmup": 1, "evaluate_every": 3, "batch_size": 8}
PROBE = {"seeds": 2, "steps": 100, "learning_rates": [0.1], "weight_decays": [0.01]}
TASKS = [
    {"name": "left", "target": "label_left", "kind": "binary"},
    {"name": "sex", "target": "sex", "kind": "binary", "positive": "M"},
    {"name": "age", "target": "age", "kind": "regression"},
    {"name": "view", "target": "view", "kind": "multiclass"},
]


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"tasks": TASKS, "probe": PROBE, "fine_tune": [FAST]}), encoding="utf-8")
    return path


def judge(corpus, suite, out, encoders=None, **options):
    return evaluate(corpus, encoders or [grey_encoder(24)], suite=suite, out=out, resamples=50, device="cpu", **options)


def test_every_task_has_rows_of_both(tmp_path, suite):
    results = judge(toy_corpus(tmp_path / "corpus"), suite, tmp_path / "out")
    measured = {(row["encoder"], row["task"], row["metric"]) for row in results.data["rows"]}
    own = {(task, metric) for encoder, task, metric in measured if encoder == "grey"}
    assert {(task, metric) for encoder, task, metric in measured if encoder == "grey (fine-tuned)"} == own
    assert {task for task, _ in own} == {"left", "sex", "age", "view"}
    row = next(one for one in results.data["rows"] if one["encoder"] == "grey (fine-tuned)" and one["task"] == "left")
    detail = row["detail"]
    assert (detail["probe"], detail["method"], detail["learning_rate"]) == ("fine_tune", "fine-tuned", 1e-3)
    assert row["difference"] is not None
    plain, trained = results.data["encoders"]
    assert plain["fingerprint"] != trained["fingerprint"]
    assert plain["contamination"] == trained["contamination"]
    assert set(results.predictions["encoder"]) == {"grey", "grey (fine-tuned)"}
    assert Results.open(tmp_path / "out").data["rows"]


def test_it_is_trained_once(tmp_path, suite, monkeypatch):
    corpus = toy_corpus(tmp_path / "corpus")
    first = judge(corpus, suite, tmp_path / "out")
    written = (tmp_path / "out/metrics.json").read_bytes()
    calls = []
    train = fine_tuned.fine_tune
    monkeypatch.setattr(fine_tuned, "fine_tune", lambda *given: calls.append(given) or train(*given))
    again = judge(corpus, suite, tmp_path / "out")
    assert calls == []
    assert first.data["rows"] == again.data["rows"]
    assert (tmp_path / "out/metrics.json").read_bytes() == written
    judge(corpus, suite, tmp_path / "out", seed=1)
    assert len(calls) == 4
    other = FAST | {"steps": 3}
    judge(corpus, suite, tmp_path / "out", fine_tune=[other])
    assert len(calls) == 8


def test_damaged_outputs_cost_the_rows_of_that_training_only(tmp_path, suite):
    corpus = toy_corpus(tmp_path / "corpus")
    judge(corpus, suite, tmp_path / "out")
    file = next((tmp_path / "out/fine_tuned").iterdir())
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    results = judge(corpus, suite, tmp_path / "out")
    reasons = {one["reason"] for one in results.data["absent"] if one["encoder"] == "grey (fine-tuned)"}
    assert any("is damaged" in reason and "delete it, and the encoder is trained again" in reason for reason in reasons)
    assert {row["encoder"] for row in results.data["rows"]} == {"grey"}


def test_it_never_sees_a_test_label(tmp_path, suite):
    corpus = toy_corpus(tmp_path / "corpus")
    first = judge(corpus, suite, tmp_path / "out")
    test = corpus.manifest["split"] == "test"
    flipped = corpus.manifest.assign(
        label_left=corpus.manifest["label_left"].where(~test, 1 - corpus.manifest["label_left"]),
        age=corpus.manifest["age"].where(~test, 100 - corpus.manifest["age"]),
    )
    changed = type(corpus)(corpus.images, flipped, corpus.path)
    second = judge(changed, suite, tmp_path / "other")
    scores = [
        results.predictions.sort_values(["task", "encoder", "id"])["score"].to_numpy() for results in (first, second)
    ]
    np.testing.assert_array_equal(*scores)


def test_sites_are_predicted_by_the_network_of_the_inside(tmp_path, suite):
    results = judge(two_sources(tmp_path / "corpus"), suite, tmp_path / "out", train_on=["home"])
    away = [row for row in results.data["rows"] if row.get("site") == "away" and row["encoder"] == "grey (fine-tuned)"]
    assert {row["task"] for row in away} == {"left at away", "sex at away", "age at away", "view at away"}
    assert all(row["drop"] is not None for row in away if row["metric"] == "auroc")


def test_what_cannot_be_trained_is_listed_with_its_reason(tmp_path, suite):
    results = judge(toy_corpus(tmp_path / "corpus"), suite, tmp_path / "out", [Halves(), grey_encoder(24)])
    absent = [one for one in results.data["absent"] if one["encoder"] == "halves (fine-tuned)"]
    assert [one["reason"] for one in absent] == ["it has no network to train"]
    assert "grey (fine-tuned)" in {row["encoder"] for row in results.data["rows"]}
    json.dumps(results.data)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"fine_tune": ["full", "full"]}, "fine_tune names 'fine-tuned' twice"),
        ({"fine_tune": ["some"]}, "fine_tune takes full"),
        ({"cross_validation": CrossValidation(folds=3, repeats=1)}, "leave one of them out"),
    ],
)
def test_impossible_requests_are_one_line(tmp_path, suite, options, match):
    with pytest.raises((ConfigError, RaddinoError), match=match) as refused:
        judge(toy_corpus(tmp_path / "corpus"), suite, tmp_path / "out", **options)
    assert "\n" not in str(refused.value)
