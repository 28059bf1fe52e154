"""A metrics file is cut back exactly on resume, and what is damaged ends it."""

import json

import pytest

from raddino.training.metrics_log import LONGEST_LINE, MetricsLog, read_metrics


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    assert path.read_text(encoding="utf-8") == ""
    log.write({"step": 0, "loss": 1.5, "bad": float("nan"), "worse": float("inf"), "verdict": "healthy", "n": 3})
    assert path.read_text(encoding="utf-8") == "", "only flush hands it on"
    log.write({"step": 1, "loss": 2})
    log.flush()
    clean = [{"step": 0, "loss": 1.5, "bad": None, "worse": None, "verdict": "healthy", "n": 3}, {"step": 1, "loss": 2}]
    assert lines(path) == read_metrics(path) == clean
    log.flush()
    assert len(lines(path)) == 2, "nothing is written twice"
    log.write({"step": 2})
    log.close()
    assert [line["step"] for line in lines(path)] == [0, 1, 2]
    with pytest.raises(ValueError, match="closed"):
        log._file.write(b"")


def test_a_resumed_run_drops_what_it_will_log_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}}}\n' for step in (0, 1, 1, 2, 3)) + '{"step": 4, "lo', encoding="utf-8")
    log = MetricsLog(path, 2)
    log.write({"step": 2, "again": True})
    log.close()
    assert lines(path) == [{"step": 0}, {"step": 1}, {"step": 1}, {"step": 2, "again": True}]


@pytest.mark.parametrize("damaged", ["{", "[]", "3", '{"loss": 1}', '{"step": "1"}', '{"step": true}', "[" * 100_000])
def test_a_damaged_line_ends_the_list(tmp_path, damaged):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 0}}\n{damaged}\n{{"step": 2}}\n', encoding="utf-8")
    assert read_metrics(path) == [{"step": 0}]


def test_no_file_has_no_lines(tmp_path):
    assert read_metrics(tmp_path / "absent") == read_metrics(tmp_path) == []


def test_a_line_without_an_end_is_not_read_whole(tmp_path):
    assert LONGEST_LINE == 16 * 2**20
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1, "x": "' + "a" * LONGEST_LINE + '"}\n', encoding="utf-8")
    assert read_metrics(path) == [{"step": 0}]


def test_what_the_system_takes_in_parts_is_written_whole(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    file = log._file

    class Slow:
        def write(self, data):
            return file.write(data[:3])

    log._file = Slow()
    log.write({"step": 0, "loss": 0.25})
    log.flush()
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 0, "loss": 0.25}]
