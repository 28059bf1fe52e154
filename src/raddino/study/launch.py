"""The arms of a study on a cluster: a Slurm array, ``torchrun`` for each in turn, or Ray tasks."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.files import write_text
from raddino.study.plan import StudyPlan

LAUNCHERS = ("slurm", "torchrun", "ray")
SLURM = """#!/bin/bash
# Arms of the study {title} that are not finished, one a job:  sbatch {file}
# then its report:  sbatch --dependency=afterany:JOB --wrap {report}
# Five minutes before the time is up an arm saves and its job queues itself again.
#SBATCH --job-name=raddino-study
#SBATCH --array={array}
#SBATCH --gpus=1
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=arm-%a.log
#SBATCH --signal=B:USR1@300
set -u
trap 'kill -USR1 "$arm"' USR1
{command} --arm "$SLURM_ARRAY_TASK_ID" &
arm=$!
wait "$arm"
status=$?
if [[ $status -gt 128 ]]; then # a signal has ended that wait early
    wait "$arm"
    status=$?
fi
if [[ $status -eq {again} || $status -eq 138 ]]; then # saved, or stopped while it was judged
    exec scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
"""
TORCHRUN = """#!/bin/bash
# Arms of the study {title} that are not finished, each trained by PROCESSES processes, then judged; then the report.
set -u
for arm in {numbers}; do
    torchrun --nproc-per-node="${{PROCESSES:-1}}" --shutdown-timeout=240 -m {command} --arm "$arm" &&
        {python} -m {command} --arm "$arm"
done
{python} -m {command}
"""


def check_launcher(name: str) -> None:
    """Refuse another word than those of :data:`LAUNCHERS`. Raises ConfigError."""
    if name not in LAUNCHERS:
        raise ConfigError(f"--launch takes {', '.join(LAUNCHERS)}; got {name!r}.{did_you_mean(name, LAUNCHERS)}")


def waiting(made: StudyPlan) -> list[int]:
    """Numbers of the arms that are not finished."""
    return [number for number, arm in enumerate(made.jobs) if made.left(arm)]


def write_launch(made: StudyPlan, launcher: str, words: Sequence[str]) -> Path:
    """Write the script that runs the arms which are not finished.

    Args:
        made: the plan.
        launcher: ``"slurm"`` or ``"torchrun"``.
        words: arguments of ``raddino study`` that make this plan.

    Raises:
        ConfigError: another launcher.
        RaddinoError: every arm is finished.
    """
    check_launcher(launcher)
    numbers = waiting(made)
    if not numbers:
        raise RaddinoError("every arm is finished: run the study without --launch for its report")
    module, python = shlex.join(["raddino", "study", *words]), shlex.quote(sys.executable)
    if launcher == "slurm":
        file, command = made.folder / "arms.sbatch", f"{python} -m {module}"
        text = SLURM.format(
            title=made.name, file=shlex.quote(file.name), report=shlex.quote(command), command=command,
            array=",".join(map(str, numbers)), again=os.EX_TEMPFAIL,
        )  # fmt: skip
    else:
        file = made.folder / "arms.sh"
        text = TORCHRUN.format(title=made.name, numbers=" ".join(map(str, numbers)), command=module, python=python)
    write_text(file, text)
    return file


def run_on_ray(made: StudyPlan, words: Sequence[str], gpus: int = 0) -> None:
    """Run the arms that are not finished as tasks of a Ray cluster which sees the same folders.

    Args:
        made: the plan.
        words: as of :func:`write_launch`.
        gpus: of each task.

    Raises:
        RaddinoError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise RaddinoError("--launch ray needs Ray: pip install 'raddino[cluster]'") from None
    ray.init(ignore_reinit_error=True)

    def arm(number: int) -> int:
        command = [sys.executable, "-m", "raddino", "study", *words, "--arm", str(number)]
        return subprocess.run(command, check=False).returncode

    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(arm)
    ray.get([task.remote(number) for number in waiting(made)])
