import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raddino.benchmark.compare import Comparison
from raddino.benchmark.leaderboard import Leaderboard
from raddino.report.page import comparison_text, leaderboard_text, write_comparison, write_leaderboard
from raddino.report.terminal import LEGEND, SEEDS, text_table

from .test_html import Page


def difference(value: float, p: float) -> dict:
    return {"to": "A", "value": value, "low": value - 0.05, "high": value + 0.05, "p": p, "p_holm": p, "test": "DeLong"}


@pytest.fixture
def comparison() -> Comparison:
    shared = {"encoder": "x<y", "n": 90, "positives": 40, "prevalence": 0.44, "patients": 60, "split": "test"}
    rows = [
        shared | {"task": "sex", "metric": "auroc", "other": "x<y", "a": 0.7, "b": 0.85,
                  "difference": difference(0.15, 1e-4)},
        shared | {"task": "age", "metric": "mae", "other": "z", "a": 9.5, "b": 9.4,
                  "difference": difference(-0.1, np.nan), "positives": None},
    ]  # fmt: skip
    refused = [{"task": "bmi", "encoder": "x<y", "metric": "r2", "reason": "only A has this number"}]
    return Comparison({"a": "old", "b": "new", "synthetic": "mixed", "seed": 3, "resamples": 1000, "rows": rows,
                       "refused": refused, "notes": ["A note."]})  # fmt: skip


@pytest.fixture
def board() -> Leaderboard:
    row = {"board": 1, "task": "sex", "metric": "auroc", "rank": 1, "encoder": "x<y", "value": 0.85, "low": 0.8,
           "high": 0.9, "median": 0.85, "n": 90, "positives": 40, "prevalence": 0.44, "patients": 60, "seen": "clean",
           "synthetic": "false", "folder": "one", "probe": "linear", "members": "", "excluded": 4,
           "seed_sd": 0.012, "data_fingerprint": "d" * 64}  # fmt: skip
    rows = [row, row | {"rank": 2, "encoder": "z", "value": 0.7, "folder": "two", "seen": "label seen"}]
    rows.append(
        row
        | {
            "board": 2,
            "task": "age",
            "metric": "mae",
            "value": 9.5,
            "positives": None,
            "prevalence": None,
            "excluded": None,
            "seed_sd": None,
            "members": "2 of 3: a, b",
        }
    )
    return Leaderboard(pd.DataFrame(rows).astype({"positives": "Int64"}), ["sex, auroc: kept apart."], folders=3)


def test_a_comparison_is_told_in_full(comparison: Comparison, tmp_path: Path) -> None:
    text = comparison_text(comparison)
    page = Page(write_comparison(comparison, tmp_path / "out").read_text(encoding="utf-8"))
    for words in ("new (B) against old (A): 1 of 2 differences clear", "+0.150", "< 0.001", "−0.100",
                  "90, 40 positive (44 %)",
                  "x<y → z", "R²", "only A has this number", "A note.", "1000, seed 3"):  # fmt: skip
        assert words in text
        assert words in page.text
    assert [line for line in text.splitlines() if line.startswith("*sex")]
    assert not [line for line in text.splitlines() if line.startswith("*age")]
    assert "Partly synthetic" in page.text
    written = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert written["rows"][1]["difference"]["p"] is None
    assert written["rows"][0] == comparison.data["rows"][0]


def test_a_leaderboard_is_told_in_full(board: Leaderboard, tmp_path: Path) -> None:
    text = leaderboard_text(board)
    page = Page(write_leaderboard(board, tmp_path / "out").read_text(encoding="utf-8"))
    assert "Leaderboard of 3 result folders" in page.text
    for words in ("x<y", "0.850 ±0.012", "0.800 to 0.900", "label seen", "sex, auroc: kept apart.",
                  "40 positive (44 %)",
                  "age: MAE, lower is better (n = 90, 60 patients, mean of 2 of 3: a, b, data dddddddd)",
                  "sex: AUROC (n = 90, 4 excluded, 60 patients"):  # fmt: skip
        assert words in text
        assert words in page.text
    assert "ynthetic" not in page.text
    assert len(pd.read_csv(tmp_path / "out" / "leaderboard.csv")) == 3


@pytest.mark.parametrize("writer", ["comparison", "board"])
def test_pages_load_nothing(comparison: Comparison, board: Leaderboard, tmp_path: Path, writer: str) -> None:
    path = write_comparison(comparison, tmp_path) if writer == "comparison" else write_leaderboard(board, tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [value for _, name, value in page.attributes if name in {"src", "href"}]


def test_the_terminal_marks_what_the_paper_marks(metrics: dict) -> None:
    for row in metrics["rows"]:
        if row["difference"]:
            row["difference"]["p_holm"] = 0.01 if row["encoder"] == "initial" else 0.5
    metrics["absent"].append({"task": None, "encoder": None, "analysis": "subgroups", "reason": "too few"})
    text = text_table(metrics)
    lines = [line for line in text.splitlines() if line.startswith("  initial")]
    assert len(lines) == 3
    assert all("!" in line for line in lines)
    assert not any("!" in line for line in text.splitlines() if line.startswith("  pca"))
    assert text.splitlines()[-2:] == [LEGEND, SEEDS]
    assert sum(line.count("*") for line in text.splitlines()[:-2]) == 6
    assert sum(line.count("+") for line in text.splitlines()[:-2]) == 6
    assert "analysis subgroups: too few" in text
