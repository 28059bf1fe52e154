"""Every site left out in turn: each turn against an evaluation by hand, the mean over sites, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmark.test_evaluate import Halves, Noise
from benchmark.test_sites import PROBE, judge, row, suite_of
from memory_corpus import MemoryCorpus, toy_corpus
from raddino.encoders.floors import PixelPCA
from raddino.errors import ConfigError
from raddino.report.html import report
from raddino.report.terminal import text_table

SOURCES = ("north", "south", "west")
TASKS = [
    {"name": "left", "target": "label_left", "kind": "binary"},
    {"name": "age", "target": "age", "kind": "regression"},
]


def three_sources(path, flipped=0.5):
    """A third of the patients at each source; in the west half of the labels ``left`` say nothing."""
    corpus = toy_corpus(path)
    patient = corpus.manifest["patient"].str[1:].astype(int)
    table = corpus.manifest.assign(source=np.array(SOURCES)[patient // 40])
    west = np.flatnonzero(table["source"] == "west")
    turned = west[np.random.default_rng(1).random(len(west)) < flipped]
    table.loc[turned, "label_left"] = 1 - table.loc[turned, "label_left"]
    return MemoryCorpus(corpus.images, table, path)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    place = tmp_path_factory.mktemp("turns")
    corpus = three_sources(place / "corpus")
    suite = suite_of(place, tasks=TASKS, macro={})
    encoders = [Noise(), Halves(), PixelPCA(8, 4)]
    return place, corpus, suite, judge(corpus, place, "all", encoders, suite=suite, leave_one_site_out=True)


def test_each_turn_is_the_evaluation_that_never_saw_the_site(done):
    place, corpus, suite, results = done
    others = [one for one in SOURCES if one != "west"]
    alone = judge(corpus, place, "west", [Noise(), Halves(), PixelPCA(8, 4)], suite=suite, train_on=others)
    for encoder in ("halves", "pca"):
        for task, metric in (("left", "auroc"), ("age", "mae")):
            ours, theirs = (row(one, f"{task} at west", encoder, metric) for one in (results, alone))
            assert (ours["value"], ours["low"]) == pytest.approx((theirs["value"], theirs["low"]))
            assert ours["drop"]["from"] == f"{task} without west"
            inside = row(results, f"{task} without west", encoder, metric)
            assert inside["value"] == pytest.approx(row(alone, task, encoder, metric)["value"])
            assert inside["without"] == "west"
    assert {one["task"] for one in results.data["rows"]} == {
        *(f"{task} over sites" for task in ("left", "age")),
        *(f"{task} {word} {site}" for task in ("left", "age") for word in ("at", "without") for site in SOURCES),
    }
    assert set(results.predictions["task"]) == {
        f"{task} {word} {site}" for task in ("left", "age") for word in ("at", "without") for site in SOURCES
    }


def test_pca_is_fitted_anew_where_another_site_is_left_out(done):
    *_, results = done
    prints = {row(results, f"left at {site}", "pca", "auroc")["encoder_fingerprint"] for site in SOURCES}
    assert len(prints) == 3
    (identity,) = [one for one in results.data["encoders"] if one["name"] == "pca"]
    assert identity["fingerprint"] is None


def test_the_mean_over_sites_and_its_interval(done):
    *_, results = done
    one = row(results, "left over sites", "halves", "auroc")
    own = [row(results, f"left at {site}", "halves", "auroc") for site in SOURCES]
    values = np.array([each["value"] for each in own])
    assert one["value"] == pytest.approx(values.mean())
    assert one["detail"]["site_sd"] == pytest.approx(values.std(ddof=1))
    below = np.sqrt(sum((each["value"] - each["low"]) ** 2 for each in own)) / 3
    assert one["low"] == pytest.approx(values.mean() - below)
    assert one["n"] == sum(each["n"] for each in own)
    assert one["members"] == [f"left at {site}" for site in SOURCES]


def test_holm_corrects_over_all_turns(done):
    *_, results = done
    differences = [one["difference"] for one in results.data["rows"] if one["metric"] == "auroc" and one["difference"]]
    assert len(differences) == 2 * 6
    smallest = min(differences, key=lambda one: one["p"])
    assert smallest["p_holm"] == pytest.approx(min(1, 12 * smallest["p"]))


def test_report_and_terminal_say_what_holds_over_sites(done):
    place, _, _, results = done
    page = report(place / "all").read_text(encoding="utf-8")
    assert "Each source was left out in turn" in page
    assert "Mean over the sites left out" in page
    assert "Ranking over sites" in page
    words = text_table(results.data)
    assert "ranking over sites" in words
    assert "left: " in words
    ranked = results.data["analyses"]["site_ranks"]
    assert {one["site"] for one in ranked if one["role"] == "rank"} == set(SOURCES)
    assert {one["site"] for one in results.data["analyses"]["calibration"]} == set(SOURCES)
    assert json.loads((place / "all" / "left_out" / "west" / "metrics.json").read_text(encoding="utf-8"))["rows"]


def test_again_it_gives_the_same_bytes(done):
    place, corpus, suite, _ = done
    before = (place / "all" / "metrics.json").read_bytes()
    judge(corpus, place, "all", [Noise(), Halves(), PixelPCA(8, 4)], suite=suite, leave_one_site_out=True)
    assert (place / "all" / "metrics.json").read_bytes() == before


def test_a_site_without_the_target_costs_its_own_rows_only(tmp_path):
    corpus = three_sources(tmp_path / "corpus")
    corpus.manifest.loc[corpus.manifest["source"] == "west", "label_left"] = np.nan
    suite = suite_of(tmp_path, tasks=[TASKS[0] | {"min_positives": 2}], macro={})
    results = judge(corpus, tmp_path, suite=suite, leave_one_site_out=True)
    mean = row(results, "left over 2 of 3 sites", "halves", "auroc")
    assert (mean["members"], mean["listed"]) == (["left at north", "left at south"], 3)
    gaps = {one["task"]: one["reason"] for one in results.data["absent"]}
    assert gaps["left at west"] == "site west: no image of it has a value"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_on": ["north"]}, "leave train_on or test_on out"),
        ({"test_on": ["north"]}, "leave train_on or test_on out"),
        ({"where": "source != 'west'"}, "takes three sources; the corpus holds north, south"),
    ],
)
def test_impossible_requests_are_one_line(tmp_path, options, words):
    corpus = three_sources(tmp_path / "corpus")
    with pytest.raises(ConfigError, match=words):
        judge(corpus, tmp_path, leave_one_site_out=True, **options)
    assert not (tmp_path / "results" / "metrics.json").exists()


def test_folds_are_refused_and_a_suite_may_ask(tmp_path):
    corpus = three_sources(tmp_path / "corpus")
    suite = suite_of(tmp_path, tasks=TASKS[:1], macro={}, cross_validation={"folds": 5, "repeats": 1})
    with pytest.raises(ConfigError, match="leave cross_validation out"):
        judge(corpus, tmp_path, suite=suite, leave_one_site_out=True)
    suite = suite_of(tmp_path, tasks=TASKS[:1], macro={}, leave_one_site_out=True, probe=PROBE)
    results = judge(corpus, tmp_path, encoders=[Halves()], suite=suite)
    assert results.data["corpus"]["left_out_in_turn"]
    assert "site_ranks" not in results.data["analyses"], "one encoder has no ranking"
    assert not [one for one in results.data["absent"] if one.get("analysis")]
    assert isinstance(results.leaderboard(), pd.DataFrame)
