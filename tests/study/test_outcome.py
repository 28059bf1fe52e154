"""Results joined: seeds, references, p-values, laws and contamination, against results that are made by hand."""

import json

import numpy as np
import pytest

from raddino.files import write_json
from raddino.metrics.comparison import holm
from raddino.study import outcome as outcomes
from raddino.study.outcome import loss_of, outcome


def row(task, metric, value, encoder="arm"):
    return {
        "task": task, "encoder": encoder, "metric": metric, "value": value, "low": value - 0.1, "high": value + 0.1,
        "n": 40, "patients": 30, "positives": None, "signature": "",
    }  # fmt: skip


@pytest.fixture
def judged(planned, values, tmp_path):
    """A plan whose arms have results made by hand: AUROC by fraction and seed."""

    def make(value, fractions=(0.2, 1.0), seeds=(0, 1), changes=None):
        values["arms"]["quantity"]["vary"] = {"fraction": list(fractions), "seed": list(seeds)}
        values["arms"] |= changes or {}
        made = planned(values)
        for arm in made.jobs:
            folder = made.units[0].folder(made.out, arm)
            folder.mkdir(parents=True)
            rows = [row("sex", "auroc", value(arm)), row("sex", "auprc", 0.3), row("age", "mae", 10.0),
                    row("sex", "auroc", 0.99, "arm, shuffled")]  # fmt: skip
            encoder = {
                "name": "arm", "seen": "clean", "fingerprint": "f", "provenance": None,
                "contamination": {"synthetic-a": "clean" if arm.config else "image seen"},
            }  # fmt: skip
            data = {"format": 1, "synthetic": True, "encoders": [encoder, encoder | {"name": "arm, shuffled"}],
                    "rows": rows, "tasks": [], "absent": [
                        {"task": "age", "encoder": "arm", "reason": "false_alarm_rate is not defined on these images"},
                        {"task": "bmi", "encoder": None, "reason": "too few"}]}  # fmt: skip
            write_json(folder / "metrics.json", data)
        return made

    return make


def test_seeds_are_averaged_and_variants_left_out(judged, monkeypatch):
    monkeypatch.setattr(outcomes, "compare", lambda *args, **kwargs: _none())
    data = outcome(judged(lambda arm: 0.6 + 0.1 * arm.config.fraction + 0.02 * arm.config.seed if arm.config else 0.7))
    small, whole, hog = data["conditions"]
    sex = small["cells"][0]
    assert (sex["metric"], sex["seeds"]) == ("auroc", 2)
    assert sex["value"] == pytest.approx(0.63)
    assert (sex["low"], sex["high"]) == pytest.approx((0.53, 0.73))
    assert sex["seed_sd"] == pytest.approx(0.02 / np.sqrt(2))
    assert [value for _, value in sex["points"]] == pytest.approx([0.62, 0.64])
    assert [x for x, _ in sex["points"]] == [arm["images"] for arm in small["arms"]]
    assert whole["cells"][0]["value"] == pytest.approx(0.71)
    assert hog["cells"][0]["seed_sd"] is None
    assert len(data["rows"]) == 5 * 3, "five arms, three rows each without the variant's"
    assert data["absent"] == [{"unit": "metadata", "task": "bmi", "reason": "too few", "arms": 5}]


def _none():
    from raddino.errors import RaddinoError

    raise RaddinoError("nothing in common")


def test_the_largest_p_of_the_seeds_counts_and_holm_is_over_the_study(judged, monkeypatch):
    """p by hand for each pair of folders; the last fraction of seed 1 is not clear."""
    calls = []

    def compare(a, b, *, pairs, metrics, resamples, seed):
        calls.append((a.name[:12], b.name[:12]))
        assert metrics == {"auroc", "mae"}
        assert pairs == {"arm": "arm"}
        gap = {"value": 0.1 * len(calls), "low": -0.01 * len(calls), "high": 0.3 * len(calls), "p": ps[len(calls) - 1],
               "test": "DeLong", "to": "A"}  # fmt: skip
        rows = [{"task": "sex", "metric": "auroc", "difference": gap},
                {"task": "sex", "metric": "mae", "difference": gap | {"p": 0.0}}]  # fmt: skip
        return type("Comparison", (), {"data": {"rows": rows}})

    ps = [0.01, 0.002, 0.001, 0.3]
    monkeypatch.setattr(outcomes, "compare", compare)
    made = judged(lambda arm: 0.7, fractions=(0.2, 0.5, 1.0))
    data = outcome(made)
    digests = {arm.label: arm.digest for arm in made.arms}
    assert calls == [(digests[f"fraction 20 %, seed {seed}"], digests[f"fraction {share} %, seed {seed}"])
                     for share in (50, 100) for seed in (0, 1)]  # fmt: skip
    half, whole = data["differences"]
    assert [half["difference"]["p"], whole["difference"]["p"]] == [0.01, 0.3]
    assert half["difference"]["value"] == pytest.approx(0.15)
    assert (half["difference"]["low"], half["difference"]["high"]) == (-0.02, 0.6)
    assert [half["difference"]["p_holm"], whole["difference"]["p_holm"]] == holm([0.01, 0.3]).tolist()
    assert (half["against"], half["seeds"]) == ("fraction 20 %", 2)


def test_a_reference_by_name_and_pairs_without_a_partner(judged, monkeypatch):
    calls = []
    monkeypatch.setattr(outcomes, "compare", lambda a, b, **_: calls.append((a.name[:12], b.name[:12])) or _none())
    made = judged(lambda arm: 0.7, changes={"quantity": {
        "vary": {"fraction": [0.2, 1.0], "seed": [0, 1]}, "axis": "images", "against": "fraction 100 %"}})  # fmt: skip
    data = outcome(made)
    assert data["series"][0]["against"] == "fraction 100 %"
    digests = {arm.label: arm.digest for arm in made.arms}
    assert calls[0] == (digests["fraction 100 %, seed 0"], digests["fraction 20 %, seed 0"])
    assert data["differences"] == []


def test_a_law_is_found_and_a_short_one_refused(judged, monkeypatch):
    """What is lacking of AUROC 1 falls as a power of the number of images, whatever that is."""
    monkeypatch.setattr(outcomes, "compare", lambda *args, **kwargs: _none())

    def value(arm):
        return 1 - (0.8 * arm.images**-0.5 + 0.1) if arm.config else 0.5

    data = outcome(judged(value, fractions=(0.1, 0.2, 0.4, 0.7, 1.0)))
    sex, age = data["laws"]
    assert (sex["task"], sex["axis"], sex["refused"], sex["told"]) == ("sex", "images", "", True)
    assert (sex["b"], sex["c"]) == pytest.approx((0.5, 0.1), rel=1e-3)
    assert sex["a"] * sex["unit_x"] ** sex["b"] == pytest.approx(0.8, rel=1e-3)
    assert not age["told"]


def test_two_points_carry_no_law(judged, monkeypatch):
    monkeypatch.setattr(outcomes, "compare", lambda *args, **kwargs: _none())
    data = outcome(judged(lambda arm: 0.7, seeds=(0,)))
    assert all("2 losses of 2 sizes cannot carry" in law["refused"] for law in data["laws"])


def test_contamination_is_told_of_each_arm(judged, monkeypatch):
    monkeypatch.setattr(outcomes, "compare", lambda *args, **kwargs: _none())
    told = {one["condition"]: one["sources"] for one in outcome(judged(lambda arm: 0.7))["contamination"]}
    assert told["hog"] == {"synthetic-a": "image seen"}
    assert told["fraction 20 %"] == {"synthetic-a": "clean"}


def test_losses():
    assert loss_of("auroc", 0.8) == pytest.approx(0.2)
    assert loss_of("mae", 9.0) == 9.0
    assert loss_of("dice (heart)", 0.75) == 0.25


def test_differences_are_those_of_compare(planned, values, tmp_path):
    """On real results: the same numbers as ``raddino compare`` gives for the two folders."""
    from raddino.benchmark.compare import compare
    from raddino.study.run import run_all

    values["arms"] = {"floors": {"encoders": ["hog", "pca"]}}
    made = planned(values, tmp_path / "new")
    run_all(made, device="cpu")
    data = outcome(made)
    hog, pca = (made.units[0].folder(made.out, arm) for arm in made.jobs)
    names = [
        json.loads((one / "metrics.json").read_text(encoding="utf-8"))["encoders"][0]["name"] for one in (hog, pca)
    ]
    rows = {(one["task"], one["metric"]): one["difference"]
            for one in compare(hog, pca, pairs={names[0]: names[1]}, resamples=50).data["rows"]}  # fmt: skip
    for one in data["differences"]:
        other = rows[one["task"], one["metric"]]
        assert [one["difference"][key] for key in ("value", "low", "high", "p")] == pytest.approx(
            [other[key] for key in ("value", "low", "high", "p")]
        )
    assert len(data["differences"]) == 2
