"""Retrieval rows against loops over queries, and where they have no value."""

import numpy as np
import pytest

from analysis_context import X, Y, context_of, invented, only_rows
from raddino.benchmark.analyses.retrieval import retrieval


@pytest.fixture
def context(tmp_path):
    manifest = invented()
    manifest.loc[::7, "label_x"] = np.nan
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(len(manifest), 4))
    signal = np.concatenate([noise, 6 * manifest[["label_y"]].to_numpy() - 3], axis=1)
    zero = np.zeros(len(manifest))
    outputs = {name: {"x": zero, "y": zero} for name in ("signal", "noise")}
    features = {"signal": signal, "noise": noise}
    return context_of(manifest, outputs, [X, Y], tmp_path, features=features, macro={"mean": ("x", "y")})


def loop(context, encoder, task, k, splits):
    """Mean precision and average precision at k, query by query."""
    manifest = context.corpus.manifest
    known = manifest[manifest[f"label_{task}"].notna()]
    gallery, cls = known[known["split"].isin(splits)], context.features[encoder].cls.astype(float)
    precision, average = [], []
    for row in known[(known["split"] == "test") & (known[f"label_{task}"] == 1)].itertuples():
        others = gallery[gallery["patient"] != row.patient]
        x = cls[others.index]
        cosine = x @ cls[row.Index] / np.linalg.norm(x, axis=1)
        hits = others[f"label_{task}"].to_numpy()[np.argsort(-cosine)][:k]
        precision.append(hits.mean())
        ranks = np.flatnonzero(hits) + 1
        average.append(sum((i + 1) / rank for i, rank in enumerate(ranks)) / min(k, others[f"label_{task}"].sum()))
    return np.mean(precision), np.mean(average), len(precision)


@pytest.mark.parametrize(("gallery", "splits"), [("train+val", ["train", "val"]), ("test", ["test"])])
def test_rows_are_those_of_a_loop(context, gallery, splits):
    rows = retrieval(context, ks=(1, 5), galleries=(gallery,), engine="exact")
    for encoder in ("signal", "noise"):
        for task in ("x", "y"):
            precision, average, queries = loop(context, encoder, task, 5, splits)
            found = {row["metric"]: row for row in only_rows(rows, encoder=encoder, task=task, k=5)}
            assert found["precision@5"]["value"] == pytest.approx(precision)
            assert found["map@5"]["value"] == pytest.approx(average)
            assert found["precision@5"]["n"] == queries
            assert found["precision@5"]["low"] <= precision <= found["precision@5"]["high"]
            assert gallery in found["precision@5"]["signature"]


def test_signal_is_retrieved_and_noise_is_chance(context):
    rows = retrieval(context)
    signal, noise = (only_rows(rows, encoder=name, task="y", metric="precision@10")[0] for name in ("signal", "noise"))
    assert signal["value"] > 0.95
    assert noise["low"] < noise["chance"] < noise["high"]
    mean = only_rows(rows, encoder="noise", task="mean", metric="precision@10")[0]
    parts = [only_rows(rows, encoder="noise", task=task, metric="precision@10")[0]["value"] for task in ("x", "y")]
    assert mean["value"] == pytest.approx(np.mean(parts))


def test_a_list_longer_than_the_gallery_misses_the_rest(context):
    stored = context.examples[1]
    size = len(stored.at["train"]) + len(stored.at["val"])
    (row,) = only_rows(retrieval(context, ks=(2 * size,)), encoder="noise", task="y", metric=f"precision@{2 * size}")
    assert row["value"] == pytest.approx(row["chance"] / 2)


def test_a_gallery_without_the_finding(context):
    context.corpus.manifest.loc[context.corpus.manifest["split"] != "test", "label_y"] = 0.0
    one = context.examples[1]
    one.target[one.split != "test"] = 0
    rows = only_rows(retrieval(context, ks=(5,)), encoder="noise", task="y")
    assert {row["metric"]: row["value"] for row in rows} == {"precision@5": 0.0, "map@5": None}
    assert "no gallery image" in only_rows(rows, metric="map@5")[0]["reason"]


def test_no_query(context):
    one = context.examples[1]
    one.target[one.split == "test"] = 0
    rows = only_rows(retrieval(context), task="y")
    assert [row["reason"] for row in rows] == ["no test image has the finding"]
