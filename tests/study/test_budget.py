"""Equal compute, counted anew from the step itself."""

import pytest

from raddino.errors import ConfigError
from raddino.study.budget import step_flops
from raddino.training.cost import step_cost

DEPTHS = {"vary": {"vit.depth": [2, 4, 6]}, "axis": "parameters"}


def test_equal_compute_is_equal(planned, values):
    values["budget"] = {"steps": 300, "compute": "equal"}
    values["arms"]["depth"] = DEPTHS
    made = planned(values)
    trained = [arm for arm in made.arms if arm.config]
    counted = {arm.label: step_cost(arm.config, 4, False).flops * arm.config.steps for arm in trained}
    first = counted["fraction 30 %"]
    assert all(abs(flops / first - 1) < 0.01 for flops in counted.values())
    assert [arm.flops for arm in trained] == list(counted.values())
    steps = [arm.config.steps for arm in trained if arm.series == "depth"]
    assert steps[0] == 300 > steps[1] > steps[2]
    warmup = [arm.config.schedule.warmup_steps / arm.config.steps for arm in trained]
    assert warmup == pytest.approx([50 / 700] * len(trained), abs=0.005)
    assert [(one.asked, one.held) for one in made.balances] == [(True, True)] * 2
    depth = made.balances[1]
    assert depth.spread == pytest.approx(max(abs(flops / first - 1) for flops in counted.values()))


def test_steps_that_are_too_few_to_be_equal_are_refused_or_said(planned, values):
    values["budget"] = {"steps": 3, "compute": "equal"}
    values["arms"]["depth"] = DEPTHS
    with pytest.raises(
        ConfigError, match=r"arms.depth: depth \d would compute .* tolerance of 1.0%: raise budget.steps"
    ):
        planned(values)
    values["budget"]["unequal"] = "say"
    depth = planned(values).balances[1]
    assert depth.asked
    assert not depth.held
    assert depth.spread > 0.01


def test_free_compute_keeps_the_steps_and_says_the_difference(planned, values):
    values["arms"]["depth"] = DEPTHS
    made = planned(values)
    assert {arm.config.steps for arm in made.arms if arm.config} == {10}
    deepest = [arm for arm in made.arms if arm.series == "depth"][-1]
    balance = made.balances[1]
    assert not balance.asked
    assert balance.worst == deepest.label
    shallow = next(arm for arm in made.arms if arm.series == "depth")
    assert balance.spread == pytest.approx(step_flops(deepest.config) / step_flops(shallow.config) - 1)


def test_a_series_has_a_budget_of_its_own(planned, values):
    values["budget"] = {"steps": 300, "compute": "equal"}
    values["arms"]["depth"] = DEPTHS | {"budget": {"steps": 400, "compute": "equal"}}
    made = planned(values)
    assert [arm.config.steps for arm in made.arms if arm.series == "quantity"] == [300, 300]
    assert next(arm.config.steps for arm in made.arms if arm.series == "depth") == 400


def test_accumulated_micro_batches_count(planned, values):
    whole = planned(values).arms[1]
    parts = whole.config.model_copy(update={"accumulate": 2})
    assert step_flops(parts) == 2 * step_cost(parts, 2, False).flops


def test_without_steps_the_preset_says_them(planned, values):
    values["budget"] = {}
    assert planned(values).arms[0].config.steps == 700
