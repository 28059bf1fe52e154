from pathlib import Path

import pytest

from raddino.benchmark.suite import load_suite
from raddino.config import validate
from raddino.errors import ConfigError
from raddino.tasks.findings.settings import FindingsConfig, Stage
from raddino.tasks.findings.task import FindingsTaskConfig


def test_defaults_follow_llava() -> None:
    config = FindingsConfig()
    assert config.tuning == "lora"
    assert [stage.train for stage in config.recipe] == ["projector", "both"]
    assert FindingsConfig(language_model="tiny").tuning == "full"


def test_maira_is_one_stage_of_the_whole_language_model() -> None:
    config = validate(FindingsConfig, {"preset": "maira"})
    assert config.language_model == "lmsys/vicuna-7b-v1.5"
    assert (config.tuning, config.projector_layers, config.final_norm) == ("full", 4, True)
    assert (config.images, config.indication, config.comparison) == ((), False, False)
    assert config.batch_size * config.accumulate == 128
    (stage,) = config.recipe
    assert (stage.train, stage.epochs, stage.lr, stage.language_lr) == ("both", 3, 2e-5, None)
    assert stage.over(128 * 1000, 128) == (3000, 90)
    assert config.public()["preset"] == "maira"
    assert FindingsConfig.model_validate(config.model_dump(mode="json")) == config


def test_what_is_given_holds_over_the_preset() -> None:
    given = {"projector_layers": 2, "patience": 3, "tune": None}
    config = validate(FindingsConfig, {"preset": "maira", **given})
    assert config.model_dump(include=set(given)) == given
    assert config.final_norm
    with pytest.raises(ConfigError, match="preset"):
        validate(FindingsConfig, {"preset": "llava"})


def test_the_maira_suite_takes_the_preset_and_the_other_one_does_not() -> None:
    presets = [
        validate(FindingsTaskConfig, load_suite(name).tasks[0].options).preset
        for name in ("mimic-cxr-maira-findings", "mimic-cxr-findings")
    ]
    assert presets == ["maira", None]


@pytest.mark.parametrize(
    ("values", "reports", "at_once", "length"),
    [
        ({"steps": 7, "warmup": 2}, 100, 10, (7, 2)),
        ({"steps": 7, "warmup": 0.5}, 100, 10, (7, 4)),
        ({"epochs": 3}, 100, 10, (30, 0)),
        ({"epochs": 3}, 101, 10, (33, 0)),
        ({"epochs": 3, "warmup": 0.03}, 9, 10, (3, 1)),
        ({"epochs": 0.5, "warmup": 1}, 100, 10, (5, 1)),
        ({"epochs": 0.01}, 100, 10, (1, 0)),
    ],
)
def test_length_of_a_stage(values: dict, reports: int, at_once: int, length: tuple[int, int]) -> None:
    assert Stage(train="both", lr=1, **values).over(reports, at_once) == length


def test_a_frozen_language_model_has_no_joint_stage() -> None:
    assert [stage.train for stage in FindingsConfig(tune="frozen").recipe] == ["projector"]


def test_what_is_written_names_no_place(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = FindingsConfig(language_model=str(tmp_path / "model"), prompt=str(tmp_path / "mine.yaml"))
    assert (config.public()["language_model"], config.public()["prompt"]) == ("model", "mine.yaml")
    assert str(tmp_path) not in str(config.public())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"language_model": "tiny", "tune": "frozen"}, "cannot stay frozen"),
        ({"tune": "frozen", "stages": [{"train": "both", "steps": 1, "lr": 1}]}, "projector"),
        ({"images": ["prior", "prior"]}, "twice"),
        ({"stages": [{"train": "both", "lr": 1}]}, "steps or epochs"),
        ({"stages": [{"train": "both", "lr": 1, "steps": 1, "epochs": 1}]}, "steps or epochs"),
        ({"stages": [{"train": "both", "lr": 1, "steps": 9, "warmup": 1.5}]}, "warmup is a whole number"),
        ({"projector_layers": 3}, "projector_layers"),
        ({"tiny": {"width": 100, "heads": 6}}, "multiple"),
        ({"langage_model": "tiny"}, "Did you mean 'language_model'"),
    ],
)
def test_unsound_settings_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(FindingsConfig, values)
