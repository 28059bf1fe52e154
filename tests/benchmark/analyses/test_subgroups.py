"""Groups against scikit-learn, planted and absent gaps, suppression."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, roc_auc_score

from acquisition_columns import with_acquisition
from analysis_context import AGE, SEX, X, context_of, invented, only_rows
from raddino.benchmark.analyses.groups import (
    ACQUIRED,
    AGE_BANDS,
    KVP_BANDS,
    MOST_GROUPS,
    THE_REST,
    THIRDS,
    attributes,
)
from raddino.benchmark.analyses.subgroups import subgroups


def make(tmp_path, manifest=None, weak=None, tasks=(X,), patients=300):
    """Scores that follow the label, but not in the group ``weak`` (column, value)."""
    manifest = invented(patients) if manifest is None else manifest
    draw = np.random.default_rng(3)
    strength = np.full(len(manifest), 1.5)
    if weak is not None:
        strength[manifest[weak[0]] == weak[1]] = 0
    outputs = {
        "x": strength * (manifest["label_x"].to_numpy() - 0.5) + draw.normal(0, 0.7, len(manifest)),
        "age": manifest["age"].to_numpy() + draw.normal(0, 9, len(manifest)),
        "sex": draw.normal(size=len(manifest)),
    }
    return context_of(manifest, {"one": outputs}, list(tasks), tmp_path, resamples=400)


def test_values_are_those_of_the_group_alone(tmp_path):
    context = make(tmp_path, tasks=(X, AGE))
    rows = subgroups(context)
    json.dumps(rows)
    for task, metric, function in (("x", "auroc", roc_auc_score), ("age", "mae", mean_absolute_error)):
        scores = context.scores["one"][task]
        at = scores.examples.at["test"]
        groups = context.corpus.manifest["view"].to_numpy()[scores.examples.rows[at]]
        for row in only_rows(rows, task=task, metric=metric, attribute="view", role="group"):
            inside = groups == row["group"]
            assert row["value"] == pytest.approx(function(scores.examples.target[at][inside], scores.test[0][inside]))
            assert row["n"] == inside.sum()
            assert row["low"] <= row["value"] <= row["high"]
            assert f"view={row['group']}" in row["signature"]
        (gap,) = only_rows(rows, task=task, metric=metric, attribute="view", role="gap")
        values = [row["value"] for row in only_rows(rows, task=task, metric=metric, attribute="view", role="group")]
        assert gap["value"] == pytest.approx(max(values) - min(values))
        assert gap["worst_value"] == pytest.approx(min(values) if task == "x" else max(values))


def test_a_planted_gap_is_found_and_named(tmp_path):
    rows = subgroups(make(tmp_path, weak=("sex", "F")))
    (gap,) = only_rows(rows, metric="auroc", attribute="sex", role="gap")
    assert (gap["best"], gap["worst"]) == ("M", "F")
    assert gap["low"] > 0.2
    assert gap["p_holm"] < 0.05
    assert gap["expected"] < gap["value"] / 3


def test_without_a_gap_chance_explains_it(tmp_path):
    rows = subgroups(make(tmp_path))
    gaps = only_rows(rows, metric="auroc", role="gap")
    assert {row["attribute"] for row in gaps} == {"sex", "age band", "view", "source"}
    assert all(row["p_holm"] > 0.05 for row in gaps)
    assert all(row["p"] <= row["p_holm"] <= 1 for row in gaps)


def test_small_groups_are_suppressed_without_their_counts(tmp_path):
    manifest = invented()
    test = manifest.index[manifest["split"] == "test"]
    manifest.loc[test[:12], "source"] = "rare"
    positive = manifest.loc[(manifest["split"] == "test") & (manifest["view"] == "AP") & (manifest["label_x"] == 1)]
    manifest.loc[positive.index[5:], "view"] = "PA"
    rows = subgroups(make(tmp_path, manifest))
    hidden = {(row["attribute"], row["group"]): row for row in only_rows(rows, role="suppressed")}
    assert hidden["source", "rare"]["reason"] == "fewer than 20 patients"
    assert hidden["view", "AP"]["reason"] == "fewer than 10 positives"
    assert all(row["n"] is None and row["value"] is None for row in hidden.values())
    assert not only_rows(rows, group="rare", role="group")
    assert not only_rows(rows, attribute="view", role="gap")


def test_all_suppressed(tmp_path):
    rows = subgroups(make(tmp_path, patients=60))
    assert rows
    assert {row["role"] for row in rows} == {"suppressed"}


def test_a_group_of_positives_only_has_no_auroc(tmp_path):
    manifest = invented()
    manifest.loc[manifest["sex"] == "F", "label_x"] = 1.0
    rows = only_rows(subgroups(make(tmp_path, manifest)), attribute="sex", group="F", metric="auroc")
    assert [row["reason"] for row in rows] == ["all images of this group are positive"]


def test_the_target_is_not_a_group_of_itself(tmp_path):
    attributes_seen = {row["attribute"] for row in subgroups(make(tmp_path, tasks=(SEX,)))}
    assert "sex" not in attributes_seen
    assert "view" in attributes_seen


def test_age_bands_and_devices():
    manifest = pd.DataFrame({
        "age": [0, 17.9, 18, 39, 40, 60, 79.5, 80, 101, np.nan, -1],
        "label_pacemaker": [1, 0, np.nan, np.nan, 0, 0, 0, 0, 0, 0, 0],
        "label_support_devices": [0, 0, np.nan, 1, np.nan, 0, 0, 0, 0, 0, 0],
        "view": ["", None, *["PA"] * 9],
    })  # fmt: skip
    found = {one.name: one.groups.tolist() for one in attributes(manifest)}
    bands = [AGE_BANDS[i] for i in (0, 0, 1, 1, 2, 3, 3, 4, 4)]
    assert found["age band"] == [*bands, None, None]
    assert found["device"][:5] == ["device", "no device", None, "device", "no device"]
    assert found["view"][:3] == [None, None, "PA"]
    assert not attributes(pd.DataFrame({"sex": [None, None]}))


def groups_of(**columns) -> dict[str, list]:
    return {one.name: one.groups.tolist() for one in attributes(pd.DataFrame(columns))}


def test_a_gap_between_machines_is_found_of_its_own_accord(tmp_path):
    manifest = invented()
    manifest["manufacturer"] = np.array(["GE", "Philips", "Agfa"])[np.arange(len(manifest)) // 12 % 3]
    rows = subgroups(make(tmp_path, manifest, weak=("manufacturer", "GE")))
    (gap,) = only_rows(rows, metric="auroc", attribute="manufacturer", role="gap")
    assert gap["worst"] == "GE"
    assert gap["p_holm"] < 0.05


def test_all_of_the_acquisition_is_asked_for_where_it_is_known(tmp_path):
    known = {one.name for one in attributes(with_acquisition(invented()))}
    assert set(ACQUIRED) - known == {"exposure index"}, "two values are no thirds"
    assert not set(ACQUIRED) & {one.name for one in attributes(invented())}
    empty = dict.fromkeys(("kvp", "exposure_index", "portable"), np.nan) | dict.fromkeys(("station", "model"))
    assert not set(ACQUIRED) & {one.name for one in attributes(invented().assign(**empty))}


def test_voltages_and_portables():
    found = groups_of(kvp=[20, 89, 90, 109, 110, 150, np.nan], portable=[1, 0, np.nan, 1, 0, 0, 0])
    low, middle, high = KVP_BANDS
    assert found["kvp band"] == [low, low, middle, middle, high, high, None]
    yes, no = "portable", "not portable"
    assert found["portable"] == [yes, no, None, yes, no, no, no]
    assert "exposure index" not in found


def test_exposure_indices_are_thirds_of_one_scale():
    draw = np.random.default_rng(0)
    index = draw.permutation(90).astype(float) + 200
    makers = np.repeat(["Agfa", "GE", None], 30)
    scaled = np.where(makers == "GE", index * 10, index)
    found = np.array(groups_of(exposure_index=scaled, manufacturer=makers)["exposure index"])
    for maker in ("Agfa", "GE", None):
        inside = makers == maker
        order = np.argsort(scaled[inside])
        assert found[inside][order].tolist() == [third for third in THIRDS for _ in range(10)]
    same = groups_of(exposure_index=[5.0, 5, 5, 5, 1, 9], manufacturer=["GE"] * 4 + ["Agfa", "Agfa"])
    assert "exposure index" not in same, "one value, and two, are no thirds"
    plain = groups_of(exposure_index=[1.0, 2, 3, np.nan])["exposure index"]
    assert plain == [*THIRDS, None]


def test_of_many_stations_the_smallest_are_one_group():
    sizes = [40 - n for n in range(20)]
    stations = np.repeat([f"{n:02x}" * 10 for n in range(20)], sizes).astype(object)
    stations[:3] = None
    found = groups_of(station=stations)["station"]
    counted = pd.Series(found, dtype=object).value_counts()
    assert len(counted) == MOST_GROUPS
    assert counted[THE_REST] == sum(sizes[MOST_GROUPS - 1 :])
    assert found[:3] == [None] * 3
    assert set(counted.index) == {THE_REST, *(f"station {f'{n:02x}' * 4}" for n in range(MOST_GROUPS - 1))}
    few = groups_of(station=stations[np.isin(stations, [f"{n:02x}" * 10 for n in range(MOST_GROUPS)])])["station"]
    assert THE_REST not in few
