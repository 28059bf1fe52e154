"""The same probes on damaged images: nothing refitted, nothing encoded twice, failures stay with their encoder."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from analysis_context import AGE, X, Y, context_of, invented, only_rows
from memory_corpus import MemoryCorpus
from raddino.benchmark.analyses.robustness import _parts, drawn_images, robustness
from raddino.benchmark.measure import Scores
from raddino.encoders.base import Features, Provenance
from raddino.features.extract import embed
from raddino.tasks.probes import fit_linear_probe

KINDS = ("noise", "contrast")


class Halves:
    """Mean and spread of the left half."""

    name, dim, grid, fingerprint, provenance = "halves", 2, None, "halves-print", Provenance()

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        left = batch[:, :, :8].flatten(1)
        return Features(torch.stack([left.mean(1), left.std(1)], 1), None)


class Breaks(Halves):
    """Sees damage, and fails."""

    name, fingerprint = "breaks", "breaks-print"

    def encode(self, batch):
        if (batch != batch.round(decimals=-1)).any():
            raise RuntimeError("/home/somebody/secret.png")
        return super().encode(batch)


@pytest.fixture
def context(tmp_path):
    manifest, draw = invented(120), np.random.default_rng(0)
    label = manifest["label_x"].to_numpy()
    left = np.where(label == 1, 130, 100)[:, None, None] + 10 * draw.integers(-3, 4, (len(manifest), 16, 16))
    images = list(left.astype(np.uint8) // 10 * 10)
    corpus, encoders = MemoryCorpus(images, manifest, tmp_path), {"halves": Halves(), "breaks": Breaks()}
    features = {name: embed(corpus, encoder).cls for name, encoder in encoders.items()}
    outputs = {name: {"x": np.zeros(len(manifest)), "age": np.zeros(len(manifest))} for name in encoders}
    made = context_of(
        manifest, outputs, [X, AGE], tmp_path, features=features, images=images, encoders=encoders,
    )  # fmt: skip
    for name in encoders:  # the probes of the main table
        for one in made.examples:
            x, y, at = features[name][one.rows], one.target[:, None], one.at
            loss = "logistic" if one.config.kind == "binary" else "squared"
            probe = fit_linear_probe(*((x[at[s]], y[at[s]]) for s in ("train", "val")), loss, made.suite.probe, 0)
            made.scores[name][one.config.name] = Scores(
                one, *(probe.predict(x[at[s]])[..., 0] for s in ("val", "test")), {}
            )
    return made


def test_clean_is_the_main_table_and_damage_is_paired_with_it(context):
    rows = robustness(context, images=1000, kinds=KINDS)
    scores = context.scores["halves"]["x"]
    expected = roc_auc_score(scores.examples.target[scores.examples.at["test"]], scores.test.mean(0))
    (clean,) = only_rows(rows, encoder="halves", task="x", severity=0)
    assert clean["value"] == pytest.approx(expected, abs=1e-6)
    assert (clean["drop"], clean["drop_low"], clean["drop_high"]) == (0, 0, 0)
    for row in only_rows(rows, encoder="halves", task="x", corruption="noise"):
        assert row["drop"] == pytest.approx(clean["value"] - row["value"])
        assert row["drop_low"] <= row["drop"] <= row["drop_high"]
    for row in only_rows(rows, encoder="halves", task="age", corruption="noise"):
        assert row["metric"] == "mae"
        clean_age = only_rows(rows, encoder="halves", task="age", severity=0)[0]["value"]
        assert row["drop"] == pytest.approx(row["value"] - clean_age)


def test_features_move_with_severity(context):
    rows = only_rows(robustness(context, images=40, kinds=KINDS), encoder="halves", task="features", corruption="noise")
    assert [row["severity"] for row in rows] == [1, 2, 3]
    assert rows[0]["value"] > rows[2]["value"]
    assert all(row["n"] <= 40 for row in rows)


def test_damaged_features_are_cached(context):
    robustness(context, images=30, kinds=("noise",))
    before = context.corpus.reads
    again = robustness(context, images=30, kinds=("noise",))
    assert only_rows(again, encoder="halves", severity=3)
    reads_of_the_failing_one = 3 * 30
    assert context.corpus.reads - before <= reads_of_the_failing_one


def test_a_failure_costs_its_own_rows_and_tells_no_path(context):
    rows = robustness(context, images=30, kinds=("noise",))
    (lost,) = [row for row in rows if row["encoder"] == "breaks"]
    assert lost["reason"] == "failed with RuntimeError"
    assert only_rows(rows, encoder="halves", severity=1)


def test_means_are_those_of_the_main_table(context):
    two = [X, Y.model_copy(update={"name": "y"})]
    outputs = {"halves": {"x": np.zeros(len(context.corpus)), "y": np.zeros(len(context.corpus))}}

    def means(macro, tasks, usable):
        made = context_of(context.corpus.manifest, outputs, tasks, context.corpus.path, macro=macro)
        parts = _parts(made, {one.config.name: one for one in made.examples if one.config.name in usable})
        return {part.name: part.tasks for part in parts if len(part.tasks) > 1}

    assert means({"all": ("x", "y", "rare")}, two, "xy") == {"all, 2 of 3 tasks": ["x", "y"]}
    assert means({"all": ("x", "y")}, two, "x") == {}
    assert means({}, two, "xy") == {"binary tasks (macro)": ["x", "y"]}
    three = [*two, X.model_copy(update={"name": "z"})]
    outputs["halves"]["z"] = outputs["halves"]["x"]
    assert means({"all": ("x", "y", "z")}, three, "xyz") == {"all": ["x", "y", "z"]}
    assert means({"all": ("x", "y", "z")}, three, "xz") == {"all, 2 of 3 tasks": ["x", "z"]}


@pytest.mark.parametrize("macro", [{}, {"all": ("x", "y")}])
def test_an_encoder_without_a_member_has_no_mean(context, macro):
    name = next(iter(macro), "binary tasks (macro)")
    tasks = [X, Y.model_copy(update={"name": "y"})]
    zeros = np.zeros(len(context.corpus))
    made = context_of(
        context.corpus.manifest, {one: {"x": zeros, "y": zeros} for one in ("halves", "lacks")}, tasks,
        context.corpus.path, macro=macro, features=dict.fromkeys(("halves", "lacks"), context.features["halves"].cls),
        images=context.corpus.images, encoders={"halves": Halves(), "lacks": Halves()},
    )  # fmt: skip
    del made.scores["lacks"]["y"]
    rows = robustness(made, images=1000, kinds=("noise",))
    assert {row["signature"].split("|")[1] for row in only_rows(rows, encoder="halves", task=name)} == {
        "mean of:x, y (2 of 2)"
    }
    (lost,) = only_rows(rows, encoder="lacks", task=name)
    assert (lost["value"], lost["reason"]) == (None, "no value for y")
    assert only_rows(rows, encoder="lacks", task="x", severity=0)[0]["value"] is not None


def test_an_encoder_has_one_bar(context, capsys, monkeypatch):
    monkeypatch.setattr("raddino.progress.LOG_EVERY_SECONDS", -1.0)
    robustness(context, images=30, kinds=("noise",))
    said = capsys.readouterr().err
    assert "robustness halves 3/3" in said
    assert "embed" not in said


def test_too_few_positives_among_the_drawn_images_are_said(context):
    rows = only_rows(robustness(context, images=8, kinds=("noise",)), task="x")
    assert [row["reason"] for row in rows] == ["fewer than 10 positives or negatives among the drawn test images"]


def test_whole_patients_are_drawn(context):
    manifest = context.corpus.manifest
    for images in (1, 9, 40, 10_000):
        rows = drawn_images(context, images)
        assert (manifest["split"].iloc[rows] == "test").all()
        chosen = manifest["patient"].isin(manifest["patient"].iloc[rows]).sum()
        assert len(rows) == chosen <= max(images, 2)
