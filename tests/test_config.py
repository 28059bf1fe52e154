"""Presets, files and overrides; every mistake is one line with a suggestion."""

import pytest

from raddino.config import diff, load_config, preset_names
from raddino.errors import ConfigError
from raddino.training.pretrain import PretrainConfig


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid(name):
    assert load_config(PretrainConfig, name).steps > 0


def test_the_rad_dino_preset_states_the_paper_model():
    config = load_config(PretrainConfig, "rad-dino-vit-b-518")
    assert (config.vit.embed_dim, config.vit.depth, config.vit.patch_size) == (768, 12, 14)
    assert (config.views.global_size // config.vit.patch_size) == 37
    assert config.ssl.head.prototypes == 65536
    assert config.views.solarize == 0
    assert config.schedule.lr == pytest.approx(1e-3 * (config.batch_size / 1024) ** 0.5, rel=1e-2)


def test_overrides_reach_nested_keys_and_read_scientific_notation():
    config = load_config(PretrainConfig, None, ["schedule.lr=1e-4", "ssl.head.prototypes=128", "splits=[train, val]"])
    assert config.schedule.lr == 1e-4
    assert config.ssl.head.prototypes == 128
    assert config.splits == ("train", "val")


@pytest.mark.parametrize(
    ("preset", "overrides", "match"),
    [
        ("small-bach", [], "unknown preset 'small-bach'. Did you mean 'small-batch'"),
        ("absent.yaml", [], "does not exist"),
        (None, ["ssl.kolео=1"], "unknown config key"),
        (None, ["ssl.koleo=1"], "Did you mean 'koleo_weight'"),
        (None, ["stepz=1"], "unknown config key 'stepz'. Did you mean 'steps'"),
        (None, ["steps=many"], "config key 'steps'.*got 'many'"),
        (None, ["steps"], "takes key=value"),
        (None, ["steps=3", "steps.x=1"], "is a value, not a section"),
        (None, ["ssl=3"], "config key 'ssl'"),
        (None, ["steps={a: ["], "not a YAML value"),
        (None, ["where=@x"], "not a YAML value"),
        (None, ["schedule.lr=.inf"], "finite"),
        (None, ["views.mean=nan"], "finite"),
        (None, ["optim.betas=[2, 3]"], "optim.betas"),
        (None, ["views.masks.ratio=[3, 4]"], "ratio must hold"),
        (None, ["views.blur=[2, 0, 0]"], "views.blur"),
        (None, ["views.global_size=33", "vit.patch_size=8", "vit.image_size=32"], "^config: view size 33"),
    ],
)
def test_mistakes_are_one_line(preset, overrides, match):
    with pytest.raises(ConfigError, match=match) as raised:
        load_config(PretrainConfig, preset, overrides)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "just text"])
def test_files_that_are_no_mapping_are_refused(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        load_config(PretrainConfig, str(tmp_path / "c.yaml"))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"c\.yaml is not text in UTF-8"):
        load_config(PretrainConfig, str(tmp_path / "c.yaml"))


def test_diff_names_leaves():
    assert diff({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "d": 3}) == ["a.c: 2 -> 5"]


@pytest.mark.parametrize(("length", "whole"), [(98, True), (99, False), (10_000, False)])
def test_what_was_given_is_repeated_up_to_a_hundred_signs(length, whole):
    with pytest.raises(ConfigError) as refused:
        load_config(PretrainConfig, None, [f"steps={'m' * length}"])
    said = str(refused.value).split("(got ")[1].removesuffix(")")
    assert said == (f"'{'m' * length}'" if whole else f"'{'m' * 99}…")
