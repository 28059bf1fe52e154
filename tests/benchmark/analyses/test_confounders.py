"""Planted confounding is found and taken out; pairs are counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis_context import X, context_of, invented, only_rows
from raddino.benchmark.analyses.confounders import confounders


def planted(tmp_path, **change):
    """The label follows the view; "shortcut" sees the view alone, "honest" the label alone."""
    manifest, draw = invented(), np.random.default_rng(0)
    portable = (manifest["view"] == "AP").to_numpy()
    label = (draw.random(len(manifest)) < np.where(portable, 0.8, 0.2)).astype(float)
    manifest["label_x"] = label
    for column, value in change.items():
        manifest[column] = value
    noise = draw.normal(0, 0.3, len(manifest))
    outputs = {"shortcut": {"x": portable + noise}, "honest": {"x": label + 3 * noise}}
    features = {"shortcut": np.stack([portable, noise], 1), "honest": np.stack([label, noise], 1)}
    return context_of(manifest, outputs, [X], tmp_path, features=features)


def test_shortcut_falls_to_chance_and_honest_stays(tmp_path):
    rows = only_rows(confounders(planted(tmp_path)), confounder="view")
    shortcut, honest = (
        {row["role"]: row for row in only_rows(rows, encoder=name, group=None)} for name in ("shortcut", "honest")
    )
    assert shortcut["crude"]["value"] > 0.7
    assert shortcut["stratified"]["low"] < 0.5 < shortcut["stratified"]["high"]
    assert shortcut["stratified"]["drop_low"] > 0.1
    assert honest["stratified"]["value"] > 0.75
    assert shortcut["readable"]["value"] > 0.99
    assert honest["readable"]["value"] < shortcut["crude"]["value"] + 0.2


def test_confounder_alone_is_the_auroc_of_its_groups(tmp_path):
    context = planted(tmp_path)
    (row,) = only_rows(confounders(context), confounder="view", role="alone")
    manifest = context.corpus.manifest[context.corpus.manifest["split"] == "test"]
    assert row["value"] == pytest.approx(roc_auc_score(manifest["label_x"], manifest["view"] == "AP"))
    assert row["encoder"] is None
    assert "enc:none" in row["signature"]


def test_a_constant_confounder_is_said_to_be(tmp_path):
    rows = confounders(planted(tmp_path, view="PA"))
    (row,) = only_rows(rows, confounder="view")
    assert (row["role"], row["value"]) == ("constant", None)
    assert row["reason"] == "all images have view PA"
    assert only_rows(rows, confounder="source", role="stratified")


def test_a_confounder_that_is_the_label_leaves_nothing(tmp_path):
    context = planted(tmp_path)
    manifest = context.corpus.manifest
    manifest["view"] = np.where(manifest["label_x"] == 1, "AP", "PA")
    rows = only_rows(confounders(context), confounder="view", role="stratified")
    assert {row["reason"] for row in rows} == {"no view has positives and negatives"}


def test_small_strata_are_suppressed(tmp_path):
    context = planted(tmp_path)
    manifest = context.corpus.manifest
    manifest.loc[manifest.index[manifest["split"] == "test"][:10], "source"] = "rare"
    rows = only_rows(confounders(context), confounder="source", role="stratum", group="rare")
    assert {row["reason"] for row in rows} == {"fewer than 20 patients"}
    readable = only_rows(confounders(context), confounder="source", role="readable", encoder="honest")
    assert {row["group"] for row in readable} == {None, "a", "b"}


def test_too_little_to_probe_the_confounder(tmp_path):
    context = planted(tmp_path)
    manifest = context.corpus.manifest
    manifest["view"] = np.where(manifest.index < 5, "AP", "PA")
    (row,) = only_rows(confounders(context), confounder="view", role="readable")
    assert "no group with 10 test images" in row["reason"]


def test_how_an_image_was_taken_is_a_confounder_of_its_own_accord(tmp_path):
    """A label that follows the machine: the shortcut reads the machine and falls, in every way in which it is told."""
    context = planted(tmp_path)
    manifest, draw = context.corpus.manifest, np.random.default_rng(5)
    portable = (manifest["view"] == "AP").to_numpy()
    manifest["manufacturer"] = np.where(portable, "GE", "Philips")
    manifest["kvp"] = np.where(portable, draw.integers(70, 90, len(manifest)), draw.integers(110, 150, len(manifest)))
    manifest["portable"] = portable.astype(float)
    manifest["year_band"] = draw.choice(["2010-2014", "2015-2019"], len(manifest))
    manifest["patient_position"] = None
    rows = confounders(context)
    for name in ("manufacturer", "kvp band", "portable"):
        (row,) = only_rows(rows, confounder=name, role="stratified", encoder="shortcut")
        assert row["low"] < 0.5 < row["high"]
        assert row["drop_low"] > 0.1
        readable = only_rows(rows, confounder=name, role="readable", encoder="shortcut", group=None)
        assert [one["value"] > 0.99 for one in readable] == [True]
    (year,) = only_rows(rows, confounder="year band", role="stratified", encoder="shortcut")
    assert year["value"] > 0.7
    assert not only_rows(rows, confounder="patient position"), "nothing is known of it"


def test_one_machine_is_no_confounder(tmp_path):
    context = planted(tmp_path)
    context.corpus.manifest["manufacturer"] = "GE"
    (row,) = only_rows(confounders(context), confounder="manufacturer")
    assert (row["role"], row["reason"]) == ("constant", "all images have manufacturer GE")
