"""Schedules at their ends and corners (the golden replay checks every value in between)."""

import math

import numpy as np
import pytest

from raddino.config import load_config
from raddino.training.schedule import Schedule, ScheduleConfig
from raddino.training.settings import PretrainConfig


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


def test_a_backbone_that_was_frozen_comes_up_linearly():
    """Against the plain learning rate: nothing while the heads warm up, then quarters, then all of it."""
    base = ScheduleConfig(lr=1e-3, warmup_steps=10)
    ramped = Schedule(base.model_copy(update={"freeze_backbone_steps": 20, "backbone_ramp_steps": 4}), 100)
    plain = Schedule(base, 100)
    shares = np.array([0.0] * 20 + [0.25, 0.5, 0.75] + [1.0] * 77)
    np.testing.assert_allclose(ramped.backbone_lr, shares * plain.lr, rtol=1e-15)
    np.testing.assert_array_equal(ramped.backbone_lr[23:], plain.lr[23:])
    np.testing.assert_array_equal(ramped.lr, plain.lr)
    np.testing.assert_array_equal(ramped.last_layer_lr, plain.last_layer_lr)
    np.testing.assert_array_equal(plain.backbone_lr, plain.lr)
    for ramp in (1, 0):
        sudden = Schedule(base.model_copy(update={"freeze_backbone_steps": 20, "backbone_ramp_steps": ramp}), 100)
        np.testing.assert_array_equal(sudden.backbone_lr[20:], plain.lr[20:])


def test_a_ramp_longer_than_the_run_is_cut_off():
    config = ScheduleConfig(lr=1.0, lr_final=1.0, freeze_backbone_steps=3, backbone_ramp_steps=10)
    assert Schedule(config, 5).backbone_lr.tolist() == [0, 0, 0, 0.1, 0.2]
    assert not Schedule(config, 2).backbone_lr.any()


def test_constant_schedules_do_not_know_the_length():
    config = ScheduleConfig(
        shape="constant", lr=3e-4, warmup_steps=10, weight_decay=0.05, momentum=0.999, freeze_last_layer_steps=5,
        teacher_temperature_steps=20,
    )  # fmt: skip
    schedule, cosine = Schedule(config, 100), Schedule(config.model_copy(update={"shape": "cosine"}), 100)
    assert set(schedule.lr[10:]) == {3e-4}
    assert set(schedule.weight_decay) == {0.05}
    assert set(schedule.momentum) == {0.999}
    np.testing.assert_array_equal(schedule.lr[:10], cosine.lr[:10])
    np.testing.assert_array_equal(schedule.teacher_temperature, cosine.teacher_temperature)
    longer = Schedule(config.model_copy(update={"length": 10_000}), 100)
    assert [schedule[step] for step in range(100)] == [longer[step] for step in range(100)]
    assert cosine[50] != Schedule(config.model_copy(update={"shape": "cosine"}), 200)[50]


def test_runs_shorter_than_their_warm_ups():
    """They are cut off, not compressed, as DINOv2 does."""
    config = ScheduleConfig(lr=1.0, warmup_steps=50, teacher_temperature_steps=50, freeze_last_layer_steps=50)
    short, long = Schedule(config, 5), Schedule(config, 100)
    np.testing.assert_array_equal(short.lr, long.lr[:5])
    np.testing.assert_array_equal(short.teacher_temperature, long.teacher_temperature[:5])


def test_a_stop_before_the_end_of_the_schedule_has_the_values_of_the_whole():
    config = ScheduleConfig(length=100, lr=1e-3, warmup_steps=10, teacher_temperature_steps=50)
    stopped, whole = Schedule(config, 35), Schedule(config.model_copy(update={"length": None}), 100)
    assert [stopped[step] for step in range(35)] == [whole[step] for step in range(35)]


def test_the_rad_dino_preset_has_the_public_checkpoints_values_where_it_stops():
    """Known of the checkpoint to two or three digits, and here by the closed forms."""
    config = load_config(PretrainConfig, "rad-dino-vit-b-518")
    assert (config.steps, config.schedule.length) == (35_000, 100_000)
    last = Schedule(config.schedule, config.steps)[config.steps - 1]
    assert f"{last.lr:.1e} {last.weight_decay:.2f} {last.momentum:.3f} {last.teacher_temperature:.3f}" == (
        "1.2e-03 0.14 0.994 0.061"
    )
    peak, done, rise = 1e-3 * math.sqrt(2560 / 1024), 34_999 / 100_000, (34_999 - 5_000) / 95_000
    half = (1 + math.cos(math.pi * done)) / 2
    assert last.lr == pytest.approx(1e-6 + (peak - 1e-6) * (1 + math.cos(math.pi * rise)) / 2, rel=1e-4)
    assert last.weight_decay == pytest.approx(0.4 - 0.36 * half, rel=1e-12)
    assert last.momentum == pytest.approx(1 - 0.008 * half, rel=1e-12)
    assert last.teacher_temperature == pytest.approx(0.04 + 0.03 * 34_999 / 49_999, rel=1e-12)
    assert config.schedule.warmup_steps == 0.05 * config.schedule.length
    assert config.schedule.freeze_last_layer_steps == 0.01 * config.schedule.length
    assert config.schedule.teacher_temperature_steps == 0.5 * config.schedule.length
