"""Five per cent of known labels are flipped: how many the analysis finds, and how many of its suspects are flips."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis_context import AGE, X, context_of, invented, only_rows
from raddino.benchmark.analyses.label_noise import LISTED, label_noise
from raddino.report.analyses import sections
from raddino.report.label_noise import label_noise_lines
from raddino.tasks.base import TaskConfig
from raddino.tasks.multiclass import task as _multiclass  # noqa: F401

FAST = {"seeds": 1, "steps": 150, "learning_rates": [0.1], "weight_decays": [0.01]}
VIEW = TaskConfig(name="view", target="view", kind="multiclass")


def planted(tmp_path, share=0.05, tasks=(X,), clear=2.2):
    """Features that tell the true label, which is flipped for a share of the patients' images; and useless ones."""
    manifest, draw = invented(500), np.random.default_rng(4)
    true = manifest["label_x"].to_numpy()
    flipped = draw.random(len(true)) < share
    manifest["label_x"] = np.where(flipped, 1 - true, true)
    manifest["view"] = np.where(manifest["label_x"] == 1, "AP", "PA")
    direction = draw.normal(size=8)
    direction /= np.linalg.norm(direction)
    features = clear * np.outer(2 * true - 1, direction) + draw.normal(size=(len(true), 8))
    outputs = {name: {one.name: features[:, 0] for one in tasks} for name in ("sees", "blind")}
    context = context_of(
        manifest, outputs, list(tasks), tmp_path,
        features={"sees": features, "blind": draw.normal(size=(len(true), 8))}, probe=FAST,
    )  # fmt: skip
    return context, set(manifest["id"][flipped])


def test_flipped_labels_are_found(tmp_path):
    context, flipped = planted(tmp_path)
    rows = label_noise(context)
    (share,) = only_rows(rows, encoder="sees", role="share", group=None)
    listed = {row["id"] for row in only_rows(rows, encoder="sees", role="suspect")}
    assert share["suspects"] == len(listed) <= LISTED
    assert len(listed & flipped) / len(flipped) > 0.75, "recall"
    assert len(listed & flipped) / len(listed) > 0.8, "precision"
    assert share["low"] < len(flipped) / 1000 < share["high"]
    assert share["fewest"] < len(flipped) < share["most"]
    (blind,) = only_rows(rows, encoder="blind", role="share", group=None)
    assert blind["suspects"] > 5 * share["suspects"], "a probe that sees nothing doubts at random"


def test_the_list_begins_with_the_surest_and_says_what_it_would_be(tmp_path):
    context, _ = planted(tmp_path)
    rows = label_noise(context)
    json.dumps(rows)
    manifest = context.corpus.manifest.set_index("id")
    own = only_rows(rows, encoder="sees", role="suspect")
    assert [row["value"] for row in own] == sorted((row["value"] for row in own), reverse=True)
    for row in own:
        assert float(row["given"]) == manifest["label_x"][row["id"]]
        assert float(row["suggested"]) == 1 - manifest["label_x"][row["id"]]
        assert (row["split"], row["source"]) == tuple(manifest.loc[row["id"], ["split", "source"]])
        assert 1 <= row["agree"] <= 2
    assert {row["split"] for row in own} == {"train", "val", "test"}
    blind = {row["id"]: row for row in only_rows(rows, encoder="blind", role="suspect")}
    both = [row for row in own if row["id"] in blind]
    assert both
    assert all(row["agree"] == 2 for row in both)


def test_shares_of_each_label_add_up(tmp_path):
    context, _ = planted(tmp_path)
    rows = only_rows(label_noise(context), encoder="sees", role="share")
    whole, *classes = sorted(rows, key=lambda row: row["group"] is not None)
    assert sum(row["suspects"] for row in classes) == whole["suspects"]
    assert sum(row["n"] for row in classes) == whole["n"] == 1000
    assert whole["value"] == pytest.approx(whole["suspects"] / 1000)
    assert "split:all" in whole["signature"]


def test_no_image_is_judged_by_a_probe_that_saw_its_patient(tmp_path):
    """Features that say who the patient is, and nothing else: out of fold they are worth nothing."""
    context, _ = planted(tmp_path, share=0.0)
    patient = pd.factorize(context.corpus.manifest["patient"])[0]
    label = context.corpus.manifest.groupby("patient")["label_x"].transform("first")
    context.corpus.manifest["label_x"] = label
    who = np.eye(500, dtype=np.float32)[patient]
    manifest = context.corpus.manifest
    told = context_of(manifest, {"sees": {"x": label}}, [X], tmp_path / "b", features={"sees": who}, probe=FAST)
    (row,) = only_rows(label_noise(told), role="share", group=None)
    assert row["value"] > 0.3


def test_classes_and_what_has_none(tmp_path):
    context, flipped = planted(tmp_path, tasks=(VIEW, AGE))
    rows = label_noise(context)
    assert {row["task"] for row in rows} == {"view"}
    suspects = only_rows(rows, encoder="sees", role="suspect")
    assert {row["given"] for row in suspects} == {"AP", "PA"}
    assert len({row["id"] for row in suspects} & flipped) / len(flipped) > 0.75


def test_labels_of_a_text_column_are_called_by_the_positive_value(tmp_path):
    view = VIEW.model_copy(update={"kind": "binary", "positive": "AP"})
    context, _ = planted(tmp_path, tasks=(view,))
    rows = only_rows(label_noise(context), encoder="sees")
    assert {row["group"] for row in rows if row["role"] == "share"} == {None, "AP", "not AP"}
    assert {row["given"] for row in rows if row["role"] == "suspect"} == {"AP", "not AP"}


def test_an_encoder_whose_probe_cannot_be_fitted_says_why(tmp_path):
    context, _ = planted(tmp_path)
    suite = context.suite.model_copy(
        update={"probe": context.suite.probe.model_copy(update={"features": "mean_patch"})}
    )
    rows = label_noise(replace(context, suite=suite))
    assert {row["value"] for row in rows} == {None}
    assert all("patch" in row["reason"] for row in rows)


def test_page_and_terminal_count_and_list(tmp_path):
    context, _ = planted(tmp_path)
    rows = label_noise(context)
    metrics = {"encoders": [{"name": "sees"}, {"name": "blind"}], "analyses": {"label_noise": rows}}
    (section,) = sections(metrics)
    shares, listed = section.tables
    (whole,) = only_rows(rows, encoder="sees", role="share", group=None)
    assert shares.lines[0][1][1][0] == f"{whole['suspects']} of 1000"
    assert len({name for name, _ in listed.lines}) == len(listed.lines) == 25
    *_, line = label_noise_lines(metrics)
    assert line.startswith(
        f"x: sees {whole['suspects']} of 1000 ({whole['fewest']:.0f} to {whole['most']:.0f}), blind "
    )
