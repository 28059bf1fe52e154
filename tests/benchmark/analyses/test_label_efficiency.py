"""More labels, better probes; all labels give the probes of the main table."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from analysis_context import AGE, X, Y, context_of, invented, only_rows
from raddino.benchmark.analyses.label_efficiency import label_efficiency
from raddino.tasks.probes import fit_linear_probe


@pytest.fixture
def context(tmp_path):
    manifest, draw = invented(), np.random.default_rng(0)
    x = draw.normal(size=(len(manifest), 12))
    x[:, 0] += 1.5 * manifest["label_x"]
    x[:, 1] += manifest["age"] / 20
    zero = {"x": np.zeros(len(manifest)), "y": np.zeros(len(manifest)), "age": np.zeros(len(manifest))}
    outputs, features = {"one": zero}, {"one": x}
    return context_of(manifest, outputs, [X, Y, AGE], tmp_path, features=features, seeds=3, macro={"mean": ("x", "y")})


def test_all_labels_are_the_main_table_seed_by_seed(context):
    rows = label_efficiency(context, fractions=(1.0,))
    one, cls = context.examples[0], context.features["one"].cls
    x, y = cls[one.rows], one.target[:, None]
    train, val, test = (one.at[split] for split in ("train", "val", "test"))
    probe = fit_linear_probe((x[train], y[train]), (x[val], y[val]), "logistic", context.suite.probe, 0)
    values = [roc_auc_score(y[test, 0], output[:, 0]) for output in probe.predict(x[test])]
    (row,) = only_rows(rows, task="x", metric="auroc")
    assert row["value"] == pytest.approx(np.mean(values), abs=1e-4)
    assert row["seed_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-4)
    assert row["seeds"] == 3
    assert row["train_images"] == len(train)
    assert row["train_patients"] == len(set(one.patients[train]))


def test_signal_grows_with_labels(context):
    rows = label_efficiency(context, fractions=(0.05, 1.0))
    few, all_ = (only_rows(rows, task="x", metric="auroc", fraction=share)[0] for share in (0.05, 1.0))
    assert few["value"] < all_["value"] - 0.03
    assert few["train_patients"] < 0.15 * all_["train_patients"]
    assert all_["low"] < all_["value"] < all_["high"]
    few, all_ = (only_rows(rows, task="age", metric="mae", fraction=share)[0] for share in (0.05, 1.0))
    assert few["value"] > all_["value"]
    mean = only_rows(rows, task="mean", metric="auroc", fraction=1.0)[0]
    parts = [only_rows(rows, task=task, metric="auroc", fraction=1.0)[0]["value"] for task in ("x", "y")]
    assert mean["value"] == pytest.approx(np.mean(parts))
    assert "5 % of patients" in only_rows(rows, fraction=0.05)[0]["signature"]


def test_a_draw_without_positives_is_left_out_and_counted(tmp_path):
    manifest = invented()
    train = manifest["split"] == "train"
    manifest.loc[train, "label_x"] = 0.0
    manifest.loc[manifest.index[train][:2], "label_x"] = 1.0
    zero = np.zeros(len(manifest))
    features = {"one": np.random.default_rng(0).normal(size=(len(manifest), 3))}
    rows = label_efficiency(context_of(manifest, {"one": {"x": zero}}, [X], tmp_path, features=features, seeds=3),
                            fractions=(0.01, 0.25, 1.0))  # fmt: skip
    seeds = {row["fraction"]: row["seeds"] for row in rows}
    assert seeds[1.0] == 3
    assert seeds[0.01] == 0
    (row,) = only_rows(rows, fraction=0.01)
    assert row["value"] is None
    assert "two values" in row["reason"]


def test_an_encoder_without_patches_gives_a_reason(tmp_path):
    manifest = invented()
    zero = np.zeros(len(manifest))
    context = context_of(manifest, {"one": {"x": zero}}, [X], tmp_path, probe={"features": "mean_patch"})
    (row,) = label_efficiency(context)
    assert "no patch tokens" in row["reason"]
