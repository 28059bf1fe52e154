"""Every kind of probe through the whole evaluation."""

import numpy as np
import pytest
import torch
import yaml

from memory_corpus import toy_corpus
from raddino.benchmark.evaluate import evaluate
from raddino.encoders.base import Features, Provenance
from raddino.encoders.floors import Pixels
from raddino.errors import ConfigError
from raddino.report.terminal import text_table


class Halves:
    """Means of both halves and two pixels; its sentences know the left half."""

    name, dim, grid, fingerprint, logit_scale = "halves", 4, None, "halves-1", 1.0
    provenance = Provenance()

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        left, right = batch.chunk(2, dim=2)
        return Features(torch.stack([left.mean((1, 2)), right.mean((1, 2)), batch[:, 0, 0], batch[:, 5, 5]], 1), None)

    def project(self, cls):
        return torch.nn.functional.normalize(cls - torch.tensor([107.0, 112, 100, 100]), dim=1)

    def encode_text(self, prompts):
        return torch.tensor([[-1.0 if one.startswith("no ") else 1.0, 0, 0, 0] for one in prompts])


@pytest.fixture
def corpus(tmp_path):
    corpus = toy_corpus(tmp_path / "corpus")
    corpus.manifest["decade"] = np.where(corpus.manifest["age"] > 50, "old", "young")
    return corpus


@pytest.fixture
def suite(tmp_path):
    tasks = [
        {"name": "left", "target": "label_left", "kind": "binary"},
        {"name": "noise", "target": "label_noise", "kind": "binary"},
        {"name": "age", "target": "age", "kind": "regression"},
        {"name": "decade", "target": "decade", "kind": "multiclass"},
    ]
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"tasks": tasks, "probe": {"kind": "knn"}}), encoding="utf-8")
    return path


def value(results, task, metric):
    rows = results.rows()
    return rows[(rows["task"] == task) & (rows["metric"] == metric)].iloc[0]


@pytest.mark.parametrize(
    "probe", [None, "logistic", {"kind": "linear", "seeds": 2, "steps": 200, "criterion": "auroc"}]
)
def test_trained_probes_find_what_is_there(corpus, suite, tmp_path, probe):
    results = evaluate(corpus, [Halves()], suite=suite, probe=probe, out=tmp_path / "r", resamples=50)
    left = value(results, "left", "auroc")
    assert left["value"] > 0.85
    assert value(results, "decade", "accuracy")["value"] > 0.6
    assert value(results, "age", "r2")["value"] > 0.05
    kind = "knn" if probe is None else probe if isinstance(probe, str) else probe["kind"]
    assert left["detail"]["probe"] == kind == results.data["suite"]["probe"]["kind"]
    keys = {"knn": {"k", "temperature"}, "logistic": {"c"}, "linear": {"learning_rate", "weight_decay"}}
    assert keys[kind] <= set(left["detail"])


def test_zero_shot_names_what_it_cannot_be_asked(corpus, suite, tmp_path):
    results = evaluate(corpus, [Halves()], suite=suite, probe="zero_shot", out=tmp_path / "r", resamples=50)
    assert value(results, "left", "auroc")["value"] > 0.85
    absent = {one["task"]: one["reason"] for one in results.data["absent"]}
    assert "age is a number" in absent["age"]


def test_zero_shot_says_once_of_an_encoder_that_it_has_no_text(corpus, suite, tmp_path):
    plain = Pixels()
    results = evaluate(corpus, [plain, Halves()], suite=suite, probe="zero_shot", out=tmp_path / "r", resamples=50)
    mine = [one for one in results.data["absent"] if one["encoder"] == "pixels"]
    assert mine == [{"task": None, "encoder": "pixels", "reason": mine[0]["reason"]}]
    assert "no text encoder" in mine[0]["reason"]
    assert len(list((corpus.path / "features").iterdir())) == 1
    assert f"pixels: {mine[0]['reason']}" in text_table(results.data)


class Blocks(Halves):
    """Patches: 4 x 4 block means beside a constant; the constant CLS knows nothing."""

    name, dim, grid, fingerprint = "blocks", 2, (4, 4), "blocks-1"

    def encode(self, batch):
        means = torch.nn.functional.avg_pool2d(batch[:, None], 6)[:, 0]
        position = torch.linspace(-1, 1, 4).expand_as(means)
        return Features(torch.ones(len(batch), 2), torch.stack([means, 40 * position], 3))


def test_attentive_reads_the_patches(corpus, suite, tmp_path):
    probe = {"kind": "attentive", "seeds": 1, "steps": 200}
    results = evaluate(corpus, [Blocks(), Halves()], suite=suite, probe=probe, out=tmp_path / "r", resamples=50)
    assert value(results, "left", "auroc")["value"] > 0.75
    lost = [one for one in results.data["absent"] if one["encoder"] == "halves"]
    assert [one["reason"] for one in lost] == ["halves has no patch features: use another probe"]


def test_grid_reads_patches_where_they_are_and_floors_as_they_are(corpus, suite, tmp_path):
    encoders = [Blocks(), Pixels(8), Halves()]
    results = evaluate(corpus, encoders, suite=suite, probe={"features": "grid"}, out=tmp_path / "r", resamples=50)
    laid = value(results, "left", "auroc")
    assert laid["encoder_fingerprint"] == "blocks-1+grid4"
    assert laid["detail"]["features"] == "grid"
    assert laid["value"] > 0.75
    rows = results.rows()
    assert set(rows["encoder"]) == {"blocks", "pixels"}
    assert rows.loc[rows["encoder"] == "pixels", "encoder_fingerprint"].iloc[0] == Pixels(8).fingerprint
    assert [one["reason"] for one in results.data["absent"] if one["encoder"] == "halves"] == [
        "halves has no patch features: let the probe read features: cls"
    ]


def test_flips_have_features_of_their_own(corpus, suite, tmp_path):
    results = evaluate(corpus, [Halves()], suite=suite, probe={"kind": "knn", "flips": True}, out=tmp_path / "r",
                       resamples=50)  # fmt: skip
    left = value(results, "left", "auroc")
    assert left["encoder_fingerprint"] == "halves-1+flips"
    assert left["detail"]["flips"]
    assert left["value"] < 0.75


def test_a_probe_that_does_not_exist(corpus, suite, tmp_path):
    with pytest.raises(Exception, match="Did you mean 'knn'"):
        evaluate(corpus, [Halves()], suite=suite, probe="knnn", out=tmp_path / "r")
    with pytest.raises(ConfigError, match="neighbours"):
        evaluate(corpus, [Halves()], suite=suite, probe={"kind": "knn", "neighbours": []}, out=tmp_path / "r")
