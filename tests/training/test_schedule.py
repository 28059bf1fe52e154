"""Schedules at their ends and corners (the golden replay checks every value in between)."""

import numpy as np

from raddino.training.schedule import Schedule, ScheduleConfig


def test_frozen_parts_and_ends():
    config = ScheduleConfig(
        lr=1e-3, lr_final=1e-5, warmup_steps=10, freeze_last_layer_steps=3, freeze_backbone_steps=20,
        teacher_temperature_steps=50,
    )  # fmt: skip
    schedule = Schedule(config, 100)
    assert schedule[0].lr == 0
    assert schedule[10].lr == 1e-3
    assert schedule[19].backbone_lr == 0 < schedule[20].backbone_lr
    assert schedule[2].last_layer_lr == 0 < schedule[3].last_layer_lr
    assert 1e-5 < schedule[99].lr < 2e-5
    assert schedule[0].teacher_temperature == 0.04
    assert schedule[49].teacher_temperature == schedule[99].teacher_temperature == 0.07
    assert (np.diff(schedule.momentum) > 0).all()


def test_runs_shorter_than_their_warm_ups():
    """They are cut off, not compressed, as DINOv2 does."""
    config = ScheduleConfig(lr=1.0, warmup_steps=50, teacher_temperature_steps=50, freeze_last_layer_steps=50)
    short, long = Schedule(config, 5), Schedule(config, 100)
    np.testing.assert_array_equal(short.lr, long.lr[:5])
    np.testing.assert_array_equal(short.teacher_temperature, long.teacher_temperature[:5])
