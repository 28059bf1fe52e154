"""Trackers get the log's numbers and nothing else, go on with their run, and cost nothing when they fail."""

import json
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from raddino.errors import ConfigError
from raddino.training import trackers
from raddino.training.metrics_log import MetricsLog, read_metrics
from raddino.training.pretrain import PretrainConfig, pretrain
from raddino.training.trackers import RUNS, Tracking, check_trackers

VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT")


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """The user's own settings would send the tests' runs away."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Book:
    """A tracker that writes into a list."""

    def __init__(self, fails=()):
        self.lines, self.starts, self.closed, self.fails = [], [], 0, fails

    def __call__(self, out, config, start):
        if "open" in self.fails:
            raise OSError("no server at http://secret")
        self.starts.append(start)
        return self

    def log(self, step, numbers):
        if "log" in self.fails and step >= 1:
            raise ValueError("patient 17")
        self.lines.append((step, dict(numbers)))

    def close(self):
        if "close" in self.fails:
            raise RuntimeError
        self.closed += 1


@pytest.fixture
def book(monkeypatch):
    def add(name, fails=()):
        made = Book(fails)
        monkeypatch.setitem(trackers.TRACKERS, name, ("json", made))
        return made

    return add


def log_of(tmp_path, names, lines):
    with Tracking(names, tmp_path, PretrainConfig()) as tracking:
        log = MetricsLog(tmp_path / "metrics.jsonl", 0, tracking)
        for line in lines:
            log.write(line)
        log.close()


def test_numbers_alone_are_passed_on(tmp_path, book):
    one = book("one")
    lines = [
        {"step": 3, "loss": 1.5, "samples": 8, "bad": float("nan")},
        {"step": 3, "monitor": True, "rank": 2.0, "verdict": "healthy"},
        {"step": 4, "failure": ["loss"], "ids": ["patient-17"]},
    ]
    log_of(tmp_path, ["one", "one"], lines)
    assert one.lines == [(3, {"loss": 1.5, "samples": 8.0}), (3, {"rank": 2.0}), (4, {})]
    assert (one.starts, one.closed) == ([3], 1)


@pytest.mark.parametrize("fails", ["open", "log", "close"])
def test_one_that_fails_is_said_once_and_costs_nothing(tmp_path, book, capsys, fails):
    bad, good = book("bad", [fails]), book("good")
    log_of(tmp_path, ["bad", "good"], [{"step": step, "loss": 1.0} for step in range(5)])
    said = capsys.readouterr().err
    assert said.startswith("tracker bad fails (")
    assert said.count("\n") == 1
    assert "secret" not in said
    assert "patient" not in said
    assert len(good.lines) == len(read_metrics(tmp_path / "metrics.jsonl")) == 5
    assert len(bad.lines) == {"open": 0, "log": 1, "close": 5}[fails]


def test_one_that_hangs_is_not_waited_for(tmp_path, book, capsys, monkeypatch):
    hanging, end = book("hanging"), threading.Event()
    monkeypatch.setattr(hanging, "log", lambda step, numbers: end.wait(60))
    monkeypatch.setattr(trackers, "WAITING_LINES", 3)
    monkeypatch.setattr(trackers, "PATIENCE_SECONDS", 0.2)
    begun = time.monotonic()
    log_of(tmp_path, ["hanging"], [{"step": step} for step in range(3)])
    assert "tracker hanging does not finish" in capsys.readouterr().err
    log_of(tmp_path, ["hanging"], [{"step": step} for step in range(20)])
    assert "tracker hanging does not keep up" in capsys.readouterr().err
    assert time.monotonic() - begun < 30
    end.set()


def test_unknown_and_absent_trackers_are_refused_before_anything(corpus, tiny, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="Did you mean 'wandb'"):
        check_trackers(["wandbb"])
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", ("no_such_package", Book()))
    with pytest.raises(ConfigError, match=r"tracker mlflow is not installed: pip install 'raddino\[track\]'"):
        pretrain(corpus, tmp_path / "run", PretrainConfig(**tiny), device="cpu", workers=0, track=["mlflow"])
    assert not (tmp_path / "run").exists()


def runs(corpus, tiny, out, names):
    """Five steps, then the last three again from the checkpoint of step 3, and three more."""
    config = PretrainConfig(**{**tiny, "steps": 6, "monitor": {**tiny["monitor"], "every": 100}})
    pretrain(corpus, out, config, device="cpu", workers=1, track=names)
    for folder in ("checkpoints/step_6",):
        for file in (out / folder).iterdir():
            file.unlink()
        (out / folder).rmdir()
    pretrain(corpus, out, config, device="cpu", workers=1, track=names)
    return [line for line in read_metrics(out / "metrics.jsonl") if "loss" in line]


def test_a_run_computes_the_same_with_trackers_that_fail(corpus, tiny, tmp_path, book):
    book("bad", ["log"])
    config = PretrainConfig(**{**tiny, "steps": 2})
    for name, track in (("plain", ()), ("tracked", ["bad"])):
        pretrain(corpus, tmp_path / name, config, device="cpu", workers=0, track=track)
    one, other = (load_file(tmp_path / name / "encoder/model.safetensors") for name in ("plain", "tracked"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_tensorboard_goes_on_with_its_run(corpus, tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = runs(corpus, tiny, tmp_path / "run", ["tensorboard"])
    events = EventAccumulator(str(tmp_path / "run/tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines]
    assert "verdict" not in events.Tags()["scalars"]


def test_mlflow_goes_on_with_its_run_in_the_run_folder(corpus, tiny, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    tiny = {**tiny, "where": "view != 'patient-17'"}
    lines = runs(corpus, tiny, tmp_path / "run", ["mlflow"])
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "run/mlflow").as_uri())
    experiment = client.get_experiment_by_name("raddino")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_id == json.loads((tmp_path / "run" / RUNS).read_text(encoding="utf-8"))["mlflow"]
    found = {metric.step: metric.value for metric in client.get_metric_history(run.info.run_id, "loss")}
    assert found == {line["step"]: line["loss"] for line in lines}
    assert run.data.params["vit.depth"] == "2"
    assert "where" not in run.data.params


def test_wandb_goes_on_with_its_run_offline(corpus, tiny, tmp_path):
    wandb = pytest.importorskip("wandb")
    runs(corpus, {**tiny, "where": "view != 'patient-17'"}, tmp_path / "run", ["wandb"])
    folders = sorted((tmp_path / "run/wandb").glob("offline-run-*"))
    name = json.loads((tmp_path / "run" / RUNS).read_text(encoding="utf-8"))["wandb"]
    assert len(folders) == 2
    assert all(folder.name.endswith(name) for folder in folders)
    wandb.teardown()  # its own process writes the files, and has when it ends
    for folder in folders:
        data = (folder / f"run-{name}.wandb").read_bytes()
        assert b"koleo" in data
        assert b"patient-17" not in data
