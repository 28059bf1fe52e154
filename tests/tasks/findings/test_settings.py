from pathlib import Path

import pytest

from raddino.config import validate
from raddino.errors import ConfigError
from raddino.tasks.findings.settings import FindingsConfig


def test_defaults_follow_llava() -> None:
    config = FindingsConfig()
    assert config.tuning == "lora"
    assert [stage.train for stage in config.recipe] == ["projector", "both"]
    assert FindingsConfig(language_model="tiny").tuning == "full"


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
        ({"projector_layers": 3}, "projector_layers"),
        ({"tiny": {"width": 100, "heads": 6}}, "multiple"),
        ({"langage_model": "tiny"}, "Did you mean 'language_model'"),
    ],
)
def test_unsound_settings_are_refused(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        validate(FindingsConfig, values)
