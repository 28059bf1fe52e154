"""Two halves of one source are not told apart, planted differences are, and are named first."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from packed_corpus import pack
from raddino.inspection import drift as module
from raddino.inspection.drift import Told, compared_groups, content_of, draw, drift, inputs_of, ranked
from raddino.inspection.inspect import inspect

PATIENTS = 100
"""Of a group."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 200)


def planted(seed: int = 0, bright: float = 0, older: float = 0, patients: int = PATIENTS, copies: int = 2):
    """Manifest and measures of two sources that differ by ``bright`` and ``older`` standard deviations alone.

    Images of a patient are alike.
    """
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(2 * patients), copies)
    other = whose >= patients
    n = len(whose)
    manifest = pd.DataFrame({
        "id": [f"i{row}" for row in range(n)], "patient": [f"p{number}" for number in whose],
        "source": np.where(other, "b", "a"), "split": "train",
        "height": 500 + rng.integers(0, 60, 2 * patients)[whose], "width": 500 + rng.integers(0, 60, n),
        "age": 50 + 10 * (rng.normal(size=2 * patients)[whose] + older * other), "view": rng.choice(["PA", "AP"], n),
    })  # fmt: skip
    mean = 0.5 + 0.05 * (rng.normal(size=n) + bright * other)
    measures = {
        "intensity": pd.DataFrame({
            "mean": mean, "std": rng.normal(0.2, 0.01, n), "entropy": rng.normal(7, 0.1, n),
            "histogram": rng.dirichlet(np.ones(32), n).tolist(),
        }),
        "exposure": pd.DataFrame({name: rng.uniform(0, 0.1, n) for name in ("bright", "dark", "contrast", "border")}),
    }  # fmt: skip
    return manifest, measures


def by_kind(told) -> dict:
    return {one.kind: one for one in told}


def test_two_halves_of_one_source_are_not_told_apart():
    inside = [one.low <= 0.5 <= one.high for seed in range(20) for one in drift(*planted(seed, patients=40))]
    assert len(inside) == 40
    assert sum(inside) >= 35  # 95 % intervals: fewer with a probability of 1.4 %


@pytest.mark.parametrize("shift", [1.0, 4.0, -4.0])
def test_a_planted_brightness_is_named_first_with_its_closed_form(shift):
    told = by_kind(drift(*planted(bright=shift, patients=300)))
    grey = told["grey values"]
    kind, name, value = grey.inputs[0]
    assert (kind, name) == ("grey values", "mean")
    assert value == pytest.approx(norm.cdf(abs(shift) / np.sqrt(2)), abs=0.03)
    assert grey.auroc == pytest.approx(value, abs=0.03)
    assert grey.low <= grey.auroc <= grey.high
    assert ("are told apart" if abs(shift) > 1 else "are partly told apart") in grey.said
    assert f"most by mean ({value:.2f})" in grey.said
    assert not told["image size"].low > 0.5
    assert "a and b are not told apart from image size" in told["image size"].said


def test_a_planted_fact_is_named_before_what_the_pixels_say():
    for one in drift(*planted(older=3)):
        assert one.inputs[0][:2] == ("facts", "age")
        assert not one.low > 0.5
        assert "by age" not in one.said


def test_shapes_that_no_single_length_tells():
    """One source is square, the other stands or lies."""
    manifest, _ = planted()
    other = (manifest["source"] == "b").to_numpy()
    lies = np.arange(len(manifest)) % 2 == 0
    manifest["height"] = np.where(other & ~lies, 700, 500)
    manifest["width"] = np.where(other & lies, 700, 500)
    (size,) = drift(manifest, {})
    assert size.inputs[0] == ("image size", "elongation", 1.0)
    assert size.auroc == 1
    assert size.low > 0.9
    assert size.said.startswith("a and b are told apart from image size alone (AUROC 1.00")


def test_folds_are_by_patient():
    """Content that is random, but the same in all images of a patient, tells nothing."""
    manifest, _ = planted(copies=6, patients=40)
    whose = manifest["patient"].str[1:].astype(int)
    content = np.random.default_rng(1).normal(size=(80, 100))[whose]
    told = by_kind(drift(manifest, {}, content))
    assert told["content"].low <= 0.5 <= told["content"].high


def test_content_of_rows_that_were_embedded_only():
    manifest, _ = planted()
    content = np.random.default_rng(0).normal(size=(len(manifest), 8))
    content[:, 3] += 20 * (manifest["source"] == "b")
    content[::2] = np.nan
    one = by_kind(drift(manifest, {}, content))["content"]
    assert one.images == len(manifest) / 2
    assert one.auroc == 1
    content[50:-50] = np.nan  # 13 patients of either source are left
    assert "content" not in by_kind(drift(manifest, {}, content))


def test_the_value_is_that_of_scikit_learn_within_folds():
    manifest, measures = planted(bright=1)
    x = inputs_of(manifest, measures)["grey values"].to_numpy()
    target = (manifest["source"] == "b").to_numpy(float)
    score, fold = module._out_of_fold(x, target, manifest["patient"].to_numpy())
    parts = [(roc_auc_score(target[fold == k], score[fold == k]),
              (target[fold == k] == 1).sum() * (target[fold == k] == 0).sum()) for k in range(5)]  # fmt: skip
    areas, pairs = np.transpose(parts)
    expected = np.average(areas, weights=pairs)
    assert by_kind(drift(manifest, measures))["grey values"].auroc == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_compared_is_left_out():
    manifest, measures = planted()
    one = manifest[manifest["source"] == "a"]
    assert drift(one, {name: table[: len(one)] for name, table in measures.items()}) == []
    few = planted(patients=29)
    assert drift(*few) == []
    bare = manifest[["patient", "source", "split", "height", "width"]]
    assert [one.kind for one in drift(bare, {})] == ["image size"]


def test_equal_images_are_not_told_apart():
    manifest, _ = planted()
    (size,) = drift(manifest.assign(height=9, width=9), {})
    assert (size.auroc, size.low, size.high) == (0.5, 0.5, 0.5)


def test_what_the_interval_does_not_exclude_is_not_said():
    unsure = Told("source", "a", "b", "content", 90, 80, auroc=0.6, low=0.45, high=0.75, inputs=())
    assert unsure.said == "a and b are not told apart from content (AUROC 0.60, 95 % interval 0.45 to 0.75)"
    unknown = Told("source", "a", "b", "content", 90, 80, auroc=0.6, low=float("nan"), high=float("nan"), inputs=())
    assert "not told apart" in unknown.said
    assert unknown.row()["low"] is None


def test_patients_of_both_groups():
    manifest, measures = planted()
    mixed = manifest.assign(source="x", manufacturer=np.where(np.arange(len(manifest)) % 2, "A", "B"))
    assert {one.by for one in drift(mixed, measures)} == {"manufacturer"}


def test_the_largest_groups_are_compared():
    groups = np.repeat([f"g{n}" for n in range(9)] + ["unknown", "all others"], [*range(60, 51, -1), 90, 90])
    assert compared_groups(groups, np.arange(len(groups)).astype(str)) == ["g0", "g1", "g2", "g3", "g4", "g5"]


def test_few_rows_are_among_many():
    rows = np.arange(50, 150)
    assert set(draw(rows, 10)) <= set(draw(rows, 40)) <= set(rows)
    assert sorted(draw(rows, 1000)) == rows.tolist()


def test_two_values_of_a_fact_are_one_input_and_rare_ones_none():
    manifest, _ = planted()
    facts = inputs_of(manifest.assign(sex=None), {})["facts"]
    assert list(facts) == ["age", "view AP"]
    known = np.zeros(len(manifest), bool)
    known[:9] = known[-9:] = True
    target = (manifest["source"] == "b").to_numpy(float)
    assert ranked("facts", facts[known].reindex(facts.index), target) == []


def test_rows_are_json(tmp_path):
    for one in drift(*planted()):
        row = json.loads(json.dumps(one.row(), allow_nan=False))
        assert row["said"] == one.said
        assert row["inputs"][0]["auroc"] >= row["inputs"][-1]["auroc"]


def test_a_packed_corpus_of_two_grey_values_and_one_size(tmp_path, monkeypatch):
    """From files to the answer, with content of the shipped encoder."""
    rng = np.random.default_rng(0)
    dark = np.arange(60) % 2 == 0
    images = [(rng.integers(0, 256, (64, 64)) * (0.5 if one else 1)).astype(np.uint8) for one in dark]
    for image in images:
        image[0, :2] = 0, 255
    corpus = pack(tmp_path / "a", images, source=np.where(dark, "dark", "bright"), split="train")
    monkeypatch.setattr(module, "MOST_EMBEDDED", 30)
    found = inspect([corpus], checks=["intensity", "exposure"], workers=1)
    content = content_of([corpus], found.manifest, tmp_path / "features")
    assert np.isfinite(content).all()
    told = by_kind(drift(found.manifest, found.measures, content))
    assert told["grey values"].auroc == 1
    assert told["grey values"].inputs[0][1] in ("mean", "std", "bright end (95 %)", "middle grey (50 %)")
    assert told["content"].auroc > 0.95
    assert told["image size"].auroc == 0.5
