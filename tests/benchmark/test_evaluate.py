"""The whole evaluation on a corpus whose truth is known: numbers, refusals, failures, repeatability."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import average_precision_score, mean_absolute_error, roc_auc_score

from memory_corpus import toy_corpus
from raddino import cli
from raddino.benchmark.compare import compare
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.leaderboard import leaderboard
from raddino.benchmark.results import Results
from raddino.benchmark.suite import CrossValidation
from raddino.encoders.base import Features, Provenance
from raddino.encoders.floors import HOG, PixelPCA
from raddino.errors import RaddinoError
from raddino.files import lock
from raddino.report.html import report
from raddino.report.latex import latex_table
from raddino.report.page import leaderboard_sheets
from raddino.report.terminal import text_table

METRICS = {"auroc": roc_auc_score, "auprc": average_precision_score, "mae": mean_absolute_error}
PROBE = {"seeds": 2, "steps": 200}


class Halves:
    """Means of the left and right half: everything the toy labels depend on, plus noise features."""

    name, dim, grid, fingerprint = "halves", 4, None, "halves-1"
    provenance = Provenance(sources=["toy"], supervision="self-supervised")

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        left, right = batch.chunk(2, dim=2)
        return Features(torch.stack([left.mean((1, 2)), right.mean((1, 2)), batch[:, 0, 0], batch[:, 5, 5]], 1), None)


class Broken(Halves):
    name, fingerprint = "broken", "broken-1"

    def encode(self, batch):
        raise RuntimeError("/secret/path/of/patient.png")


MEAN = "mean, 2 of 3 tasks"


class Noise(Halves):
    name, fingerprint, provenance = "noise", "noise-1", Provenance(sources=None)

    def encode(self, batch):
        return Features(batch[:, 3, 2:6].clone(), None)


@pytest.fixture
def corpus(tmp_path):
    return toy_corpus(tmp_path / "corpus")


@pytest.fixture
def suite(tmp_path):
    tasks = [
        {"name": "left", "target": "label_left", "kind": "binary"},
        {"name": "noise", "target": "label_noise", "kind": "binary"},
        {"name": "none", "target": "label_none", "kind": "binary"},
        {"name": "sex", "target": "sex", "kind": "binary", "positive": "M"},
        {"name": "age", "target": "age", "kind": "regression", "where": "view == 'AP'"},
    ]
    path = tmp_path / "toy.yaml"
    path.write_text(
        yaml.safe_dump({"tasks": tasks, "macro": {"mean": ["left", "noise", "none"]}, "probe": PROBE}), encoding="utf-8"
    )
    return path


@pytest.fixture
def results(corpus, suite, tmp_path):
    return evaluate(corpus, [Noise(), Halves(), Broken()], suite=suite, out=tmp_path / "results", resamples=200)


def row(results, task, encoder, metric):
    rows = results.rows()
    return rows[(rows["task"] == task) & (rows["encoder"] == encoder) & (rows["metric"] == metric)].iloc[0]


def test_numbers_are_those_of_the_predictions(results):
    predictions = results.predictions
    for (task, encoder), table in predictions[predictions["split"] == "test"].groupby(["task", "encoder"]):
        for metric in ("mae",) if task == "age" else ("auroc", "auprc"):
            one = row(results, task, encoder, metric)
            assert one["value"] == pytest.approx(METRICS[metric](table["target"], table["score"]))
            assert one["low"] <= one["median"] <= one["high"]
            assert one["n"] == len(table)
            assert one["patients"] == table["patient"].nunique()


def test_what_is_in_the_features_is_found_and_what_is_not_is_not(results):
    assert row(results, "left", "halves", "auroc")["value"] > 0.9
    assert row(results, "sex", "halves", "auroc")["low"] > 0.8
    assert row(results, "age", "halves", "mae")["value"] < row(results, "age", "noise", "mae")["value"] * 0.7
    assert row(results, "noise", "halves", "auroc")["low"] < 0.5 < row(results, "noise", "halves", "auroc")["high"]


def test_every_number_has_its_signature(results, corpus):
    for one in results.data["rows"]:
        assert one["split"] == "test"
        assert one["data_fingerprint"] == corpus.fingerprint
        assert one["encoder_fingerprint"] in {"halves-1", "noise-1"}
        known = {"mae": "log", "r2": "log(1 - x)", "brier": "log", "ece": "square"}
        scale = known.get(one["metric"].removesuffix("_temperature"), "logit")
        scale += ", moved back" if one.get("members") and one["metric"].startswith("auprc") else ""
        rule = "normal, scale logit of a share" if "sensitivity" in one["metric"] else f"t, scale {scale}"
        assert one["interval"] == f"patient bootstrap, {rule}"
        assert (one["resamples"], one["seed"]) == (200, 0)
        assert one["signature"].startswith(one["metric"])
        assert one["n"] > 0
        assert (one["positives"] is None) == (one["task"] == "age")


def test_differences_are_to_the_first_encoder_and_paired(results):
    assert row(results, "left", "noise", "auroc")["difference"] is None
    difference = row(results, "left", "halves", "auroc")["difference"]
    gap = row(results, "left", "halves", "auroc")["value"] - row(results, "left", "noise", "auroc")["value"]
    assert difference["to"] == "noise"
    assert difference["value"] == pytest.approx(gap)
    assert difference["low"] <= gap <= difference["high"]
    assert "DeLong" in difference["test"]
    assert difference["p"] < 0.01
    assert difference["p"] <= difference["p_holm"] <= 1
    assert row(results, "noise", "halves", "auroc")["difference"]["p"] > 0.01
    assert "randomisation" in row(results, "left", "halves", "auprc")["difference"]["test"]


def test_an_absent_finding_is_named_and_not_averaged_as_zero(results):
    reasons = {(one["task"], one["encoder"]): one["reason"] for one in results.data["absent"]}
    assert "all 120 values are 0" in reasons["none", None]
    assert "none" not in set(results.rows()["task"])
    for metric in ("auroc", "auprc"):
        parts = [row(results, task, "halves", metric)["value"] for task in ("left", "noise")]
        macro = row(results, MEAN, "halves", metric)
        assert macro["value"] == pytest.approx(np.mean(parts))
        assert macro["detail"]["tasks"] == ["left", "noise"]
        assert macro["low"] <= macro["value"] <= macro["high"]
        assert macro["signature"].startswith(f"{metric}|mean of:left, noise (2 of 3)|")


def test_every_output_says_that_a_mean_lacks_a_member(results, tmp_path):
    assert {one["task"] for one in results.data["rows"]} == {"left", "noise", "sex", "age", MEAN}
    board = pd.read_csv(results.path / "leaderboard.csv")
    assert set(board.loc[board["task"] == MEAN, "members"]) == {"2 of 3: left, noise"}
    assert "mean" not in set(board["task"])
    assert f"\n{MEAN}  test n=80 excluded=0 " in text_table(results.data)
    latex = latex_table(results.data)
    head = latex[: latex.index(r"\midrule")].replace(r"\\", " ")
    assert MEAN in head
    assert f"{MEAN} averages left, noise." in latex
    page = report(results.path).read_text(encoding="utf-8")
    assert page.count(f'<th scope="col" class="aggregate">{MEAN}</th>') == 2
    assert page.count(f"<h3>{MEAN}</h3>") == 1
    assert ">mean<" not in page
    assert "2 of 3: left, noise" in page
    boards = {sheet.title.partition(":")[0] for sheet in leaderboard_sheets(leaderboard([results.path]))}
    assert MEAN in boards
    assert "mean" not in boards
    compared = compare(results.path, results.path, pairs={"noise": "halves"}).data["rows"]
    assert {one["task"] for one in compared} >= {MEAN}


def test_a_mean_of_fewer_is_not_compared_with_one_of_all(results, corpus, suite, tmp_path):
    corpus.manifest["label_none"] = corpus.manifest["label_noise"]
    whole = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "whole", resamples=20)
    assert "mean" in set(whole.rows()["task"])
    refused = compare(results.path, whole.path, pairs={"halves": "halves"}).data["refused"]
    reasons = {one["task"]: one["reason"] for one in refused}
    assert reasons[MEAN] == "only A has this number; B has mean, of other members"
    assert reasons["mean"] == f"only B has this number; A has {MEAN}, of other members"
    board = leaderboard([results.path, whole.path]).rows
    assert not set(board.loc[board["task"] == MEAN, "board"]) & set(board.loc[board["task"] == "mean", "board"])


def test_a_mean_of_one_task_is_none_and_says_so(corpus, suite, tmp_path):
    corpus.manifest["label_noise"] = 0.0
    results = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "one", resamples=20)
    assert not [one for one in results.data["rows"] if one["task"].startswith("mean")]
    (reason,) = [one["reason"] for one in results.data["absent"] if one["task"] == "mean"]
    assert reason == "fewer than two of its 3 tasks can be measured"
    assert f"mean  {reason}" in text_table(results.data)


def test_excluded_test_images_stand_beside_n(results, corpus):
    test = corpus.manifest["split"] == "test"
    missing = int(corpus.manifest.loc[test, "label_left"].isna().sum())
    assert missing > 0
    excluded = {one["task"]: (one["n"], one["excluded"]) for one in results.data["rows"]}
    assert excluded["left"] == (test.sum() - missing, missing)
    assert excluded["noise"] == excluded[MEAN] == (test.sum(), 0)
    assert excluded["age"] == ((test & (corpus.manifest["view"] == "AP")).sum(), 0)
    assert f"left  test n={test.sum() - missing} excluded={missing} " in text_table(results.data)
    assert f"n = {test.sum() - missing} test images ({missing} excluded)" in report(results.path).read_text(
        encoding="utf-8"
    )
    (line,) = [line for line in latex_table(results.data).splitlines() if "excluded" in line and "AUROC" not in line][
        :1
    ]
    assert f" {missing} " in line
    board = pd.read_csv(results.path / "leaderboard.csv").set_index("task")
    assert set(board.loc["left", "excluded"]) == {missing}
    (sheet, *_) = [one for one in leaderboard_sheets(leaderboard([results.path])) if one.title.startswith("left")]
    assert f"{missing} excluded" in sheet.title


def test_the_spread_over_seeds_stands_beside_the_value(results):
    one = row(results, "noise", "halves", "auroc")
    spread = f"±{one['seed_sd']:.3f}"
    assert one["seed_sd"] > 0
    assert one["seeds"] == PROBE["seeds"]
    text = text_table(results.data)
    assert re.search(rf"  halves +{one['value']:.3f}[*+]? +{spread}  {one['low']:.3f} to {one['high']:.3f} ", text)
    assert rf"\,{{\tiny $\pm${spread[1:]}}}" in latex_table(results.data)
    page = report(results.path).read_text(encoding="utf-8")
    assert f'{one["value"]:.3f}</span> <span class="spread">{spread}</span>' in page
    board = pd.read_csv(results.path / "leaderboard.csv").set_index(["task", "metric", "encoder"])
    assert board.loc[("noise", "auroc", "halves"), "seed_sd"] == pytest.approx(one["seed_sd"])
    sheets = leaderboard_sheets(leaderboard([results.path]))
    (sheet,) = [shown for shown in sheets if shown.title.startswith("noise: AUROC")]
    assert f"{one['value']:.3f} {spread}" in [cells[2] for cells in sheet.rows]


def test_a_failing_encoder_loses_its_own_rows_and_tells_no_secrets(results):
    assert set(results.rows()["encoder"]) == {"noise", "halves"}
    lost = [one for one in results.data["absent"] if one["encoder"] == "broken"]
    assert {one["task"] for one in lost} == {"left", "noise", "sex", "age"}
    assert all("RuntimeError" in one["reason"] for one in lost)
    assert "secret" not in json.dumps(results.data)


def test_contamination_is_derived_from_sources(results):
    assert {one["name"]: one["seen"] for one in results.data["encoders"]} == {
        "noise": "unknown",
        "halves": "image seen",
        "broken": "image seen",
    }


def test_folder_is_complete_and_reopens(results):
    assert {path.name for path in results.path.iterdir()} == {
        ".lock",
        "metrics.json",
        "predictions.parquet",
        "leaderboard.csv",
        "probes",
    }
    again = Results.open(results.path)
    assert again.data["rows"] == results.data["rows"]
    assert list(again.predictions) == ["task", "encoder", "id", "patient", "split", "target", "score"]
    assert set(again.predictions["split"]) == {"val", "test"}
    board = pd.read_csv(results.path / "leaderboard.csv")
    assert board[(board["task"] == "left") & (board["rank"] == 1)]["encoder"].eq("halves").all()
    assert board[(board["task"] == "age") & (board["rank"] == 1)]["encoder"].item() == "halves"


def test_the_same_command_gives_the_same_bytes(corpus, suite, results, tmp_path):
    again = evaluate(corpus, [Noise(), Halves(), Broken()], suite=suite, out=tmp_path / "again", resamples=200)
    assert (again.path / "metrics.json").read_bytes() == (results.path / "metrics.json").read_bytes()
    pd.testing.assert_frame_equal(again.predictions, results.predictions)


def test_test_labels_do_not_touch_the_probe(corpus, suite, results, tmp_path):
    test = corpus.manifest["split"] == "test"
    rng = np.random.default_rng(0)
    corpus.manifest.loc[test, "label_noise"] = rng.permutation(corpus.manifest.loc[test, "label_noise"])
    again = evaluate(corpus, [Noise(), Halves()], suite=suite, out=tmp_path / "again", resamples=10)
    one, other = (r.predictions.query("task == 'noise' and encoder == 'halves'") for r in (results, again))
    np.testing.assert_array_equal(one["score"], other["score"])
    assert not one["target"].equals(other["target"])


def test_encoders_and_tasks_do_not_influence_each_other(corpus, results, tmp_path):
    suite = tmp_path / "one.yaml"
    suite.write_text(
        yaml.safe_dump({"tasks": [{"name": "left", "target": "label_left", "kind": "binary"}], "probe": PROBE}),
        encoding="utf-8",
    )
    alone = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "alone", resamples=200)
    one, other = row(alone, "left", "halves", "auroc"), row(results, "left", "halves", "auroc")
    assert (one["value"], one["low"], one["high"]) == (other["value"], other["low"], other["high"])


def test_everything_labelled_by_default_with_floors(corpus, tmp_path):
    results = evaluate(corpus, [PixelPCA(8, 6), HOG(24, 8)], out=tmp_path / "r", resamples=50, names=["pixels", None])
    assert {task["name"] for task in results.data["tasks"]} == {"sex", "age", "left", "noise"}
    assert "all labels (macro), 2 of 3 tasks" in set(results.rows()["task"])
    assert set(results.rows()["encoder"]) == {"pixels", "hog"}
    assert {one["seen"] for one in results.data["encoders"]} == {"clean"}


def test_a_patient_in_two_splits_is_refused(corpus, tmp_path):
    corpus.manifest.loc[corpus.manifest.index[-1], "patient"] = "p0"
    with pytest.raises(RaddinoError, match="p0"):
        evaluate(corpus, [Halves()], out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_patch_features_are_refused_for_encoders_without_a_grid(corpus, tmp_path):
    suite = tmp_path / "p.yaml"
    task = {"name": "left", "target": "label_left", "kind": "binary"}
    suite.write_text(yaml.safe_dump({"tasks": [task], "probe": {"features": "both"}}), encoding="utf-8")
    with pytest.raises(RaddinoError, match="no patch features"):
        evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "r")


@pytest.mark.parametrize(
    ("encoders", "options", "message"),
    [
        ([], {}, "at least one"),
        (["hogg"], {}, "Did you mean 'hog'"),
        (["hog", "hog"], {}, "two encoders are called 'hog'"),
        (["hog"], {"names": ["a", "b"]}, "2 names for 1"),
        (["hog"], {"targets": ["agee"]}, "Did you mean 'age'"),
        (["hog"], {"targets": ["age"], "suite": "open-cxr"}, "not both"),
        (["hog"], {"targets": ["label_none"]}, "no task can be measured"),
        (["hog"], {"suite": "open-cxr"}, "no task can be measured"),
        (["hog"], {"resamples": 0}, "at least 1"),
    ],
)
def test_impossible_requests_are_one_line_and_leave_nothing(corpus, tmp_path, encoders, options, message):
    corpus.manifest["age"] = 40.0 if options.get("suite") == "open-cxr" else corpus.manifest["age"]
    with pytest.raises(RaddinoError, match=message) as error:
        evaluate(corpus, encoders, out=tmp_path / "r", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "r").exists()


def test_a_second_evaluation_into_one_folder_is_refused(results, corpus, suite):
    before = (results.path / "metrics.json").read_bytes()
    with lock(results.path, ""), pytest.raises(RaddinoError, match="another process evaluates into"):
        evaluate(corpus, [Noise()], out=results.path, suite=suite)
    assert (results.path / "metrics.json").read_bytes() == before


def test_all_encoders_failing_is_an_error(corpus, tmp_path):
    with pytest.raises(RaddinoError, match="every encoder failed"):
        evaluate(corpus, [Broken()], out=tmp_path / "r", targets=["label_left"])


@pytest.mark.parametrize("damage", ["missing", "text", "version"])
def test_a_folder_that_is_no_result_is_refused(tmp_path, damage):
    if damage != "missing":
        (tmp_path / "metrics.json").write_text("{" if damage == "text" else '{"format": 99}', encoding="utf-8")
    with pytest.raises(RaddinoError):
        Results.open(tmp_path)


def test_an_encoder_has_one_name_on_the_terminal_and_in_reasons(corpus, suite, tmp_path, capsys):
    encoders, names = [Halves(), Noise()], ["mine", "yours"]
    probe = {"kind": "attentive", "seeds": 1, "steps": 2}
    with pytest.raises(RaddinoError, match="every encoder failed: yours has no patch features"):
        evaluate(corpus, encoders, suite=suite, out=tmp_path / "a", names=names, probe=probe)
    evaluate(corpus, encoders, suite=suite, out=tmp_path / "r", names=names, resamples=20)
    told = capsys.readouterr().err
    assert "embed mine" in told
    assert "probe yours" in told
    assert "halves" not in told
    assert "noise" not in told.replace("label_noise", "")


def test_python_and_the_commands_have_the_same_defaults():
    ours, judged, embedded = (
        {name: one.default for name, one in inspect.signature(function).parameters.items()}
        for function in (evaluate, cli.evaluate, cli.embed)
    )
    for name in ("seed", "resamples", "precision", "device"):
        assert ours[name] == judged[name]
    assert ours["batch_size"] == embedded["batch_size"]
    documented = (Path(__file__).parents[2] / "docs/evaluate.md").read_text(encoding="utf-8")
    assert f"{ours['resamples']:,} resamples" in documented


def test_where_no_encoder_can_be_judged_in_folds_nothing_is_written(tmp_path):
    corpus = toy_corpus(tmp_path / "corpus")
    with pytest.raises(RaddinoError, match="every encoder failed: pca: it is fitted on training images"):
        evaluate(
            corpus, [PixelPCA(8, 4)], out=tmp_path / "out", targets=["label_left"], probe=PROBE,
            cross_validation=CrossValidation(folds=3, repeats=1), resamples=20, cache=tmp_path / "cache", device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "out/metrics.json").exists()
