"""Running the arms: what is finished is not done again, what was interrupted goes on, what fails costs its own rows."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from raddino.benchmark.absent import reason_of
from raddino.benchmark.evaluate import evaluate
from raddino.dist import rank
from raddino.errors import ConfigError, RaddinoError, UnwritableError
from raddino.files import read_json, write_json, writing
from raddino.study.arms import Arm
from raddino.study.plan import MARK, StudyPlan
from raddino.study.tasks import Unit
from raddino.training.pretrain import pretrain

AGAIN = "delete it and run the study again"
TRAINED = "arm"
"""How results call a trained encoder, so that studies of other words share them."""


def run_all(made: StudyPlan, *, device: str = "auto", workers: int | None = None) -> None:
    """Run every arm here, in turn; an arm that fails leaves its reason and stops nothing.

    Raises:
        OSError: the disk is full or refuses.
        KeyboardInterrupt: the state is on disk.
    """
    for number in range(len(made.jobs)):
        try:
            run_arm(made, number, device=device, workers=workers)
        except UnwritableError:
            raise
        except RaddinoError as error:
            print(error, file=sys.stderr, flush=True)


def run_arm(made: StudyPlan, number: int, *, device: str = "auto", workers: int | None = None) -> None:
    """Train and judge one arm, as far as that is still to be done; under ``torchrun`` train it alone.

    Args:
        made: the plan.
        number: of its jobs, from 0.
        device, workers: of training and evaluation.

    Raises:
        ConfigError: no such arm.
        RaddinoError: it failed; the reason is kept for the report.
    """
    jobs = made.jobs
    if not 0 <= number < len(jobs):
        raise ConfigError(f"--arm takes 0 to {len(jobs) - 1}, got {number}")
    arm = jobs[number]
    if not made.left(arm):
        return
    reasons = []
    try:
        if not made.is_trained(arm):
            _say(made, number, "train")
            _train(made, arm, device, workers)
        if _several():
            return
        _say(made, number, "judge")
        spec = str(made.run_folder(arm) / "encoder") if arm.config else arm.encoder
        for unit in made.left(arm):
            try:
                _judge(made, arm, unit, spec, device)
            except Exception as error:
                reasons.append(f"{unit.name}: {reason_of('evaluation', error)}")
    except Exception as error:
        reasons.append(reason_of("training", error))
    finally:
        shutil.rmtree(_features(made, arm), ignore_errors=True)
    file = made.failure(arm)
    if reasons:
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"arm": arm.label, "reasons": reasons})
        raise RaddinoError(f"{arm.label}: {'; '.join(reasons)}")
    file.unlink(missing_ok=True)


def _several() -> bool:
    """Whether this is one of several processes of a ``torchrun``, joined already or not."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def reasons_of(made: StudyPlan, arm: Arm) -> list[str]:
    """Why an arm lacks numbers, as far as that is known."""
    if arm.reason:
        return [arm.reason]
    if not made.left(arm):
        return []
    file = made.failure(arm)
    return [str(one) for one in read_json(file, AGAIN).get("reasons", [])] if file.is_file() else ["not run yet"]


def _train(made: StudyPlan, arm: Arm, device: str, workers: int | None) -> None:
    assert arm.config is not None
    folder, begun = made.run_folder(arm), time.perf_counter()
    pretrain(made.trained_on, folder, arm.config, device=device, workers=workers)
    if not rank():
        write_json(folder / MARK, {"digest": arm.digest, "seconds": round(time.perf_counter() - begun, 1)})


def _judge(made: StudyPlan, arm: Arm, unit: Unit, spec: str, device: str) -> None:
    judged = unit.judged
    results = evaluate(
        made.judged_on, [spec], names=[TRAINED if arm.config else None], out=unit.folder(made.out, arm),
        suite=judged.suite, targets=list(judged.targets) if judged.targets else None, probe=judged.probe,
        options=judged.options, analyses=judged.analyses, where=judged.where, train_on=judged.train_on,
        test_on=judged.test_on, seed=made.study.seed, resamples=made.study.resamples, device=device,
        cache=_features(made, arm),
    )  # fmt: skip
    if not results.data["rows"]:
        raise RaddinoError("nothing could be measured")


def _features(made: StudyPlan, arm: Arm) -> Path:
    """Features of an arm, kept while it is judged."""
    return made.out / "features" / arm.digest


def _say(made: StudyPlan, number: int, what: str) -> None:
    arm = made.jobs[number]
    if not rank():
        print(f"{what} arm {number} of {len(made.jobs)}: {arm.series}, {arm.label}", file=sys.stderr, flush=True)
