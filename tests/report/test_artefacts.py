import json
from pathlib import Path

import pytest

from raddino.errors import RaddinoError
from raddino.report.artefacts import public, read_results, read_run, tagged

from .fabricated import fabricate_metrics, fabricate_predictions, log_lines, write_results, write_run


def test_folders_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(RaddinoError, match=r"no metrics\.json "):
        read_results(tmp_path)
    with pytest.raises(RaddinoError, match=r"no metrics\.jsonl"):
        read_run(tmp_path)
    (tmp_path / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(RaddinoError, match="is damaged"):
        read_results(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps({"format": 99, "rows": []}), encoding="utf-8")
    with pytest.raises(RaddinoError, match="format 99"):
        read_results(tmp_path)


def test_empty_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RaddinoError, match="no step"):
        read_run(write_run(tmp_path, [], tail='{"step": 0, "lo'))


def test_a_resumed_and_killed_log_keeps_the_last_word_on_each_step(tmp_path: Path) -> None:
    lines = [{"step": s, "loss": 1.0} for s in range(5)] + [{"step": s, "loss": 2.0} for s in range(3, 6)]
    run = read_run(write_run(tmp_path, lines, tail='{"step": 6, "lo'))
    assert run.steps["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert run.steps["loss"].tolist() == [1, 1, 1, 2, 2, 2]
    assert run.unreadable == 1


def test_monitor_lines_stand_apart_and_synthetic_is_found(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, log_lines(80)))
    assert len(run.steps) == 80
    assert run.monitors["step"].tolist() == [39, 79]
    assert run.synthetic is True


def test_public_leaves_out_places_machines_and_people() -> None:
    values = {
        "optim": {"lr": 0.001, "betas": [0.9, 0.99]}, "corpus": "data/x", "hostname": "ward-7", "user": "me",
        "note": "from /home/me/x", "windows": r"C:\me", "init": "~/weights", "vit": "vit-b/14", "none": None,
    }  # fmt: skip
    assert public(values) == {"optim.lr": "0.001", "optim.betas": "0.9, 0.99", "vit": "vit-b/14"}


@pytest.mark.parametrize("text", ['{"format": 1, "rows": [{"x": 1}]}', '{"format": 1, "rows": [], "encoders": [1]}'])
def test_damaged_results_are_a_one_line_error(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text, encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"damaged .*: evaluate again"):
        read_results(tmp_path)


def test_damaged_predictions_are_a_one_line_error(tmp_path):
    (tmp_path / "metrics.json").write_text('{"format": 1, "rows": []}', encoding="utf-8")
    (tmp_path / "predictions.parquet").write_bytes(b"x")
    with pytest.raises(RaddinoError, match=r"predictions\.parquet is damaged"):
        read_results(tmp_path)


def test_random_weights_are_called_so_wherever_a_name_stands(tmp_path: Path) -> None:
    predictions = fabricate_predictions()
    metrics = fabricate_metrics(predictions)
    assert tagged(metrics) is metrics
    for encoder in metrics["encoders"][:2]:
        encoder["provenance"]["note"] = "random weights"
    row = {"encoder": "trained", "task": "trained", "metric": None, "value": None, "low": None, "high": None, "n": None,
           "role": None, "reason": "too few"}  # fmt: skip
    metrics["analyses"] = {"calibration": [row]}
    found = read_results(write_results(tmp_path, metrics, predictions))
    assert {row["encoder"] for row in found.metrics["rows"]} == {
        "trained (random weights)", "initial (random weights)", "pca", "hog"
    }  # fmt: skip
    assert set(found.predictions["encoder"]) == {row["encoder"] for row in found.metrics["rows"]}
    assert found.metrics["rows"][1]["difference"]["to"] == "trained (random weights)"
    assert found.metrics["analyses"]["calibration"] == [row | {"encoder": "trained (random weights)"}]
    assert tagged(found.metrics) is found.metrics
