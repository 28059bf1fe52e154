"""Study files: every shipped one at every size, what a size changes, and what is refused in which words."""

import re
from pathlib import Path

import pytest
import yaml

from raddino.config import read_yaml
from raddino.errors import ConfigError
from raddino.study.arms import expand
from raddino.study.settings import SHIPPED, load_study, merged, study_names


@pytest.mark.parametrize("name", study_names())
def test_shipped_studies_hold_at_every_size(name):
    sizes = read_yaml(SHIPPED / f"{name}.yaml")["sizes"]
    assert "smoke" in sizes
    for size in (None, *sizes):
        short, study = load_study(name, size)
        arms = expand(study)
        assert short == name
        assert {arm.series for arm in arms} == set(study.arms)
        assert (study.sample is not None) == (size == "smoke"), "a laptop needs no corpus, the others do not invent one"


def test_every_question_is_shipped():
    assert set(study_names()) >= {"text-vs-image", "scaling", "metadata", "ingredients", "full", "external", "guided"}


def test_guided_differs_in_the_guide_alone():
    arms = [arm.config for arm in expand(load_study("guided")[1]) if arm.config.seed == 0]
    guides = [dict(config.ssl.guides) for config in arms]
    assert [(one["manufacturer"], config.ssl.guide_weight) for one, config in zip(guides, arms, strict=True)] == [
        ("remove", 0),
        ("remove", 1),
        ("keep", 1),
    ]
    plain = [
        config.model_copy(update={"ssl": config.ssl.model_copy(update={"guides": (), "guide_weight": 1})})
        for config in arms
    ]
    assert plain[0] == plain[1] == plain[2]


def test_scaling_asks_what_it_says():
    arms = expand(load_study("scaling")[1])
    assert {arm.config.fraction for arm in arms if arm.series == "quantity"} == {0.01, 0.03, 0.1, 0.3, 1.0}
    assert {arm.config.views.global_size for arm in arms if arm.series == "resolution"} == {224, 336, 448, 518}
    assert {arm.config.vit.embed_dim for arm in arms if arm.series == "size"} == {192, 384, 768}
    assert load_study("scaling")[1].budget.compute == "equal"


def test_ingredients_ask_what_they_say():
    arms = {arm.condition: arm.config for arm in expand(load_study("ingredients")[1])}
    assert arms["without masked image modelling"].ssl.ibot_weight == 0
    assert arms["without KoLeo"].ssl.koleo_weight == 0
    assert arms["without local crops"].views.local_views == 0
    assert [arms[name].init for name in ("random", "natural images", "chest X-rays")] == [
        None,
        "dinov2-base",
        "rad-dino",
    ]
    assert set(load_study("ingredients")[1].tasks) == {"findings", "segmentation", "texts"}


def test_the_page_about_studies_names_them_all_and_its_file_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs/study.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \| (?:\d:|does)", page, re.M)) == set(study_names())
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "own.yaml").write_text(example, encoding="utf-8")
    arms = expand(load_study(str(tmp_path / "own.yaml"), "quick")[1])
    assert len(arms) == 3 * 2 + 2 * 2 + 2
    assert load_study(str(tmp_path / "own.yaml"), "quick")[1].budget.steps == 500


def test_a_size_changes_keys_and_takes_the_place_of_factors():
    values = {"set": {"a": 1, "b": {"c": 2}}, "arms": {"x": {"vary": {"f": {"one": {}, "two": {}}, "g": [1]}}}}
    found = merged(values, {"set": {"b": {"c": 3}}, "arms": {"x": {"vary": {"f": {"three": {}}}}}})
    assert found == {"set": {"a": 1, "b": {"c": 3}}, "arms": {"x": {"vary": {"f": {"three": {}}, "g": [1]}}}}
    assert merged(values, {"set": {"b": None}})["set"] == {"a": 1}
    assert values["set"] == {"a": 1, "b": {"c": 2}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": {"x": {"encoders": ["/jane/a/encoder", "/jane/b/encoder"]}}}, "two encoders have one label"),
        ({"arms": {"x": {"encoders": ["hog"], "vary": {"seed": [0]}}}}, "not trained"),
        ({"arms": {"x": {"vary": {"fraction": [0.1]}, "axis": "fractoin"}}}, "Did you mean 'fraction'"),
        ({"tasks": {"x": {"suite": "synthetic", "targets": ["sex"]}}}, "suite or targets"),
        ({"tasks": {"x": {"leave_one_out": True, "test_on": ["a"]}}}, "leave_one_out"),
        ({"budgt": {}}, "Did you mean 'budget'"),
        ({"arms": {}}, "arms"),
        ({"sizes": {"small": {"budget": {"steps": -1}}}}, "budget.steps"),
        ({"sizes": [1]}, "sizes holds"),
    ],
)
def test_what_is_refused(values, tmp_path, change, words):
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(values | change), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_study(str(file))


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'scaling'"):
        load_study("scalling")
    with pytest.raises(ConfigError, match="Did you mean 'smoke'"):
        load_study("scaling", "smok")
    with pytest.raises(ConfigError, match="does not exist"):
        load_study("nowhere.yaml")
