"""Pairs of one study or patient against strangers of like source and view."""

import numpy as np
import pytest

from analysis_context import X, context_of, invented, only_rows
from raddino.benchmark.analyses.consistency import consistency, find_pairs


def make(tmp_path, manifest):
    draw = np.random.default_rng(0)
    names, code = np.unique(manifest["patient"], return_inverse=True)
    own = draw.normal(size=(len(names), 8))[code]
    noise = draw.normal(size=(len(manifest), 8))
    zero = {"x": np.zeros(len(manifest))}
    outputs, features = {"knows": zero, "noise": zero}, {"knows": own + 0.1 * noise, "noise": noise}
    return context_of(manifest, outputs, [X], tmp_path, features=features)


def test_who_knows_the_patient_is_told_from_noise(tmp_path):
    rows = consistency(make(tmp_path, invented()))
    assert {row["pairs"] for row in rows} == {"same view, one patient", "different views, one patient"}
    for row in only_rows(rows, encoder="knows", metric="auroc_same"):
        assert row["value"] > 0.99
    for row in only_rows(rows, encoder="noise", metric="auroc_same"):
        assert row["low"] < 0.5 < row["high"]
    same, stranger = (only_rows(rows, encoder="knows", metric=f"cosine_{who}")[0] for who in ("same", "stranger"))
    assert same["low"] > 0.9 > 0.3 > stranger["high"]


def test_pairs_and_strangers(tmp_path):
    context = make(tmp_path, invented(images=3))
    manifest = context.corpus.manifest
    pairs = find_pairs(context)
    assert sum(len(one.first) for one in pairs) == 3 * (manifest["split"] == "test").sum() / 3
    for one in pairs:
        patient, view, source = (manifest[column].to_numpy() for column in ("patient", "view", "source"))
        assert (patient[one.first] == patient[one.second]).all()
        assert (one.first != one.second).all()
        assert (patient[one.strangers] != one.patients[:, None]).all()
        assert (view[one.strangers] == view[one.second][:, None]).all()
        assert (source[one.strangers] == source[one.second][:, None]).all()
        assert (manifest["split"].to_numpy()[one.strangers] == "test").all()


def test_studies_where_they_are_known(tmp_path):
    manifest = invented(images=4)
    manifest["study"] = manifest["patient"] + "/" + (np.arange(len(manifest)) % 4 // 2).astype(str)
    context = make(tmp_path, manifest)
    pairs = find_pairs(context)
    assert {one.kind.split(", ")[1] for one in pairs} == {"one study"}
    study = manifest["study"].to_numpy()
    for one in pairs:
        assert (study[one.first] == study[one.second]).all()


@pytest.mark.parametrize("change", ["single", "source"])
def test_no_pair_or_no_stranger(tmp_path, change):
    manifest = invented(images=1 if change == "single" else 2)
    if change == "source":
        manifest["source"] = manifest["patient"]
    (row,) = consistency(make(tmp_path, manifest))
    assert row["value"] is None
    assert "no test image has a second one" in row["reason"]
