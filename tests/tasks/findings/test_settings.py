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
