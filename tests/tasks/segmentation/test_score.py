"""Metrics of cases against a plain loop over images and classes, and on cases that a person can count."""

import numpy as np
import pandas as pd
import pytest

from raddino.tasks.segmentation.score import score_case, statistics
from raddino.tasks.segmentation.targets import IGNORE

METRICS = ["dice", "dice_nonempty", "dice_all", "iou", "false_alarm_rate", "surface_dice", "hd95"]


def table(*cases, names=("a", "b")):
    """Cases of (intersection, predicted, true, surface Dice, HD95) a class."""
    kinds = ("intersection", "predicted", "true", "surface_dice", "hd95")
    rows = [
        {
            f"{kind} ({name})": float(value)
            for name, numbers in zip(names, case, strict=True)
            for kind, value in zip(kinds, numbers, strict=True)
        }
        for case in cases
    ]
    return pd.DataFrame(rows)


def random_records(n, names, seed=0):
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(n):
        case = []
        for _ in names:
            p, t = rng.integers(1, 50, 2) * (rng.random(2) < 0.6)
            case.append(
                (rng.integers(0, min(p, t) + 1), p, t, rng.random() if p or t else np.nan, 9 if p and t else np.nan)
            )
        cases.append(case)
    return table(*cases, names=names)


def plain(records, names, metric):
    """The definition in words, image by image."""
    images = []
    for _, row in records.iterrows():
        values = []
        for name in names:
            i, p, t = (row[f"{kind} ({name})"] for kind in ("intersection", "predicted", "true"))
            if metric in ("surface_dice", "hd95"):
                values += [row[f"{metric} ({name})"]] if np.isfinite(row[f"{metric} ({name})"]) else []
            elif metric == "iou":
                values += [i / (p + t - i)] if p + t else []
            elif t or (p and metric != "dice_nonempty"):
                values.append(2 * i / (p + t))
            elif not p and metric == "dice_all":
                values.append(1.0)
        images += [np.mean(values)] if values else []
    return np.mean(images) if images else np.nan


def test_every_metric_equals_the_plain_loop_in_every_resample():
    names = ("left lung", "tube (chest)", "ptx")
    records = random_records(60, names)
    compute = statistics(records)
    assert list(compute) == METRICS + [f"dice ({name})" for name in names]
    weights = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=5)
    for metric in METRICS:
        if metric != "false_alarm_rate":
            assert compute[metric](None) == pytest.approx(plain(records, names, metric))
            repeated = [plain(records.loc[np.repeat(np.arange(60), w)], names, metric) for w in weights]
            assert compute[metric](weights.astype(float)) == pytest.approx(repeated)
    for name in names:
        assert compute[f"dice ({name})"](None) == pytest.approx(plain(records, [name], "dice"))


def test_false_alarms_are_shares_of_the_images_without_the_class():
    nan = np.nan
    alarm, quiet, there = (0, 3, 0, 0, nan), (0, 0, 0, nan, nan), (2, 2, 2, 1, 0)
    compute = statistics(table([alarm, there], [quiet, there], [quiet, there], [there, alarm]))
    assert compute["false_alarm_rate"](None) == pytest.approx((1 / 3 + 1) / 2)
    weights = np.array([[1, 1, 1, 0], [2, 1, 0, 1], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(compute["false_alarm_rate"](weights), [1 / 3, (2 / 3 + 1) / 2, nan])


def test_the_three_rules_on_one_class():
    nan = np.nan
    good, alarm, quiet, missed = (1, 2, 2, 0.8, 3), (0, 5, 0, 0, nan), (0, 0, 0, nan, nan), (0, 0, 4, 0, nan)
    records = table([good], [alarm], [quiet], [missed], names=["ptx"])
    values = {name: float(metric(None)) for name, metric in statistics(records).items()}
    assert values == pytest.approx(
        {
            "dice": 0.5 / 3, "dice_nonempty": 0.25, "dice_all": 1.5 / 4, "iou": 1 / 9,
            "false_alarm_rate": 0.5, "surface_dice": 0.8 / 3, "hd95": 3,
        }
    )  # fmt: skip
    only_quiet = {name: metric(np.array([0.0, 0, 1, 0])) for name, metric in statistics(records).items()}
    assert only_quiet["dice_all"] == 1
    assert only_quiet["false_alarm_rate"] == 0
    assert all(np.isnan(only_quiet[name]) for name in METRICS if name not in ("dice_all", "false_alarm_rate"))


def test_weights_of_any_shape_and_records_read_back(tmp_path):
    records = random_records(500, ["a", "b", "c"])
    records.to_parquet(tmp_path / "records.parquet")
    compute, again = statistics(records), statistics(pd.read_parquet(tmp_path / "records.parquet"))
    weights = np.random.default_rng(0).multinomial(500, np.full(500, 1 / 500), size=1000).astype(float)
    for name, metric in compute.items():
        values = metric(weights)
        assert values.shape == (1000,)
        np.testing.assert_array_equal(values, again[name](weights))
        np.testing.assert_allclose(metric(weights.reshape(10, 100, 500)).ravel(), values)
        assert metric(weights[0]) == pytest.approx(values[0])


def square(rows, columns, bit, shape=(20, 24)):
    bits = np.zeros(shape, np.int32)
    bits[rows, columns] = 1 << bit
    return bits


def test_a_case_is_counted_per_class():
    true = square(slice(2, 12), slice(2, 12), 0) | square(slice(0, 4), slice(0, 4), 1)
    predicted = square(slice(2, 12), slice(4, 14), 0)
    record = score_case(predicted, true, ["lung", "heart", "ptx"], tolerance=2)
    assert {name: record[name] for name in record if name.endswith("(lung)")} == pytest.approx(
        {
            "intersection (lung)": 80, "predicted (lung)": 100, "true (lung)": 100,
            "surface_dice (lung)": 1, "hd95 (lung)": 2,
        }
    )  # fmt: skip
    assert record["true (heart)"] == 16
    assert record["surface_dice (heart)"] == 0
    assert np.isnan([record["hd95 (heart)"], record["surface_dice (ptx)"], record["hd95 (ptx)"]]).all()
    assert all(type(value) is float for value in record.values())
    assert statistics(pd.DataFrame([record]))["dice"](None) == pytest.approx((0.8 + 0) / 2)


def test_ignored_pixels_count_nowhere():
    true = square(slice(2, 12), slice(2, 12), 0)
    predicted = true.copy()
    predicted[:, 12:] = 1
    ignored = true.copy()
    ignored[:, 12:] = IGNORE
    record = score_case(predicted, ignored, ["lung"], tolerance=1)
    assert [record[f"{kind} (lung)"] for kind in ("intersection", "predicted", "true")] == [100, 100, 100]
    assert record["surface_dice (lung)"] == 1
    whole = score_case(predicted, np.full_like(true, IGNORE), ["lung"], tolerance=1)
    assert whole["predicted (lung)"] == whole["true (lung)"] == 0


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        score_case(np.zeros((4, 4), np.int32), np.zeros((4, 5), np.int32), ["a"], 1)
