"""Merged leaderboards: ranked together only what is comparable, whatever the order of the folders."""

import itertools
import json

import pandas as pd
import pytest

from raddino.benchmark.leaderboard import COLUMNS, leaderboard
from raddino.benchmark.results import RANDOM, Results
from raddino.errors import RaddinoError
from raddino.files import write_json
from raddino.report.page import leaderboard_sheets

ROW = {
    "task": "sex", "metric": "auroc", "median": 0.8, "split": "test", "n": 90, "positives": 40, "prevalence": 0.44,
    "patients": 60, "resamples": 1000, "seed": 0, "data_fingerprint": "d" * 64, "difference": None, "detail": {},
}  # fmt: skip


def folder(place, name, values, *, synthetic=False, probe=None, **changes):
    """A result folder with one row for each encoder: name to (value, fingerprint)."""
    rows = []
    for encoder, (value, weights) in values.items():
        row = {**ROW, "encoder": encoder, "value": value, "low": value - 0.1, "high": value + 0.1} | changes
        row |= {"encoder_fingerprint": weights * 64, "signature": f"{row['metric']}|B:{row['resamples']}|{weights}"}
        rows.append(row)
    data = {
        "format": 1, "synthetic": synthetic, "seed": 0, "suite": {"probe": probe or {"kind": "linear"}},
        "encoders": [{"name": name, "seen": "clean"} for name in values], "rows": rows, "absent": [],
    }  # fmt: skip
    (place / name).mkdir()
    (place / name / "metrics.json").write_text(json.dumps(data), encoding="utf-8")
    columns = ("task", "encoder", "id", "patient", "split", "target", "score")
    pd.DataFrame({name: [] for name in columns}).to_parquet(place / name / "predictions.parquet")
    return place / name


def ranks(board):
    return {(row["board"], row["encoder"]): row["rank"] for row in board.rows.to_dict("records")}


def test_machines_merge_into_one_ranking(tmp_path):
    one = folder(tmp_path, "one", {"x": (0.8, "a"), "y": (0.7, "b")})
    two = folder(tmp_path, "two", {"z": (0.75, "c"), "w": (0.7, "e")})
    board = leaderboard([one, two])
    assert ranks(board) == {(1, "x"): 1, (1, "z"): 2, (1, "w"): 3, (1, "y"): 3}
    assert list(board.rows) == list(COLUMNS)
    assert board.notes == []
    assert set(board.rows["folder"]) == {"one", "two"}
    board.save(tmp_path / "board.csv")
    assert len(pd.read_csv(tmp_path / "board.csv")) == 4


def test_lower_errors_rank_first(tmp_path):
    values = {"x": (9.0, "a"), "y": (12.0, "b")}
    one = folder(tmp_path, "one", values, metric="mae", positives=None, prevalence=None)
    assert ranks(leaderboard([one])) == {(1, "x"): 1, (1, "y"): 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_fingerprint": "e" * 64}, "data fingerprint"),
        ({"n": 91, "positives": 41}, "n, positives"),
        ({"split": "val"}, "split"),
        ({"probe": {"kind": "knn"}}, "probe"),
        ({"detail": {"tasks": ["a", "b"]}}, "members"),
        ({"members": ["a", "b"], "listed": 3}, "members"),
    ],
)
def test_what_is_not_comparable_stands_on_its_own_board_and_is_said(tmp_path, change, words):
    board = leaderboard(
        [folder(tmp_path, "one", {"x": (0.8, "a")}), folder(tmp_path, "two", {"y": (0.9, "b")}, **change)]
    )
    assert sorted(ranks(board).values()) == [1, 1]
    assert set(board.rows["board"]) == {1, 2}
    assert board.notes == [f"sex, auroc: 2 boards that must not be ranked together ({words})."]


def test_other_resamples_do_not_part_values(tmp_path):
    board = leaderboard(
        [folder(tmp_path, "one", {"x": (0.8, "a")}), folder(tmp_path, "two", {"y": (0.9, "b")}, resamples=500)]
    )
    assert ranks(board) == {(1, "y"): 1, (1, "x"): 2}


def test_the_same_weights_count_once_whatever_they_are_called(tmp_path):
    folders = [
        folder(tmp_path, "one", {"x": (0.8, "a"), "y": (0.6, "b")}, resamples=100),
        folder(tmp_path, "two", {"x again": (0.81, "a")}),
        folder(tmp_path, "three", {"x": (0.8, "a")}),
    ]
    boards = [leaderboard(order) for order in itertools.permutations(folders)]
    for board in boards:
        pd.testing.assert_frame_equal(board.rows, boards[0].rows)
        assert board.notes == [
            "1 number of one stands also in three (same weights, same images, equal): shown once.",
            "1 number of two stands also in three (same weights, same images, at most 0.01 apart): shown once.",
        ]
        assert board.folders == 3
    kept = boards[0].rows.iloc[0]
    assert (kept["encoder"], kept["folder"], kept["value"]) == ("x", "three", 0.8)


def test_random_weights_are_called_so(tmp_path):
    one = folder(tmp_path, "one", {"x": (0.8, "a"), "x (random)": (0.7, "b")})
    data = json.loads((one / "metrics.json").read_text(encoding="utf-8"))
    for encoder in data["encoders"]:
        encoder["provenance"] = {"sources": [], "supervision": "none", "note": RANDOM}
    write_json(one / "metrics.json", data)
    names = ["x (random weights)", "x (random)"]
    assert leaderboard([one]).rows["encoder"].tolist() == names
    assert Results.open(one).leaderboard()["encoder"].tolist() == names


def test_boards_say_their_probe(tmp_path):
    other = {"kind": "zero_shot", "features": "mean_patch", "flips": True}
    board = leaderboard([folder(tmp_path, "one", {"x": (0.8, "a")}),
                         folder(tmp_path, "two", {"x": (0.8, "a")}, probe=other)])  # fmt: skip
    assert board.rows["probe"].tolist() == ["linear", "zero-shot on mean_patch with flips"]
    titles = [sheet.title for sheet in leaderboard_sheets(board)]
    assert "AUROC, linear probe" in titles[0]
    assert "AUROC, zero-shot on mean_patch with flips probe" in titles[1]


def test_one_name_for_two_weights_gets_surnames(tmp_path):
    board = leaderboard([folder(tmp_path, "one", {"x": (0.8, "a")}), folder(tmp_path, "two", {"x": (0.7, "b")})])
    assert ranks(board) == {(1, "x (aaaaaaaa)"): 1, (1, "x (bbbbbbbb)"): 2}


def test_nothing_to_merge_is_refused(tmp_path):
    with pytest.raises(RaddinoError, match="at least one"):
        leaderboard([])
    with pytest.raises(RaddinoError, match="no results"):
        leaderboard([tmp_path])
    with pytest.raises(RaddinoError, match="no headline number"):
        leaderboard([folder(tmp_path, "one", {"x": (0.8, "a")}, metric="ece")])
