"""A study before it is run: its arms on the corpus, what they cost and hold on disk, what is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError, counted
from raddino.study.arms import Arm, check_nested, digested, expand, place
from raddino.study.budget import Balance, micro_cost, spend, step_flops
from raddino.study.settings import Study
from raddino.study.tasks import Unit, units
from raddino.training.checkpoint import latest_step
from raddino.training.plan import STEP_FLOPS
from raddino.training.plan import plan as plan_training
from raddino.vit import VisionTransformer

MARK = "study.json"
"""In the run folder of a training that is finished."""


@dataclass(frozen=True)
class StudyPlan:
    """What a study will do.

    Attributes:
        name, size: of the study.
        study: its settings.
        out: where everything goes; studies that share it share the arms that they have in common.
        trained_on, judged_on: corpora.
        arms: all of them; some may share a digest, and some may have a reason not to run.
        units: evaluations of each.
        balances: how equal the series' compute is.
        nested: pairs of fractions that were seen to lie within each other.
    """

    name: str
    size: str
    study: Study
    out: Path
    trained_on: Corpus
    judged_on: Corpus
    arms: list[Arm]
    units: list[Unit]
    balances: list[Balance]
    nested: int

    @property
    def jobs(self) -> list[Arm]:
        """One arm of each digest, of those that can run: what is to be trained and judged, and numbered from 0."""
        found: dict[str, Arm] = {}
        for arm in self.arms:
            if not arm.reason:
                found.setdefault(arm.digest, arm)
        return list(found.values())

    @property
    def folder(self) -> Path:
        """Of the study's own plan and report."""
        return self.out / (f"{self.name}-{self.size}" if self.size else self.name)

    def run_folder(self, arm: Arm) -> Path:
        """Pre-training run of an arm."""
        return self.out / "runs" / arm.digest

    def failure(self, arm: Arm) -> Path:
        """File that says why an arm failed, where it did."""
        return self.out / "failed" / f"{arm.digest}.json"

    def is_trained(self, arm: Arm) -> bool:
        """Whether nothing is left to be trained."""
        return arm.config is None or (self.run_folder(arm) / MARK).is_file()

    def left(self, arm: Arm) -> list[Unit]:
        """Evaluations that are still to be made."""
        return [unit for unit in self.units if not unit.is_done(self.out, arm)]

    def state(self, arm: Arm) -> str:
        """``finished``, ``trained``, ``at step 200``, ``waiting``, or why it cannot run."""
        if arm.reason:
            return f"cannot run: {arm.reason}"
        if not self.left(arm):
            return "finished"
        if self.is_trained(arm) and arm.config is not None:
            return "trained"
        step = latest_step(self.run_folder(arm) / "checkpoints") if arm.config else None
        return f"at step {step:,}" if step else "failed before" if self.failure(arm).is_file() else "waiting"


def plan_study(
    name: str,
    study: Study,
    out: Path,
    corpora: tuple[Corpus, Corpus],
    *,
    size: str = "",
    encoders: Mapping[str, str] | None = None,
) -> StudyPlan:
    """Spell a study out and check it.

    Args:
        name, study, size: see :func:`~raddino.study.settings.load_study`.
        out: folder of the study and its arms.
        corpora: to train on and to judge on.
        encoders: by label, specs that take the place of the study's encoders of these labels.

    Raises:
        ConfigError: a setting, suite or source that is not known, an encoder's label that no series has, or unequal
            compute.
        RaddinoError: fractions that are not nested.
    """
    trained_on, judged_on = corpora
    arms = place(_respecified(expand(study), encoders or {}), study, trained_on)
    arms, balances = spend(arms, study)
    nested = check_nested(arms, trained_on)
    arms = [arm if arm.reason else digested(arm, trained_on) for arm in arms]
    if not any(not arm.reason for arm in arms):
        raise ConfigError(f"no arm of study {name} can run: {arms[0].label}: {arms[0].reason}")
    asked = units(study, judged_on)
    return StudyPlan(name, size, study, out, trained_on, judged_on, arms, asked, balances, nested)


def _respecified(arms: list[Arm], encoders: Mapping[str, str]) -> list[Arm]:
    known = {arm.factors["encoder"] for arm in arms if arm.encoder}
    for label in encoders:
        if label not in known:
            raise ConfigError(
                f"--encoder {label}: no encoder of the study is called that: {', '.join(known) or 'none'}"
            )
    return [replace(arm, encoder=encoders[arm.factors["encoder"]]) if arm.factors.get("encoder") in encoders else arm
            for arm in arms]  # fmt: skip


@dataclass(frozen=True)
class Price:
    """What is left to be trained: floating-point operations, seconds, bytes, and where the rate comes from in words."""

    flops: float
    seconds: float | None
    disk: float
    rate: str


def price(made: StudyPlan, *, hardware: str | None = None, device: str = "auto") -> Price:
    """Cost of the trainings that are not finished, at a measured or assumed rate.

    One shape is measured, the largest that this machine makes a few steps of in seconds; others are taken to reach the
    same FLOPs a second.

    Args:
        made: the plan.
        hardware: of :data:`~raddino.training.hardware.ACCELERATORS`, instead of measuring.
        device: where to measure.
    """
    left = [arm for arm in made.jobs if arm.config is not None and not made.is_trained(arm)]
    flops = sum(arm.flops for arm in left)
    disk = sum(_bytes(arm) for arm in left)
    if not left:
        return Price(0.0, 0.0, 0.0, "nothing is left to be trained")

    def image(arm: Arm) -> float:
        assert arm.config is not None
        return step_flops(arm.config) / arm.config.batch_size

    small = [arm for arm in left if 2 * image(arm) <= STEP_FLOPS["cpu"]]
    shape = max(small, key=image) if small else min(left, key=image)
    assert shape.config is not None
    timed = plan_training(shape.config, hardware=hardware, device=device)
    reached = timed.rate * image(shape)
    rate = f"{timed.rate:,.1f} images/s of {shape.series}, {shape.condition}: {timed.rate_from}"
    others = len({image(arm) for arm in left}) > 1
    return Price(flops, flops / reached, disk, rate + ("; other shapes by their FLOPs" if others else ""))


def _bytes(arm: Arm) -> float:
    """Checkpoints, one being written among them, and two encoders."""
    assert arm.config is not None
    with torch.device("meta"):
        network = VisionTransformer(arm.config.vit.model_copy(update={"in_channels": 3}))  # as Transformers loads it
    encoder = sum(weight.numel() for weight in network.parameters()) * torch.float32.itemsize
    kept = arm.config.keep_checkpoints + 1
    if arm.config.keep_every:
        kept += arm.config.steps // arm.config.keep_every
    return micro_cost(arm.config).state_bytes * min(kept, arm.config.steps) + 2 * encoder


def plan_text(made: StudyPlan, cost: Price) -> str:
    """The plan for a terminal: arms with their numbers, equality of compute, time and disk."""
    numbers = {arm.digest: str(number) for number, arm in enumerate(made.jobs)}
    rows = [("#", "series", "arm", "steps", "images", "patients", "weights", "FLOP", "state")]
    for arm in made.arms:
        steps = f"{arm.config.steps:,}" if arm.config and not arm.reason else "–"
        trained = arm.config is not None and not arm.reason
        counts = (
            (f"{arm.images:,}", f"{arm.patients:,}", f"{arm.parameters / 1e6:.2f} M", f"{arm.flops:.3g}")
            if trained
            else ("–",) * 4
        )
        rows.append((numbers.get(arm.digest, "–"), arm.series, arm.label, steps, *counts, made.state(arm)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    on = made.trained_on
    trainings = sum(arm.config is not None for arm in made.jobs)
    facts = [
        ("question", made.study.question),
        ("corpus", f"{len(on):,} images of {on.manifest['patient'].nunique():,} patients, "
                   f"{', '.join(map(str, on.info.get('sources', {})))}; "
                   + ("judged on its other splits" if made.judged_on is on
                      else f"judged on {len(made.judged_on):,} images of another")),
        ("arms", f"{counted(trainings, 'training')}, {counted(len(made.jobs) - trainings, 'encoder')} by name, each "
                 f"judged by {counted(len(made.units), 'evaluation')}: {', '.join(unit.name for unit in made.units)}"),
        *(("compute", balance_text(one)) for one in made.balances),
        *([("nested", f"{counted(made.nested, 'pair')} of fractions, by patient, seen to lie within each other")]
          if made.nested else []),
        ("left", f"{cost.flops:.3g} FLOP, {time_text(cost.seconds)}; {cost.rate}; evaluation comes on top"),
        ("disk", f"{cost.disk / 1e9:,.3g} GB of checkpoints and encoders to come"),
    ]  # fmt: skip
    return "\n".join([*(f"{what:<9} {said}" for what, said in facts), "", *table])


def balance_text(one: Balance) -> str:
    """How equal a series' compute is."""
    if one.asked:
        held = "within the tolerance" if one.held else "BEYOND the tolerance"
        return f"{one.series}: equal, {one.spread:.2%} apart at most ({one.worst}), {held}"
    return f"{one.series}: not equalised; {one.worst} differs most, by {one.spread:.0%} of {one.flops:.3g} FLOP"


def time_text(seconds: float | None) -> str:
    """``3.2 h``, ``4 min``, ``12 s``."""
    if seconds is None:
        return "time not told"
    unit, size = ("h", 3600) if seconds >= 3600 else ("min", 60) if seconds >= 120 else ("s", 1)
    return f"{seconds / size:.3g} {unit}"
