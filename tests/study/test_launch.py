"""Scripts for clusters, as far as one machine can try them: parsed, and run with stand-ins."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from torch.distributed.run import parse_args
from typer.main import get_command

from raddino import cli
from raddino.errors import ConfigError, RaddinoError
from raddino.report.study import _words
from raddino.study import launch
from raddino.study.launch import run_on_ray, waiting, write_launch
from raddino.study.run import run_arm

WORDS = ["own study.yaml", "--out", "/data/my studies", "--device", "cpu"]


def told(words):
    """What the command line reads of them."""
    command = get_command(cli.app).commands["study"]
    return command.make_context("study", list(words)).params


@pytest.fixture
def made(planned, values, tmp_path):
    """Two trainings and hog, of which hog is finished."""
    plan = planned(values, tmp_path / "out")
    run_arm(plan, 2, device="cpu")
    return plan


def test_what_slurm_is_asked_for(made):
    text = write_launch(made, "slurm", WORDS).read_text(encoding="utf-8")
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    assert {"--array=0,1", "--requeue", "--signal=B:USR1@300", "--open-mode=append"} <= set(asked)
    assert text.index("#SBATCH") < text.index("set -u"), "sbatch stops reading options at the first command"


@pytest.mark.parametrize(("status", "again"), [(0, ""), (2, ""), (75, "requeue 9_1\n"), (138, "requeue 9_1\n")])
def test_a_slurm_job_runs_its_arm_and_queues_again_where_it_saved(made, tmp_path, monkeypatch, status, again):
    """The interpreter of the script is one that keeps its arguments and ends with a status."""
    for name, script in {
        "python": f'printf "%s|" "$@" > {tmp_path}/args\nexit {status}',
        "scontrol": f'echo "$*" > {tmp_path}/requeued',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    script = write_launch(made, "slurm", WORDS)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "9"}
    done = subprocess.run(["bash", script], env=environment, check=False)
    assert done.returncode == (0 if again else status)
    requeued = tmp_path / "requeued"
    assert (requeued.read_text(encoding="utf-8") if requeued.exists() else "") == again
    dash, module, command, *words = (tmp_path / "args").read_text(encoding="utf-8").removesuffix("|").split("|")
    assert (dash, module, command) == ("-m", "raddino", "study")
    assert words == [*WORDS, "--arm", "1"]
    assert (told(words)["name"], told(words)["arm"]) == ("own study.yaml", 1)


def test_torchrun_trains_each_arm_then_judges_it(made, tmp_path):
    text = write_launch(made, "torchrun", WORDS).read_text(encoding="utf-8")
    assert "for arm in 0 1; do" in text
    for name in ("torchrun", "python"):
        script = f'#!/bin/bash\n(echo {name}; printf "%s|" "$@"; echo) >> {tmp_path}/said\n'
        (tmp_path / name).write_text(script, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    script = tmp_path / "arms.sh"
    script.write_text(text.replace(sys.executable, "python"), encoding="utf-8")
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PROCESSES": "3"}
    subprocess.run(["bash", script], env=environment, check=True)
    said = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert said[::2] == ["torchrun", "python", "torchrun", "python", "python"]
    parsed = parse_args(said[1].removesuffix("|").split("|"))
    assert (parsed.nproc_per_node, parsed.module, parsed.training_script) == ("3", True, "raddino")
    assert told(parsed.training_script_args[1:])["arm"] == 0
    assert told(said[-1].removesuffix("|").split("|")[3:])["arm"] is None, "the report"


def test_ray_gets_a_task_for_each_arm_that_is_left(made, monkeypatch):
    asked, ran = {}, []

    def remote(**options):
        asked.update(options)
        return lambda function: SimpleNamespace(remote=function)

    stub = SimpleNamespace(init=lambda **_: None, remote=remote, get=list)
    monkeypatch.setitem(sys.modules, "ray", stub)
    monkeypatch.setattr(
        launch.subprocess, "run", lambda words, check: ran.append(words) or SimpleNamespace(returncode=0)
    )
    run_on_ray(made, WORDS, gpus=1)
    assert asked["num_gpus"] == 1
    assert [told(words[4:])["arm"] for words in ran] == [0, 1] == waiting(made)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RaddinoError, match=r"raddino\[cluster\]"):
        run_on_ray(made, WORDS)


def test_the_words_make_the_same_plan_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "scaling").mkdir()
    assert _words("scaling", tmp_path, [], None, None, {}, "cpu", None)[0] == "scaling", "not the folder"
    encoders = {"a": "mrm:c", "b": "./c", "c": "hog"}
    words = _words("own.yaml", tmp_path / "out", ["c", "s3://x/y"], "c", "smoke", encoders, "cpu", 2)
    found = told(words)
    assert (found["name"], found["corpus"]) == (str(tmp_path / "own.yaml"), [str(tmp_path / "c"), "s3://x/y"])
    assert (found["evaluate_on"], found["size"]) == (str(tmp_path / "c"), "smoke")
    assert found["encoder"] == [f"a=mrm:{tmp_path}/c", f"b={tmp_path}/c", "c=hog"]
    assert (found["out"], found["device"], found["workers"]) == (tmp_path / "out", "cpu", 2)


def test_refusals(made, monkeypatch):
    with pytest.raises(ConfigError, match="Did you mean 'slurm'"):
        write_launch(made, "slrum", WORDS)
    monkeypatch.setattr(type(made), "left", lambda self, arm: [])
    with pytest.raises(RaddinoError, match="every arm is finished"):
        write_launch(made, "slurm", WORDS)
