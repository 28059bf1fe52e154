"""Tasks that judge every test image by itself, run by the whole evaluation on a corpus whose truth is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pydantic import PositiveInt

from memory_corpus import toy_corpus
from raddino.benchmark.cases import read_cases, slug
from raddino.benchmark.compare import compare
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.leaderboard import leaderboard
from raddino.config import Config
from raddino.encoders.base import Features, Provenance
from raddino.errors import RaddinoError
from raddino.report.html import report
from raddino.tasks.base import Absent, select_examples
from raddino.tasks.cases import CASE_TASKS, Cases


class Brightness:
    """The mean of the left half is the feature; the fingerprint follows ``scale``."""

    dim, grid = 1, None
    provenance = Provenance(sources=["toy"], supervision="self-supervised")

    def __init__(self, name, scale):
        self.name, self.scale, self.fingerprint = name, scale, f"{name}-1"

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        return Features(self.scale * batch[:, :, :12].mean((1, 2))[:, None], None)


class RegressAge:
    """Each test image's squared error of a constant, of the mirrored constant, and of 50 years."""

    class options(Config):
        shift: PositiveInt = 1
        table: str = ""

    def select(self, corpus, config):
        if config.target not in corpus.manifest:
            raise Absent(f"no column {config.target!r}")
        numbers = config.model_copy(update={"kind": "regression", "options": {}})
        return replace(select_examples(corpus, numbers), config=config)

    def needs(self, encoder, options):
        return "it is too dark" if encoder.scale == 0 else ""

    def run(self, job):
        if job.encoder.scale < 0:
            raise RuntimeError("/secret/place")
        job.folder.mkdir(parents=True, exist_ok=True)
        age = job.examples.target[job.examples.at["test"]]
        guesses = {"": 40 + job.encoder.scale, "shuffled": 90.0}
        chosen = {"options": job.options.model_dump(), "saw": type(job.encoder).__name__}
        yield from (Cases(self._records(age, guess), chosen, variant=name) for name, guess in guesses.items())
        yield Cases(self._records(age, 50.0), chosen, variant="constant", alone=True)

    def statistics(self, records):
        squared = records["squared"].to_numpy()

        def mse(weights):
            return np.mean(squared) if weights is None else (weights @ squared) / weights.sum(-1)

        return {"mse": mse, "dice": mse}

    @staticmethod
    def _records(age, guess):
        return pd.DataFrame({"squared": (age - guess) ** 2})


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setitem(CASE_TASKS._things, "segmentation", RegressAge())
    return toy_corpus(tmp_path / "corpus")


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    tasks = [
        {"name": "left", "target": "label_left", "kind": "binary"},
        {
            "name": "age (all)",
            "target": "age",
            "kind": "segmentation",
            "options": {"shift": 3, "table": "/home/someone/table.csv"},
        },
    ]
    path.write_text(yaml.safe_dump({"tasks": tasks, "probe": {"seeds": 1, "steps": 50}}), encoding="utf-8")
    return path


def judge(corpus, suite, out, *scales, **more):
    encoders = [Brightness(f"scale{scale}", scale) for scale in scales]
    return evaluate(corpus, encoders, suite=suite, out=out, resamples=200, **more)


def test_records_become_rows_with_intervals_and_differences_beside_the_probes(corpus, suite, tmp_path):
    results = judge(corpus, suite, tmp_path / "r", 1.0, 5.0)
    rows = results.rows().set_index(["task", "encoder", "metric"])
    age = corpus.manifest.loc[corpus.rows(split="test"), "age"].to_numpy()
    for name, guess in (("scale1.0", 41), ("scale5.0", 45), ("scale1.0 (shuffled)", 90), ("constant", 50)):
        row = rows.loc[("age (all)", name, "mse")]
        assert row["value"] == pytest.approx(np.mean((age - guess) ** 2))
        assert row["low"] < row["value"] < row["high"]
        assert row["patients"] == len(corpus.manifest.loc[corpus.rows(split="test"), "patient"].unique())
    gap = rows.loc[("age (all)", "scale5.0", "mse"), "difference"]
    assert gap["to"] == "scale1.0"
    assert gap["value"] == pytest.approx(np.mean((age - 45) ** 2) - np.mean((age - 41) ** 2))
    assert ("left", "scale1.0", "auroc") in rows.index
    assert set(results.predictions["task"]) == {"left"}
    known = {one["name"]: one for one in results.data["encoders"]}
    assert known["scale1.0 (shuffled)"]["provenance"] == known["scale1.0"]["provenance"]
    assert known["constant"]["dim"] is None


def test_subgroups_of_records_are_those_of_each_group_alone(corpus, suite, tmp_path, monkeypatch):
    monkeypatch.setattr("raddino.benchmark.analyses.subgroups.MIN_PATIENTS", 5)
    results = judge(corpus, suite, tmp_path / "r", 1.0, 5.0, analyses=["subgroups", "calibration"])
    rows = [row for row in results.data["analyses"]["subgroups"] if row["task"] == "age (all)"]
    groups = [row for row in rows if row["role"] == "group"]
    assert {row["encoder"] for row in groups} == {"scale1.0", "scale5.0"}
    table = corpus.manifest.iloc[corpus.rows(split="test")]
    for row in groups:
        if row["attribute"] in ("sex", "view"):
            age = table.loc[table[row["attribute"]] == row["group"], "age"]
            assert row["value"] == pytest.approx(np.mean((age - (41 if row["encoder"] == "scale1.0" else 45)) ** 2))
            assert row["n"] == len(age)
    main = {row["encoder_fingerprint"] for row in results.data["rows"] if row["task"] == "age (all)"}
    assert {row["encoder_fingerprint"] for row in groups} <= main
    assert {row["attribute"] for row in rows if row["role"] == "gap"} >= {"sex", "view"}
    (alone,) = [row for row in rows if row["attribute"] == "source"]
    assert alone["reason"] == "all test images of known source are of one group"
    assert report(tmp_path / "r").read_text(encoding="utf-8").count("age (all), sex") == 2


def test_analyses_of_probes_say_that_a_suite_has_none(corpus, suite, tmp_path):
    tasks = yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]
    suite.write_text(yaml.safe_dump({"tasks": tasks[1:]}), encoding="utf-8")
    names = ["calibration", "retrieval", "robustness", "consistency", "label_efficiency", "confounders"]
    results = judge(corpus, suite, tmp_path / "r", 1.0, analyses=names)
    told = {one["analysis"]: one["reason"] for one in results.data["absent"] if one.get("analysis")}
    assert told == dict.fromkeys(names, "it looks at probes, and no task of this suite is probed")
    assert results.data["analyses"] == {}


def test_models_lie_in_folders_of_their_own_and_records_can_be_read_back(corpus, suite, tmp_path):
    results = judge(corpus, suite, tmp_path / "r", 1.0)
    row = next(row for row in results.data["rows"] if row["metric"] == "mse")
    assert (tmp_path / "r" / row["detail"]["model"]).is_dir()
    assert row["detail"]["options"]["shift"] == 3
    records = read_cases(tmp_path / "r", "age (all)", "constant")
    assert list(records) == ["id", "patient", "squared"]
    assert read_cases(tmp_path / "r", "left", "scale1.0") is None


def test_flips_of_the_probe_are_not_for_what_is_trained(corpus, suite, tmp_path):
    values = yaml.safe_load(suite.read_text(encoding="utf-8"))
    suite.write_text(yaml.safe_dump(values | {"probe": values["probe"] | {"flips": True}}), encoding="utf-8")
    rows = judge(corpus, suite, tmp_path / "r", 1.0).rows().set_index(["task", "metric"])
    assert "+flips" in rows.loc[("left", "auroc"), "encoder_fingerprint"]
    assert rows.loc[("age (all)", "mse"), "detail"].iloc[0]["saw"] == "Brightness"


def test_only_case_tasks_need_no_probe(corpus, suite, tmp_path):
    suite.write_text(
        yaml.safe_dump({"tasks": [{"name": "age", "target": "age", "kind": "segmentation"}]}), encoding="utf-8"
    )
    results = judge(corpus, suite, tmp_path / "r", 1.0)
    assert set(results.rows()["task"]) == {"age"}
    assert results.predictions.empty
    assert set(results.rows()["encoder_fingerprint"].str.split("/").str[0]) == {"scale1.0-1", "constant"}
    assert results.open(tmp_path / "r").rows().equals(results.rows())


def test_an_encoder_that_cannot_serve_or_fails_loses_its_own_row_only(corpus, suite, tmp_path):
    results = judge(corpus, suite, tmp_path / "r", 1.0, 0.0, -1.0)
    reasons = {(one["task"], one["encoder"]): one["reason"] for one in results.data["absent"]}
    assert reasons["age (all)", "scale0.0"] == "it is too dark"
    assert "RuntimeError" in reasons["age (all)", "scale-1.0"]
    assert "/secret" not in json.dumps(results.data)
    assert {"scale0.0", "scale-1.0"} <= set(results.rows()["encoder"])


def test_options_are_checked_before_the_work_and_can_be_overridden(corpus, suite, tmp_path):
    results = judge(corpus, suite, tmp_path / "r", 1.0, options={"segmentation": {"shift": 7}})
    assert next(row for row in results.data["rows"] if row["metric"] == "mse")["detail"]["options"]["shift"] == 7
    with pytest.raises(RaddinoError, match=r"task 'age \(all\)': unknown config key 'shfit'\. Did you mean 'shift'"):
        judge(corpus, suite, tmp_path / "s", 1.0, options={"segmentation": {"shfit": 7}})
    with pytest.raises(RaddinoError, match="options of findings, but the suite has no task of this kind"):
        judge(corpus, suite, tmp_path / "s", 1.0, options={"findings": {}})
    with pytest.raises(RaddinoError, match="no task of kind 'binary' has options"):
        judge(corpus, suite, tmp_path / "s", 1.0, options={"binary": {}})
    suite.write_text(
        yaml.safe_dump({"tasks": [{"name": "a", "target": "age", "kind": "regression", "options": {"x": 1}}]}),
        encoding="utf-8",
    )
    with pytest.raises(RaddinoError, match="regression tasks take no options"):
        judge(corpus, suite, tmp_path / "s", 1.0)


def test_two_folders_are_compared_by_their_records(corpus, suite, tmp_path):
    judge(corpus, suite, tmp_path / "a", 1.0)
    judge(corpus, suite, tmp_path / "b", 5.0)
    found = compare(tmp_path / "a", tmp_path / "b", pairs={"scale1.0": "scale5.0"}, resamples=200)
    row = next(row for row in found.data["rows"] if row["metric"] == "mse")
    age = corpus.manifest.loc[corpus.rows(split="test"), "age"].to_numpy()
    assert row["difference"]["value"] == pytest.approx(np.mean((age - 45) ** 2) - np.mean((age - 41) ** 2))
    board = leaderboard([tmp_path / "a", tmp_path / "b"]).rows
    assert set(board[board["metric"] == "dice"]["board"]) == {board[board["metric"] == "dice"]["board"].iloc[0]}


def test_other_options_are_noted_where_both_sides_have_some(corpus, suite, tmp_path):
    judge(corpus, suite, tmp_path / "a", 1.0)
    judge(corpus, suite, tmp_path / "b", 1.0, options={"segmentation": {"shift": 7}})
    said = "age (all) was trained differently (shift): differences may come from that."
    assert said in compare(tmp_path / "a", tmp_path / "b", resamples=50).data["notes"]
    values = yaml.safe_load(suite.read_text(encoding="utf-8"))
    values["tasks"] = [one for one in values["tasks"] if one["kind"] == "binary"]
    suite.write_text(yaml.safe_dump({"tasks": values["tasks"]}), encoding="utf-8")
    judge(corpus, suite, tmp_path / "c", 1.0)
    notes = compare(tmp_path / "a", tmp_path / "c", resamples=50).data["notes"]
    assert not any("trained differently" in note for note in notes)


def test_records_of_other_images_are_refused(corpus, suite, tmp_path):
    judge(corpus, suite, tmp_path / "a", 1.0)
    judge(corpus, suite, tmp_path / "b", 1.0)
    file = tmp_path / "b" / "cases" / f"{slug('age (all)')}.parquet"
    table = pd.read_parquet(file)
    for side in "ab":
        pd.concat([table, table[:1]]).to_parquet(tmp_path / side / "cases" / file.name)
    reasons = {one["reason"] for one in compare(tmp_path / "a", tmp_path / "b", resamples=50).data["refused"]}
    assert "measured on different test images" in reasons
    table.to_parquet(tmp_path / "a" / "cases" / file.name)
    table.loc[0, "id"] = "other"
    table.to_parquet(file)
    reasons = {one["reason"] for one in compare(tmp_path / "a", tmp_path / "b", resamples=50).data["refused"]}
    assert "measured on different test images" in reasons
    table.drop(columns="patient").to_parquet(file)
    reasons = {one["reason"] for one in compare(tmp_path / "a", tmp_path / "b", resamples=50).data["refused"]}
    assert any("lacks the column 'patient': run evaluate again" in reason for reason in reasons)
    file.write_bytes(b"no parquet")
    reasons = {one["reason"] for one in compare(tmp_path / "a", tmp_path / "b", resamples=50).data["refused"]}
    assert any("is damaged (not a readable Parquet file): run evaluate again" in reason for reason in reasons)


def test_a_slug_is_a_folder_name_and_tells_names_apart():
    assert slug("lungs") == "lungs"
    assert slug("../../etc") != slug("./../etc")
    assert "/" not in slug("a/b")
    assert slug("...").strip(".")


def test_paths_in_options_stay_here(corpus, suite, tmp_path):
    said = judge(corpus, suite, tmp_path / "r", 1.0).data["suite"]["tasks"][1]["options"]
    assert said == {"shift": 3, "table": "…/table.csv"}
