"""Two result folders against each other: the same numbers as within one, and refusals with their reason."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from memory_corpus import toy_corpus
from raddino.benchmark.compare import compare
from raddino.benchmark.evaluate import evaluate
from raddino.encoders.floors import HOG, PixelPCA
from raddino.errors import RaddinoError
from raddino.files import write_json
from raddino.metrics.comparison import holm

SUITE = {
    "tasks": [
        {"name": "left", "target": "label_left", "kind": "binary"},
        {"name": "noise", "target": "label_noise", "kind": "binary"},
        {"name": "age", "target": "age", "kind": "regression"},
    ],
    "macro": {"mean": ["left", "noise"]},
    "probe": {"seeds": 2, "steps": 60, "learning_rates": [0.1], "weight_decays": [0.01]},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders ``both`` (pca the reference, hog), ``a`` (pca called x) and ``b`` (hog called x)."""
    place = tmp_path_factory.mktemp("compare")
    corpus = toy_corpus(place / "corpus")
    (place / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")

    def judge(out, encoders, names):
        evaluate(corpus, encoders, names=names, out=place / out, suite=place / "suite.yaml", resamples=200)

    judge("both", [PixelPCA(8, 6), HOG(24, 8)], ["x", "y"])
    judge("a", [PixelPCA(8, 6)], ["x"])
    judge("b", [HOG(24, 8)], ["x"])
    return place


def edited(place, tmp_path, change=None, predictions=None):
    """A copy of folder ``b`` whose metrics or predictions were changed."""
    data = json.loads((place / "b" / "metrics.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(place / "b" / "predictions.parquet")
    if change:
        change(data)
    table = predictions(table) if predictions else table
    (tmp_path / "b").mkdir()
    write_json(tmp_path / "b" / "metrics.json", data)
    table.to_parquet(tmp_path / "b" / "predictions.parquet")
    return tmp_path / "b"


def test_metrics_that_are_asked_for_are_the_same_as_among_all(place):
    everything = compare(place / "a", place / "b", resamples=50).data["rows"]
    asked = compare(place / "a", place / "b", metrics={"auroc", "mae"}, resamples=50).data["rows"]
    assert asked == [row for row in everything if row["metric"] in ("auroc", "mae")]
    assert {row["metric"] for row in asked} == {"auroc", "mae"}
    with pytest.raises(RaddinoError, match="no number that can be compared"):
        compare(place / "a", place / "b", metrics={"dice"})


def test_across_folders_as_within_one(place):
    data = compare(place / "a", place / "b", resamples=200, seed=0).data
    within = json.loads((place / "both" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    expected = {(row["task"], row["metric"]): row["difference"] for row in within if row["encoder"] == "y"}
    found = {(row["task"], row["metric"]): row["difference"] for row in data["rows"]}
    assert found.keys() == expected.keys()
    assert not data["refused"]
    for key, gap in found.items():
        for field in ("value", "low", "high", "p", "p_holm"):
            assert gap[field] == pytest.approx(expected[key][field], abs=1e-9), (key, field)
        assert gap["test"] == expected[key]["test"]
    assert (data["a"], data["b"]) == ("a", "b")
    assert all(row["signature_a"] != row["signature_b"] for row in data["rows"])


def test_a_folder_against_itself_differs_nowhere(place):
    data = compare(place / "a", place / "a").data
    assert all(row["difference"]["value"] == 0 and row["difference"]["p"] == 1 for row in data["rows"])
    assert "same weights" in data["notes"][0]


def test_swapping_sides_turns_the_signs(place):
    there, back = (compare(place / one, place / two, seed=4).data["rows"] for one, two in (("a", "b"), ("b", "a")))
    for one, two in zip(there, back, strict=True):
        assert one["difference"]["value"] == -two["difference"]["value"]
        assert one["difference"]["low"] == pytest.approx(-two["difference"]["high"])
        assert one["difference"]["p"] == pytest.approx(two["difference"]["p"], abs=0.01)


def test_holm_runs_over_what_was_compared(place):
    rows = compare(place / "both", place / "both", pairs={"x": "y", "y": "x"}).data["rows"]
    auroc = [row["difference"] for row in rows if row["metric"] == "auroc"]
    assert len(auroc) == 6
    np.testing.assert_allclose([one["p_holm"] for one in auroc], holm([one["p"] for one in auroc]))


def test_encoders_are_paired_by_name_or_as_told(place):
    assert {row["encoder"] for row in compare(place / "both", place / "b").data["rows"]} == {"x"}
    row = compare(place / "both", place / "b", pairs={"y": "x"}).data["rows"][0]
    assert (row["encoder"], row["other"], row["difference"]["value"]) == ("y", "x", 0)
    with pytest.raises(RaddinoError, match="B has no encoder 'z'; it has x"):
        compare(place / "both", place / "b", pairs={"y": "z"})


def test_lone_encoders_of_different_names_belong_together_and_several_do_not(place, tmp_path):
    def rename(data):
        for row in data["rows"]:
            row["encoder"] = "other"

    renamed = edited(place, tmp_path, rename, lambda table: table.assign(encoder="other"))
    assert compare(place / "a", renamed).data["rows"][0]["other"] == "other"
    with pytest.raises(RaddinoError, match="no encoder stands in both"):
        compare(place / "both", renamed)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("data_fingerprint", "f" * 64, "different data: data_fingerprint"),
        ("split", "val", "split is test in A and val in B"),
        ("n", 71, "n is 72 in A and 71 in B"),
    ],
)
def test_what_was_measured_otherwise_is_refused(place, tmp_path, field, value, words):
    def change(data):
        for row in data["rows"]:
            row[field] = value if field != "n" or row["task"] == "left" else row[field]

    folder = edited(place, tmp_path, change)
    if field != "n":
        with pytest.raises(RaddinoError, match=words):
            compare(place / "a", folder)
        return
    data = compare(place / "a", folder).data
    assert {gap["task"] for gap in data["refused"]} == {"left"}
    assert all(words in gap["reason"] for gap in data["refused"])
    assert {row["task"] for row in data["rows"]} == {"noise", "age", "mean"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.assign(id=t["id"].replace("image9", "image9000")), "different test images"),
        (lambda t: t.assign(target=t["target"].where(t["task"] == "age", 1 - t["target"])), "different labels"),
        (lambda t: t.assign(patient=t["patient"].replace("p4", "p5")), "different patients"),
        (lambda t: t.assign(score=t["score"] ** 2), "predictions beside it give"),
        (lambda t: pd.concat([t, t]), "different test images"),
    ],
)
def test_predictions_of_other_images_are_refused(place, tmp_path, spoil, words):
    folder = edited(place, tmp_path, predictions=spoil)
    try:
        refused = compare(place / "a", folder).data["refused"]
    except RaddinoError as error:
        refused = [{"reason": str(error)}]
    assert any(words in gap["reason"] for gap in refused)


def test_a_metric_of_another_variant_or_one_side_only_is_listed(place, tmp_path):
    def change(data):
        for row in data["rows"]:
            if row["task"] == "age" and row["metric"] == "mae":
                row["metric"] = "mae_months"

    refused = compare(place / "a", edited(place, tmp_path, change)).data["refused"]
    assert [(gap["metric"], gap["reason"]) for gap in refused] == [
        ("mae", "only A has this number"),
        ("mae_months", "only B has this number"),
    ]


def test_other_probe_settings_are_noted(place, tmp_path):
    def change(data):
        data["suite"]["probe"]["steps"] = 7
        data["seed"] = 1

    notes = compare(place / "a", edited(place, tmp_path, change)).data["notes"]
    assert "steps" in notes[0]
    assert "seeds" in notes[1]


@pytest.mark.parametrize("damage", ["[]", "null", '{"format": 1}', '{"format": 1, "rows": [{}]}', "{"])
def test_damaged_folders_are_refused(place, tmp_path, damage):
    (tmp_path / "metrics.json").write_text(damage, encoding="utf-8")
    (tmp_path / "predictions.parquet").write_bytes((place / "a/predictions.parquet").read_bytes())
    with pytest.raises(RaddinoError, match=r"damaged|format"):
        compare(place / "a", tmp_path)


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "nan"])
def test_damaged_predictions_are_refused(place, tmp_path, damage):
    (tmp_path / "metrics.json").write_bytes((place / "a/metrics.json").read_bytes())
    file = tmp_path / "predictions.parquet"
    table = pd.read_parquet(place / "a/predictions.parquet")
    if damage == "cut":
        file.write_bytes((place / "a/predictions.parquet").read_bytes()[:200])
    elif damage != "missing":
        table.assign(score="high" if damage == "text" else np.nan).to_parquet(file)
    with pytest.raises(RaddinoError, match=r"predictions.parquet (is missing|is damaged|has text)"):
        compare(place / "a", tmp_path)


def test_no_results_are_refused(place, tmp_path):
    with pytest.raises(RaddinoError, match="no results"):
        compare(place / "a", tmp_path)
    with pytest.raises(RaddinoError, match="at least 1"):
        compare(place / "a", place / "b", resamples=0)


def test_probes_of_other_images_are_noted(place, tmp_path):
    where = "split != 'train' or view == 'PA'"
    evaluate(
        toy_corpus(tmp_path / "corpus"), [HOG(24, 8)], names=["x"], out=tmp_path / "part",
        suite=place / "suite.yaml", where=where, resamples=50,
    )  # fmt: skip
    data = compare(place / "b", tmp_path / "part", resamples=50).data
    assert {row["task"] for row in data["rows"]} == {"left", "noise", "age", "mean"}
    assert [note for note in data["notes"] if "other images" in note] == [
        f"Trained or tested on other images (the whole corpus in A, where:{where} in B): differences may come from "
        "that."
    ]
    assert not any("other images" in note for note in compare(tmp_path / "part", tmp_path / "part").data["notes"])
