"""Other sites: who is trained on, who is tested, what is left out, and how far a value falls."""

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import average_precision_score, mean_absolute_error, roc_auc_score

from benchmark.test_evaluate import Halves, Noise
from memory_corpus import MemoryCorpus, toy_corpus
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.results import Results
from raddino.benchmark.sites import SAME_PIXELS, SHARED_TEST, SHARED_TRAIN, Population, populate
from raddino.benchmark.suite import Suite
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.encoders.base import Provenance
from raddino.encoders.floors import PixelPCA
from raddino.errors import ConfigError, RaddinoError
from raddino.report.html import report
from raddino.report.sites import falls
from raddino.report.terminal import text_table

METRICS = {"auroc": roc_auc_score, "auprc": average_precision_score, "mae": mean_absolute_error}
PROBE = {"seeds": 2, "steps": 200, "learning_rates": [0.1], "weight_decays": [0.01]}
TASKS = [
    {"name": "left", "target": "label_left", "kind": "binary"},
    {"name": "sex", "target": "sex", "kind": "binary", "positive": "M"},
    {"name": "age", "target": "age", "kind": "regression"},
    {"name": "view", "target": "view", "kind": "multiclass"},
]


def two_sources(path, **changes) -> MemoryCorpus:
    """Patients 0..59 stand at "home", 60..119 "away", where the left half says less of ``label_left``."""
    corpus = toy_corpus(path)
    patient = corpus.manifest["patient"].str[1:].astype(int)
    table = corpus.manifest.assign(source=np.where(patient < 60, "home", "away"))
    far = np.flatnonzero(table["source"] == "away")
    flipped = far[np.random.default_rng(1).random(len(far)) < 0.3]
    table.loc[flipped, "label_left"] = 1 - table.loc[flipped, "label_left"]
    return MemoryCorpus(corpus.images, table.assign(**changes), path)


@pytest.fixture
def corpus(tmp_path):
    return two_sources(tmp_path / "corpus")


def suite_of(tmp_path, **values):
    path = tmp_path / "toy.yaml"
    path.write_text(
        yaml.safe_dump({"tasks": TASKS, "probe": PROBE, "macro": {"mean": ["left", "sex"]}, **values}), encoding="utf-8"
    )
    return path


def judge(corpus, tmp_path, out="results", encoders=(), suite=None, **options):
    suite = suite or suite_of(tmp_path)
    return evaluate(corpus, list(encoders) or [Noise(), Halves()], suite=suite, out=tmp_path / out, resamples=200,
                    **options)  # fmt: skip


def row(results, task, encoder, metric):
    found = [
        one for one in results.data["rows"] if (one["task"], one["encoder"], one["metric"]) == (task, encoder, metric)
    ]
    assert len(found) == 1
    return found[0]


def test_each_site_has_rows_of_its_own_whole_images(corpus, tmp_path):
    results = judge(corpus, tmp_path, train_on=["home"])
    manifest = corpus.manifest.set_index("id")
    for task in ("left", "sex", "age"):
        predicted = results.predictions[results.predictions["task"] == f"{task} at away"]
        at_site = predicted[(predicted["split"] == "test") & (predicted["encoder"] == "halves")]
        away = manifest[manifest["source"] == "away"]
        column = {"left": "label_left"}.get(task, task)
        assert set(at_site["id"]) == set(away.index[away[column].notna()])
        for metric in ("mae",) if task == "age" else ("auroc", "auprc"):
            one = row(results, f"{task} at away", "halves", metric)
            assert one["value"] == pytest.approx(METRICS[metric](at_site["target"], at_site["score"]))
            assert one["n"] == len(at_site)
            assert one["site"] == "away"
            assert "scope:train:home,test:away" in one["signature"]
            assert one["low"] <= one["value"] <= one["high"]
    assert row(results, "view at away", "halves", "accuracy")["n"] == 120


def test_the_probe_is_the_one_of_the_inside_alone(corpus, tmp_path):
    home = corpus.manifest["source"] == "home"
    only = MemoryCorpus([image for image, inside in zip(corpus.images, home, strict=True) if inside],
                        corpus.manifest[home], tmp_path / "only")  # fmt: skip
    alone = judge(only, tmp_path, "alone", [Halves(), PixelPCA(8, 4)])
    both = judge(corpus, tmp_path, "both", [Halves(), PixelPCA(8, 4)], train_on=["home"])
    for task in ("left", "age", "mean"):
        metric = "mae" if task == "age" else "auroc"
        for encoder in ("halves", "pca"):
            ours, theirs = (row(one, task, encoder, metric) for one in (both, alone))
            assert ours["value"] == pytest.approx(theirs["value"], abs=1e-9)
            assert (ours["low"], ours["n"]) == (pytest.approx(theirs["low"], abs=1e-9), theirs["n"])


def test_labels_of_the_site_do_not_touch_the_probe(corpus, tmp_path):
    before = judge(corpus, tmp_path, "before", train_on=["home"])
    away = corpus.manifest["source"] == "away"
    table = corpus.manifest.assign(age=corpus.manifest["age"].where(~away, 50 + np.arange(240) % 7))
    changed = MemoryCorpus(corpus.images, table, tmp_path / "changed")
    after = judge(changed, tmp_path, "after", train_on=["home"])
    pd.testing.assert_series_equal(before.predictions["score"], after.predictions["score"])
    assert row(before, "age at away", "halves", "mae")["value"] != row(after, "age at away", "halves", "mae")["value"]


def test_the_drop_is_the_inside_minus_the_site(corpus, tmp_path):
    results = judge(corpus, tmp_path, train_on=["home"])
    for task, metric in (("left", "auroc"), ("age", "mae"), ("mean", "auroc")):
        at_site, inside = row(results, f"{task} at away", "halves", metric), row(results, task, "halves", metric)
        drop = at_site["drop"]
        assert drop["from"] == task
        assert drop["value"] == pytest.approx(inside["value"] - at_site["value"])
        assert drop["low"] < drop["value"] < drop["high"]
        assert inside.get("drop") is None
    assert row(results, "left at away", "halves", "auroc")["drop"]["low"] > 0
    assert row(results, "sex at away", "halves", "auroc")["drop"]["low"] <= 0
    assert row(results, "mean at away", "halves", "auroc")["detail"]["tasks"] == ["left at away", "sex at away"]
    assert row(results, "left at away", "halves", "auroc")["difference"]["to"] == "noise"


def test_the_interval_of_a_drop_is_that_of_the_two_sides(corpus, tmp_path):
    results = judge(corpus, tmp_path, train_on=["home"])
    at_site, inside = (row(results, task, "halves", "auroc") for task in ("left at away", "left"))
    below = np.hypot(inside["value"] - inside["low"], at_site["high"] - at_site["value"])
    assert at_site["drop"]["low"] == pytest.approx(inside["value"] - at_site["value"] - below)


def test_who_trained_on_images_of_the_site_has_seen_it(corpus, tmp_path):
    encoder = Halves()
    seen = {corpus.fingerprint: ["train"]}
    encoder.provenance = Provenance(sources=["home", "away"], supervision="self-supervised", corpora=seen)
    (at_site,) = judge(corpus, tmp_path, encoders=[encoder], train_on=["home"]).data["encoders"]
    assert at_site["contamination"] == {"home": "held out", "away": "image seen"}
    (whole,) = judge(corpus, tmp_path, "whole", encoders=[encoder]).data["encoders"]
    assert whole["contamination"] == {"home": "held out", "away": "held out"}


def test_who_stands_on_both_sides_is_left_out_and_counted(tmp_path):
    corpus = two_sources(tmp_path / "corpus")
    table = corpus.manifest
    away = table.index[table["source"] == "away"]
    by_split = {split: away[table.loc[away, "split"] == split] for split in ("train", "test")}
    home = {split: table.index[(table["source"] == "home") & (table["split"] == split)] for split in ("train", "test")}

    moved = table.copy()
    moved.loc[by_split["test"][:2], "patient"] = moved.loc[home["test"][0], "patient"]
    site = populate(MemoryCorpus(corpus.images, moved, tmp_path), Suite(tasks=(), train_on=("home",))).sites[0]
    assert site.left_out == {SHARED_TEST: 2}
    assert set(site.corpus.rows("test")) == set(away) - set(by_split["test"][:2])

    moved = table.copy()
    moved.loc[by_split["train"][:2], "patient"] = moved.loc[home["train"][0], "patient"]
    site = populate(MemoryCorpus(corpus.images, moved, tmp_path), Suite(tasks=(), train_on=("home",))).sites[0]
    assert sum(site.left_out.values()) == len(away) - len(by_split["test"])
    assert all(reason.startswith(SHARED_TRAIN) for reason in site.left_out)
    assert set(site.corpus.rows("test")) == set(by_split["test"])

    digests = table.assign(sha256=table["id"])
    digests.loc[by_split["train"][0], "sha256"] = digests.loc[home["train"][0], "sha256"]
    site = populate(MemoryCorpus(corpus.images, digests, tmp_path), Suite(tasks=(), train_on=("home",))).sites[0]
    assert site.left_out == {SAME_PIXELS: 1}
    assert set(site.corpus.rows("train")) == set(home["train"])


def test_the_evaluation_sees_what_where_says_and_nothing_else(corpus, tmp_path):
    pca = PixelPCA(8, 4)
    results = judge(corpus, tmp_path, encoders=[pca, Halves()], where="source == 'home'")
    home = corpus.manifest["source"] == "home"
    kept = [image for image, inside in zip(corpus.images, home, strict=True) if inside]
    only = MemoryCorpus(kept, corpus.manifest[home], tmp_path / "only")
    alone = judge(only, tmp_path, "alone", [PixelPCA(8, 4), Halves()])
    assert [one["value"] for one in results.data["rows"]] == pytest.approx(
        [one["value"] for one in alone.data["rows"]], abs=1e-9
    )
    assert all("scope:where:source == 'home'" in one["signature"] for one in results.data["rows"])
    assert all(task["where"] == "source == 'home'" for task in results.data["tasks"])
    assert results.data["corpus"]["sources"] == {"home": 120}
    assert not any("scope" in one["signature"] for one in alone.data["rows"])


def test_suites_name_sites_and_the_call_stands_in(corpus, tmp_path):
    suite = suite_of(tmp_path, train_on=["home"], where="view == 'AP'")
    results = judge(corpus, tmp_path, suite=suite, where="age > 30")
    assert results.data["suite"]["train_on"] == ["home"]
    seen = corpus.manifest[(corpus.manifest["view"] == "AP") & (corpus.manifest["age"] > 30)]
    assert row(results, "age at away", "halves", "mae")["n"] == (seen["source"] == "away").sum()
    turned = judge(corpus, tmp_path, "turned", suite=suite, train_on=["away"])
    assert {one["site"] for one in turned.data["tasks"] if "site" in one} == {"home"}


def test_what_a_site_lacks_is_said(tmp_path):
    corpus = two_sources(tmp_path / "corpus")
    corpus.manifest.loc[corpus.manifest["source"] == "away", "label_left"] = np.nan
    results = judge(corpus, tmp_path, train_on=["home"])
    reasons = {one["task"]: one["reason"] for one in results.data["absent"]}
    assert reasons["left at away"] == "site away: no image of it has a value"
    assert "left at away" not in {one["task"] for one in results.data["rows"]}
    assert "mean at away" not in {one["task"] for one in results.data["rows"]}


def test_the_folder_is_read_back_and_shown(corpus, tmp_path):
    results = judge(corpus, tmp_path, train_on=["home"])
    opened = Results.open(tmp_path / "results")
    board = opened.leaderboard()
    drop = row(results, "left at away", "halves", "auroc")["drop"]["value"]
    line = board[(board["task"] == "left at away") & (board["encoder"] == "halves") & (board["metric"] == "auroc")]
    assert line[["site", "drop"]].iloc[0].tolist() == ["away", pytest.approx(drop)]
    words = text_table(opened.data)
    assert (
        f"drop at away: noise {row(results, 'left at away', 'noise', 'auroc')['drop']['value']:.3f}"
        in words.replace("−", "-")
    )
    report(tmp_path / "results")
    page, table = ((tmp_path / "results" / name).read_text(encoding="utf-8") for name in ("report.html", "table.tex"))
    assert "External validation" in page
    assert f"{drop:.3f}" in page
    assert f"{drop:.3f}" in table
    assert "drop at away" in table
    assert not falls(judge(corpus, tmp_path, "plain").data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_on": ["hom"]}, "Did you mean 'home'"),
        ({"test_on": ["awa"]}, "Did you mean 'away'"),
        ({"test_on": ["x" * 5000]}, "no source of the corpus and no corpus folder"),
        ({"train_on": ["home"], "test_on": ["home"]}, "stands in train_on and in test_on"),
        ({"train_on": ["home", "home"]}, "'home' stands twice in train_on"),
        ({"train_on": ["home"], "test_on": ["away", "away"]}, "'away' stands twice in test_on"),
        ({"train_on": ["home", "away"]}, "no source is left to test on"),
        ({"test_on": ["home", "away"]}, "no source is left to train on"),
        ({"where": "age > 1000"}, "no image satisfies where"),
        ({"where": "agee > 10"}, "Did you mean 'age'"),
    ],
)
def test_impossible_requests_are_one_line(corpus, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words) as error:
        judge(corpus, tmp_path, **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()


def packed(folder, out, first, seed, splits=("train", "train", "val", "test"), **options) -> Corpus:
    from PIL import Image

    rng, rows = np.random.default_rng(seed), []
    folder.mkdir()
    for n in range(90):
        label = n // len(splits) % 2
        pixels = rng.normal(90 + 40 * label * np.linspace(1, 0, 24)[None], 12, (24, 24)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
        split = splits[n % 4]
        rows.append({"path": f"{n}.png", "patient_id": f"p{first + n}", "label_x": label, "split": split})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return prepare(folder, out, workers=1, shorter_side=24, **options)


def test_another_corpus_is_a_site(tmp_path, monkeypatch):
    monkeypatch.setenv("RADDINO_KEY", "the key of these tests")
    home = packed(tmp_path / "a", tmp_path / "home", 0, 0)
    packed(tmp_path / "b", tmp_path / "clinic", 200, 1, source="elsewhere")
    suite = suite_of(tmp_path, tasks=[{"name": "x", "target": "label_x", "kind": "binary"}], macro={})
    results = judge(home, tmp_path, encoders=[PixelPCA(8, 4)], suite=suite, test_on=[str(tmp_path / "clinic")])
    assert row(results, "x at clinic", "pca", "auroc")["n"] == 90
    assert row(results, "x at clinic", "pca", "auroc")["value"] > 0.8
    assert str(tmp_path) not in (tmp_path / "results" / "metrics.json").read_text(encoding="utf-8")
    assert results.data["suite"]["test_on"] == ["…/clinic"]

    packed(tmp_path / "c", tmp_path / "again", 0, 2, ("test", "val", "train", "train"))
    with pytest.raises(RaddinoError, match="leave one of the two corpora out"):
        judge(home, tmp_path, encoders=[PixelPCA(8, 4)], suite=suite, test_on=[str(tmp_path / "again")])


def test_what_is_tested_is_what_is_recognised(corpus):
    """The images of the inside's test split and of the site, no others, whatever the corpus holds beside them."""
    table = corpus.manifest.assign(sha256=[f"{row:064x}" for row in range(len(corpus))])
    whole = MemoryCorpus(corpus.images, table, corpus.path)
    plan = Suite(tasks=(), train_on=("home",), where="sex == 'M'")
    population = populate(whole, plan)
    seen = (table["sex"] == "M") & ((table["source"] == "away") | (table["split"] == "test"))
    assert sorted(population.tested().images["sha256"]) == sorted(table.loc[seen, "sha256"])
    every = Population(whole, (), table)
    assert len(every.tested().images) == (table["split"] == "test").sum()
    assert len(every.tested(all_splits=True).images) == len(table)
