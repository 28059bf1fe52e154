"""What arms compute: steps for a budget, FLOPs counted in the step itself, and whether they are equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raddino.errors import ConfigError
from raddino.study.arms import Arm, stretched
from raddino.study.settings import Budget, Study
from raddino.training.cost import StepCost, step_cost
from raddino.training.settings import PretrainConfig


@dataclass(frozen=True)
class Balance:
    """How equal the compute of a series is.

    Attributes:
        series: its name.
        flops: of its first trained arm.
        spread: greatest share by which an arm differs from it.
        worst: label of that arm.
        asked: whether the budget is equal compute.
        held: whether every arm is within the tolerance.
    """

    series: str
    flops: float
    spread: float
    worst: str
    asked: bool
    held: bool


def micro_cost(config: PretrainConfig) -> StepCost:
    """Of one micro-batch as on this kind of processor, in fp32: the same number on every machine."""
    return step_cost(config.model_copy(update={"precision": "fp32"}), config.batch_size // config.accumulate, False)


def step_flops(config: PretrainConfig) -> float:
    """FLOPs of an optimiser step: products, convolutions and attention, forward and backward."""
    return float(micro_cost(config).flops * config.accumulate)


def spend(arms: Sequence[Arm], study: Study) -> tuple[list[Arm], list[Balance]]:
    """The arms with their steps, FLOPs and parameters, and how equal each series is.

    With ``compute: equal`` the first trained arm of the study (of the series, where that has a budget of its own) has
    the budget's steps, and every other arm those that come closest to its FLOPs; schedules are scaled with the steps.

    Raises:
        ConfigError: an arm misses equal compute by more than the tolerance and the budget refuses that.
    """
    spent = list(arms)
    first: dict[str, float] = {}
    for at, arm in enumerate(spent):
        if arm.config is None or arm.reason:
            continue
        budget, key = _budget(study, arm)
        each = step_flops(arm.config)
        steps = budget.steps or arm.config.steps
        if budget.compute == "equal":
            first.setdefault(key, each * steps)
            steps = max(1, round(first[key] / each))
        config = stretched(arm.config, steps)
        cost = micro_cost(config)
        spent[at] = replace(arm, config=config, parameters=cost.parameters, flops=each * steps)
    balances = [one for name in study.arms if (one := _balance(spent, study, name, first))]
    return spent, balances


def _budget(study: Study, arm: Arm) -> tuple[Budget, str]:
    """An arm's budget, and whose it is."""
    own = study.arms[arm.series].budget
    return (own, arm.series) if own else (study.budget, "")


def _balance(arms: Sequence[Arm], study: Study, name: str, first: dict[str, float]) -> Balance | None:
    own = [arm for arm in arms if arm.series == name and arm.config and not arm.reason]
    if not own:
        return None
    budget, key = _budget(study, own[0])
    asked = budget.compute == "equal"
    flops = first[key] if asked else own[0].flops
    apart = {arm.label: arm.flops / flops - 1 for arm in own}
    worst = max(apart, key=lambda label: abs(apart[label]))
    held = abs(apart[worst]) <= budget.tolerance
    if asked and not held and budget.unequal == "refuse":
        raise ConfigError(
            f"arms.{name}: {worst} would compute {apart[worst]:+.1%} of the first arm's FLOPs, beyond the tolerance of "
            f"{budget.tolerance:.1%}: raise budget.steps, so that a step weighs less, or set budget.unequal: say"
        )
    return Balance(name, flops, abs(apart[worst]), worst, asked, held)
