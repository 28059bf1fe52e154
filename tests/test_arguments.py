"""What people write after options, and what they are told when it is not that."""

import pytest

from raddino.arguments import analyses, names, number, pairs, settings, value
from raddino.errors import ConfigError


def test_pairs():
    assert pairs("--x", None, "a=b") == pairs("--x", [], "a=b") == {}
    assert pairs("--x", ["a=b", "c==d=", "e="], "a=b") == {"a": "b", "c": "=d=", "e": ""}
    with pytest.raises(ConfigError, match=r"--x takes name=…, for example name=path; got 'b'"):
        pairs("--x", ["a=b", "b"], "name=path")


@pytest.mark.parametrize(("text", "found"), [("3", 3.0), ("-1e-3", -0.001), (" 2.5 ", 2.5)])
def test_numbers(text, found):
    assert number("--x", text) == found


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "three", "", "1,5"])
def test_what_is_no_finite_number_is_refused(text):
    with pytest.raises(ConfigError, match=f"--x takes numbers, got '{text}'"):
        number("--x", text)


def test_values_are_yaml():
    assert [value(text) for text in ("1", "1.5", "true", "[a, 2]", "word")] == [1, 1.5, True, ["a", 2], "word"]
    with pytest.raises(ConfigError, match="YAML"):
        value("[a")


def test_settings_by_kind():
    found = settings(["segmentation.head=upernet", "segmentation.steps=10", "findings.lora.rank=4"])
    assert found == {"segmentation": {"head": "upernet", "steps": 10}, "findings": {"lora.rank": 4}}
    assert settings(None) == {}


@pytest.mark.parametrize("text", ["head=upernet", "segmentation.=3", "=3"])
def test_a_setting_without_kind_or_name_is_refused(text):
    with pytest.raises(ConfigError, match=r"KIND\.SETTING=VALUE"):
        settings([text])


def test_names_are_given():
    assert names("--test-on", None) is None
    assert names("--test-on", " a, b ,,c") == ["a", "b", "c"]
    for text in ("", " ", ",", " , "):
        with pytest.raises(ConfigError, match="--test-on takes names between commas"):
            names("--test-on", text)


def test_names_of_analyses():
    assert analyses(None) is None
    assert analyses("") == []
    assert analyses(" a, b ,,c") == ["a", "b", "c"]
    assert {"calibration", "retrieval", "subgroups"} <= set(analyses("all"))
