"""A shipped study from the command line to its page, at the size of a laptop and without a corpus."""

import json

from typer.testing import CliRunner

from raddino.cli import app
from report.test_html import Page


def test_a_shipped_study_runs_from_nothing_to_its_page(tmp_path):
    words = ["study", "metadata", "--size", "smoke", "--out", str(tmp_path), "--device", "cpu", "--workers", "1"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    page = tmp_path / "metadata-smoke/study.html"
    assert f"study: {page}" in done.output
    text = Page(page.read_text(encoding="utf-8")).text
    assert "rad-dino: its weights are not on this machine" in text
    assert "Synthetic data" in text
    data = json.loads(page.with_name("study.json").read_text(encoding="utf-8"))
    assert {one["condition"] for one in data["conditions"] if one["cells"]} == {"trained", "hog", "pca", "raddino-tiny"}
    assert {one["task"] for one in data["tasks"]} >= {"sex", "age", "weight", "bmi"}
    trained = data["conditions"][0]
    assert [cell["seeds"] for cell in trained["cells"]] == [2] * len(trained["cells"])
    assert (tmp_path / "metadata-smoke/study.csv").read_text(encoding="utf-8").count("\n") == len(data["rows"]) + 1
    (seen,) = (one for one in data["contamination"] if one["condition"] == "raddino-tiny")
    assert set(seen["sources"].values()) == {"image seen"}
