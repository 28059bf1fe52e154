"""Arms that are finished stay so, interrupted ones go on, failed ones cost their own rows, and studies share."""

import json

import pytest
import yaml

from raddino.errors import ConfigError, RaddinoError, UnwritableError
from raddino.report.study import study, write_study
from raddino.study import run as runs
from raddino.study.outcome import outcome
from raddino.study.plan import _bytes
from raddino.study.run import reasons_of, run_all, run_arm
from raddino.training import loop
from raddino.training.metrics_log import read_metrics

from .conftest import VALUES


def no(*args, **kwargs):
    raise AssertionError("done again")


@pytest.fixture(scope="module")
def ran(corpus, tmp_path_factory):
    """A finished study and its folder."""
    place = tmp_path_factory.mktemp("ran")
    (place / "own.yaml").write_text(yaml.safe_dump(VALUES, sort_keys=False), encoding="utf-8")
    page = study(str(place / "own.yaml"), place / "out", corpora=[str(corpus.path)], device="cpu", workers=0)
    return place, page


def test_every_arm_has_numbers(ran):
    place, page = ran
    data = json.loads(page.with_name("study.json").read_text(encoding="utf-8"))
    assert [one["condition"] for one in data["conditions"]] == ["fraction 30 %", "fraction 100 %", "hog"]
    for one in data["conditions"]:
        assert [arm["state"] for arm in one["arms"]] == ["finished"]
        assert {cell["task"]: cell["metric"] for cell in one["cells"]} == {"sex": "auroc", "age": "mae"}
        digest = one["arms"][0]["digest"]
        (folder,) = (place / "out/results").glob(f"{digest}-*")
        rows = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["rows"]
        for cell in one["cells"]:
            (row,) = (row for row in rows if (row["task"], row["metric"]) == (cell["task"], cell["metric"]))
            assert (cell["value"], cell["low"], cell["high"]) == (row["value"], row["low"], row["high"])
    assert not (place / "out/features").exists() or not list((place / "out/features").iterdir())
    assert not list((place / "out").glob("failed/*"))


def test_the_disk_that_was_planned_is_what_a_run_leaves(ran, planned, values):
    """Two checkpoints of three, one of which was being written, and two encoders; headers of these tiny files aside."""
    place, _ = ran
    arm = planned(values).jobs[0]
    run = place / "out/runs" / arm.digest
    checkpoints = sum(file.stat().st_size for file in run.glob("checkpoints/*/*.safetensors"))
    encoders = sum(file.stat().st_size for file in run.glob("*/model.safetensors"))
    assert len(list(run.glob("checkpoints/step_*"))) == 2
    assert _bytes(arm) == pytest.approx(1.5 * checkpoints + encoders, rel=0.15)


def test_finished_arms_are_not_run_again_and_the_report_is_the_same(ran, corpus, monkeypatch, capsys):
    place, page = ran
    before = {name: page.with_name(name).read_bytes() for name in ("study.json", "study.csv", "study.html")}
    monkeypatch.setattr(runs, "pretrain", no)
    monkeypatch.setattr(runs, "evaluate", no)
    again = study(str(place / "own.yaml"), place / "out", corpora=[str(corpus.path)], device="cpu", workers=0)
    assert again == page
    assert {name: page.with_name(name).read_bytes() for name in before} == before
    assert "nothing is left to be trained" in capsys.readouterr().out


def test_two_studies_share_their_arms(ran, planned, values, monkeypatch):
    """Another name, another order, another question asked of the arms: the training is there."""
    place, _ = ran
    values["question"] = "Something else?"
    values["arms"] = {"only": {"title": "One", "vary": {"share": {"whole": {"fraction": 1.0}}}}}
    values["tasks"] = {"other": {"targets": ["sex"], "probe": {"kind": "logistic"}}}
    made = planned(values, place / "out", name="another")
    assert made.state(made.arms[0]) == "trained"
    monkeypatch.setattr(runs, "pretrain", no)
    run_all(made, device="cpu")
    assert made.state(made.arms[0]) == "finished"
    values["tasks"]["age"] = {"targets": ["age"], "probe": {"kind": "logistic"}}
    more = planned(values, place / "out", name="another")
    assert [unit.name for unit in more.left(more.arms[0])] == ["age"]


def test_arms_of_one_digest_are_one_job(planned, values):
    values["arms"]["again"] = {"vary": {"share": {"whole": {"fraction": 1.0}}}}
    made = planned(values)
    assert [arm.label for arm in made.jobs] == ["fraction 30 %", "fraction 100 %", "hog"]
    assert made.arms[1].digest == made.arms[3].digest


def test_an_interrupted_arm_goes_on_from_its_checkpoint(ran, planned, values, tmp_path, monkeypatch):
    place, _ = ran
    made, seen, step = planned(values, tmp_path / "new"), [], loop.train_step

    def stop(*args, **kwargs):
        seen.append(args[4].step)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(loop, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        run_all(made, device="cpu", workers=0)
    arm = made.jobs[0]
    assert made.state(arm) == "at step 4"
    assert not made.is_trained(arm)
    run_arm(made, 0, device="cpu", workers=0)
    assert seen[7:] == list(range(4, 10)), "from the checkpoint, not from the start"
    assert made.state(arm) == "finished"
    whole = (place / "out/runs" / arm.digest / "encoder/model.safetensors").read_bytes()
    assert (made.run_folder(arm) / "encoder/model.safetensors").read_bytes() == whole, "as without the stop"
    assert [line["step"] for line in read_metrics(made.run_folder(arm) / "metrics.jsonl") if "loss" in line] == [
        *range(10)
    ]


def test_a_failed_arm_costs_its_own_rows_and_is_tried_again(planned, values, tmp_path, monkeypatch, capsys):
    values["arms"]["floors"]["encoders"] = ["biovil-t", "hog"]
    values["arms"]["quantity"]["vary"] = {"fraction": [0.001, 1.0], "seed": [3]}
    made, pretrain = planned(values, tmp_path / "new"), runs.pretrain
    monkeypatch.setattr(runs, "pretrain", lambda *args, **kwargs: 1 / 0)
    run_all(made, device="cpu", workers=0)
    assert "fraction 100 %, seed 3: training failed with ZeroDivisionError" in capsys.readouterr().err
    data = outcome(made)
    reasons = {one["arm"]: one["reason"] for one in data["failed"]}
    assert reasons["fraction 100 %, seed 3"] == "training failed with ZeroDivisionError"
    assert "too few for batch_size" in reasons["fraction 0.1 %, seed 3"]
    assert "weights are not on this machine" in reasons["biovil-t"]
    assert {row["condition"] for row in data["rows"]} == {"hog"}
    monkeypatch.setattr(runs, "pretrain", pretrain)
    run_all(made, device="cpu", workers=0)
    assert made.state(made.jobs[0]) == "finished"
    assert reasons_of(made, made.jobs[0]) == []
    assert not made.failure(made.jobs[0]).exists()
    assert "biovil-t" in write_study(made).read_text(encoding="utf-8")


def test_an_evaluation_that_fails_leaves_the_others(planned, values, tmp_path):
    values["arms"] = {"floors": {"encoders": ["hog"]}}
    values["tasks"] = {
        "absent": {"suite": "vindr-cxr-7"},
        "metadata": {"targets": ["age"], "probe": {"kind": "logistic"}},
    }
    made = planned(values, tmp_path / "new")
    with pytest.raises(RaddinoError, match="absent: "):
        run_arm(made, 0, device="cpu")
    assert [unit.name for unit in made.left(made.jobs[0])] == ["absent"]
    data = outcome(made)
    assert {row["unit"] for row in data["rows"]} == {"metadata"}
    assert data["failed"][0]["reason"].startswith("absent: ")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UnwritableError("No space there")])
def test_a_full_disk_ends_the_study(planned, values, tmp_path, monkeypatch, error):
    made = planned(values, tmp_path / "new")

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(runs, "pretrain", full)
    with pytest.raises(OSError, match="No space"):
        run_all(made, device="cpu", workers=0)


def test_one_arm_alone(planned, values, tmp_path):
    made = planned(values, tmp_path / "new")
    run_arm(made, 2, device="cpu")
    assert [made.state(arm) for arm in made.jobs] == ["waiting", "waiting", "finished"]
    with pytest.raises(ConfigError, match="--arm takes 0 to 2, got 3"):
        run_arm(made, 3)


def test_one_of_several_processes_trains_and_does_not_judge(planned, values, tmp_path, monkeypatch):
    made = planned(values, tmp_path / "new")
    monkeypatch.setattr(runs, "pretrain", lambda corpus, folder, *_, **__: folder.mkdir(parents=True))
    monkeypatch.setattr(runs, "evaluate", no)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    run_arm(made, 0, device="cpu")
    run_arm(made, 2, device="cpu")
    assert [made.state(arm) for arm in made.jobs] == ["trained", "waiting", "waiting"]


def test_a_study_without_numbers_says_why(planned, values, tmp_path):
    values["arms"] = {"floors": {"encoders": ["biovil-t"]}}
    made = planned(values, tmp_path / "new")
    run_all(made, device="cpu")
    with pytest.raises(RaddinoError, match=r"no arm of the study has results: biovil-t: .*weights are not"):
        write_study(made)


def test_sites_are_left_out_in_turn(planned, values, tmp_path, corpus):
    values["arms"] = {"floors": {"encoders": ["hog", "pca"]}}
    values["tasks"] = {"sites": {"leave_one_out": True, "targets": ["age"], "probe": {"kind": "logistic"}}}
    made = planned(values, tmp_path / "new")
    assert [unit.name for unit in made.units] == ["sites without synthetic-a", "sites without synthetic-b"]
    assert [(unit.judged.train_on, unit.judged.test_on) for unit in made.units] == [
        (("synthetic-b",), ("synthetic-a",)),
        (("synthetic-a",), ("synthetic-b",)),
    ]
    values["tasks"]["sites"]["where"] = "source == 'synthetic-a'"
    assert planned(values).units[0].digest != made.units[0].digest
