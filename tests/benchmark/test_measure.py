"""Rows of results against scikit-learn, numpy and counts by hand, on outputs whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, r2_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

import raddino.tasks.classification.task
import raddino.tasks.metadata.task
import raddino.tasks.multiclass.task  # noqa: F401  (registers them)
from raddino.benchmark.measure import (
    DELONG,
    PAIRED_RANDOMISATION,
    Draw,
    Scores,
    adjust,
    averages,
    carriers,
    compare,
    measure,
    randomisation,
)
from raddino.metrics.comparison import delong_p
from raddino.tasks.base import Examples, TaskConfig

RESAMPLES = 60


def examples(kind="binary", name="lesion", first=0, n=160, seed=0, **more):
    """Images ``first``, ``first`` + 2, ... of the corpus, two a patient; a quarter for training, one for validation."""
    rng = np.random.default_rng(seed)
    rows = first + 2 * np.arange(n)
    draws = {"binary": rng.integers(0, 2, n), "multiclass": rng.integers(0, 3, n), "regression": rng.normal(60, 9, n)}
    return Examples(
        config=TaskConfig(name=name, target="t", kind=kind, **more),
        rows=rows,
        target=draws[kind].astype(float),
        split=np.repeat(["train", "val", "test"], [n // 4, n // 4, n // 2]),
        ids=rows.astype(str),
        patients=np.array([f"p{row // 4}" for row in rows]),
        classes=("a", "b", "c") if kind == "multiclass" else (),
    )


def scores(one, seeds=3, noise=1.0, seed=1):
    rng = np.random.default_rng(seed)
    truth = one.columns if one.classes else one.target
    outputs = [
        truth[one.at[split]] + noise * rng.normal(size=(seeds, *truth[one.at[split]].shape))
        for split in ("val", "test")
    ]
    return Scores(one, *outputs, chosen={"kind": "linear"})


def measured(members, encoder="ours", resamples=RESAMPLES, **more):
    draw = Draw.of([one.examples for one in members], resamples, 0)
    found = measure("lesion", members, draw, encoder, "print-of-encoder", "print-of-data", **more)
    return draw, {one.row["metric"]: one for one in found}


def truth(one):
    return one.examples.target[one.examples.at["test"]]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_value_is_of_mean_outputs_and_its_spread_of_single_ones(seeds):
    one = scores(examples(), seeds)
    draw, found = measured([one], excluded=7)
    assert {"auroc", "auprc", "brier", "ece"} < set(found)
    for metric, judge in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        row, samples = found[metric].row, found[metric].samples
        single = [judge(truth(one), outputs) for outputs in one.test]
        assert row["value"] == pytest.approx(judge(truth(one), one.test.mean(0)))
        assert row["seeds"] == seeds == one.seeds
        assert row["seed_mean"] == pytest.approx(np.mean(single))
        assert row["seed_sd"] == (None if seeds == 1 else pytest.approx(np.std(single, ddof=1)))
        assert samples.shape == (RESAMPLES,)
        assert 0 < row["low"] < row["median"] < row["high"] < 1
        assert row["median"] == np.median(samples)
        assert row["undefined_resamples"] == 0
        assert row["difference"] is None
        assert row["detail"]["kind"] == "linear"
        assert (row["task"], row["encoder"], row["excluded"]) == ("lesion", "ours", 7)
        assert (row["n"], row["split"], row["resamples"], row["seed"]) == (80, "test", RESAMPLES, 0)
        assert row["positives"] == truth(one).sum()
        assert row["prevalence"] == truth(one).mean()
        assert row["patients"] == len(set(one.examples.patients[one.examples.at["test"]])) == len(set(draw.patients))
        assert (row["encoder_fingerprint"], row["data_fingerprint"]) == ("print-of-encoder", "print-of-data")
        assert "members" not in row
    assert found["sensitivity_at_specificity_95"].row["detail"]["specificity_reached"] <= 1


def test_numbers_have_no_positives():
    one = scores(examples("regression"), noise=9.0)
    _, found = measured([one], labelling="readers=majority", scope="train:nih")
    assert found["r2"].row["value"] == pytest.approx(r2_score(truth(one), one.test.mean(0)))
    assert found["r2"].row["positives"] is found["r2"].row["prevalence"] is None
    assert (found["r2"].row["labelling"], found["r2"].row["scope"]) == ("readers=majority", "train:nih")


def test_classes_that_are_too_rare_are_listed_but_not_averaged():
    one = examples("multiclass", min_positives=15)
    rare = np.flatnonzero(one.target[one.at["test"]] == 2)[5:]
    one.target[one.at["test"][rare]] = 0
    _, found = measured([scores(one, noise=0.5)])
    average, whole = found["auroc_macro_ovr"].row, found["accuracy"].row
    assert (average["members"], average["listed"]) == (["a", "b"], 3)
    assert "members" not in whole
    assert whole["positives"] is None
    assert whole["value"] == accuracy_score(one.target[one.at["test"]], scores(one, noise=0.5).test.mean(0).argmax(-1))


def test_an_average_is_the_mean_of_its_tasks_over_the_same_patients():
    members = [scores(examples(name="one")), scores(examples(name="two", first=60, seed=3), noise=2.0)]
    draw, found = measured(members, listed=3)
    assert set(found) == {"auprc", "auroc"}
    each = [roc_auc_score(truth(one), one.test.mean(0)) for one in members]
    row = found["auroc"].row
    assert row["value"] == pytest.approx(np.mean(each))
    assert row["detail"] == {"tasks": ["one", "two"]}
    assert (row["members"], row["listed"]) == (["one", "two"], 3)
    assert row["positives"] == sum(truth(one).sum() for one in members)
    assert row["prevalence"] == pytest.approx(np.concatenate([truth(one) for one in members]).mean())
    rows = [one.examples.rows[one.examples.at["test"]] for one in members]
    union = sorted(set(rows[0]) | set(rows[1]))
    assert row["n"] == len(draw) == len(union) < len(rows[0]) + len(rows[1])
    assert draw.patients.tolist() == [f"p{row // 4}" for row in union]
    for at, own in zip(draw.places, rows, strict=True):
        assert [union[place] for place in at] == own.tolist()


def test_a_resample_weighs_an_image_alike_in_every_task():
    tasks = [examples(), examples(name="two", first=60, seed=3)]
    weights = np.random.default_rng(5).integers(0, 4, (4, len(Draw.of(tasks, 2, 0))))
    drawn = Draw.of(tasks, 2, 0)
    draw = Draw(SimpleNamespace(distribution=lambda mean: mean(weights)), drawn.places, drawn.patients)
    sums = [SimpleNamespace(compute=lambda given, one=one: given @ one.rows[one.at["test"]]) for one in tasks]
    union = np.unique(np.concatenate([one.rows[one.at["test"]] for one in tasks]))
    expected = [weights @ np.where(np.isin(union, one.rows[one.at["test"]]), union, 0) for one in tasks]
    np.testing.assert_allclose(draw.distribution(sums), np.mean(expected, axis=0))


@pytest.mark.parametrize(
    ("present", "name", "tasks"),
    [
        ({"a", "b", "c"}, "all", ["a", "b", "c"]), ({"c", "a", "z"}, "all, 2 of 3 tasks", ["a", "c"]),
        ({"b"}, "all", ["b"]), (set(), "all", []),
    ],
)  # fmt: skip
def test_an_average_says_what_is_missing(present, name, tasks):
    (found,) = averages({"all": ["a", "b", "c"]}, present)
    assert (found.name, found.tasks, found.listed) == (name, tasks, 3)


def test_a_difference_is_paired_and_to_the_reference():
    one = examples()
    better, worse = scores(one, noise=0.5), scores(one, noise=2.0, seed=2)
    draw, ours = measured([better], resamples=200)
    _, theirs = measured([worse], "theirs", resamples=200)
    compare(list(ours.values()), list(theirs.values())[1:], [better], [worse], draw)
    absent = next(iter(theirs))
    assert ours[absent].row["difference"] is None
    assert all(other.row["difference"] is None for other in theirs.values())
    for metric in ("auprc", "brier", "auroc"):
        if metric == absent:
            continue
        found = ours[metric].row["difference"]
        assert found["to"] == "theirs"
        assert found["value"] == ours[metric].row["value"] - theirs[metric].row["value"]
        spread = np.std(ours[metric].samples - theirs[metric].samples, ddof=1)
        assert found["low"] < found["value"] < found["high"]
        assert found["high"] - found["low"] == pytest.approx(2 * 2 * spread, rel=0.15)
        assert 0 < found["p"] < 0.1
    compare([ours["auroc"], ours["auprc"]], list(theirs.values()), [better], [worse], draw)
    at = one.at["test"]
    assert ours["auroc"].row["difference"]["test"] == DELONG
    assert ours["auroc"].row["difference"]["p"] == delong_p(
        one.target[at], better.test.mean(0), worse.test.mean(0), one.patients[at]
    )
    assert ours["auprc"].row["difference"]["test"] == PAIRED_RANDOMISATION


def test_an_average_is_compared_by_randomisation_and_equals_differ_by_nothing():
    members = [scores(examples(name="one")), scores(examples(name="two", first=60, seed=3), noise=2.0)]
    draw, ours = measured(members)
    _, theirs = measured(members, "theirs")
    compare(list(ours.values()), list(theirs.values()), members, members, draw)
    for one in ours.values():
        found = one.row["difference"]
        assert (found["value"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)
        assert found["test"] == PAIRED_RANDOMISATION


def test_an_area_without_delongs_variance_is_randomised():
    one = examples()
    perfect, constant = ((one.target[one.at[split]][None] for split in ("val", "test")) for _ in range(2))
    perfect = Scores(one, *perfect, chosen={})
    constant = Scores(one, *(np.zeros_like(part) for part in constant), chosen={})
    draw, ours = measured([perfect])
    compare([ours["auroc"]], [measured([constant], "flat")[1]["auroc"]], [perfect], [constant], draw)
    found = ours["auroc"].row["difference"]
    assert found["test"] == PAIRED_RANDOMISATION
    assert found["p"] == pytest.approx(1 / (RESAMPLES + 1))


def test_two_systems_stand_beside_each_other_in_every_task():
    tasks = [examples(), examples(name="two", first=60, seed=3)]
    draw = Draw.of(tasks, RESAMPLES, 0)
    asked = []

    def metric(weights):
        asked.append(weights)
        return weights[..., : weights.shape[-1] // 2].sum(-1)

    p = randomisation([metric, metric], draw.places, draw.patients, draw.bootstrap)
    assert 0 < p <= 1
    for at, weights in zip(draw.places, asked[:2], strict=True):
        assert weights.shape[-1] == 2 * len(at)
        first, second = np.split(weights, 2, axis=-1)
        assert (first + second == 1).all()


def test_a_number_is_carried_by_the_rarest_class_of_the_smallest_task():
    binary = examples()
    at = binary.at["test"]
    binary.target[at] = 0
    binary.target[at[:6]] = 1
    assert carriers([binary]) == len(set(binary.patients[at[:6]])) == 3
    regression = examples("regression", n=40)
    assert carriers([regression]) == len(set(regression.patients[regression.at["test"]])) == 10
    harmonic_mean = 2 / (1 / 10 + 1 / 3)
    assert carriers([regression, binary]) == carriers([binary, regression]) == int(harmonic_mean)
    assert carriers([regression, binary], "auprc") == 3
    classes = examples("multiclass", min_positives=5)
    classes.target[at] = np.arange(len(at)) % 2
    classes.target[at[:4]] = 2
    assert carriers([classes]) == 38
    assert carriers([examples("multiclass", min_positives=81)]) == 0


def test_p_values_are_adjusted_within_a_metric():
    p = {"auroc": [0.01, 0.04, 0.03], "auprc": [0.02, 0.5]}
    rows = [{"metric": metric, "difference": {"p": value}} for metric, all_p in p.items() for value in all_p]
    rows.insert(1, {"metric": "auroc", "difference": None})
    adjust(rows)
    for metric, values in p.items():
        found = [row["difference"]["p_holm"] for row in rows if row["metric"] == metric and row["difference"]]
        np.testing.assert_allclose(found, multipletests(values, method="holm")[1])
    assert rows[1]["difference"] is None
