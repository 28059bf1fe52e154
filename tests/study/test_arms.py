"""Factors crossed, images counted, fractions within each other, and digests of what decides a result."""

from dataclasses import replace

import pytest

from raddino.config import load_config
from raddino.errors import ConfigError, RaddinoError
from raddino.study.arms import check_nested, digested, expand, place, rows_of, stretched
from raddino.study.settings import load_study
from raddino.training.settings import PretrainConfig


def arms(planned, values, series="quantity"):
    return [arm for arm in planned(values).arms if arm.series == series]


def test_factors_are_crossed_and_seeds_repeat_a_condition(planned, values):
    values["arms"]["quantity"]["vary"] = {"fraction": [0.3, 1.0], "ssl.koleo_weight": [0, 0.1], "seed": [4, 5]}
    found = arms(planned, values)
    assert [arm.label for arm in found[:3]] == [
        "fraction 30 %, koleo_weight 0, seed 4", "fraction 30 %, koleo_weight 0, seed 5",
        "fraction 30 %, koleo_weight 0.1, seed 4",
    ]  # fmt: skip
    assert len(found) == 8
    assert len({arm.condition for arm in found}) == 4
    assert {(arm.config.fraction, arm.config.ssl.koleo_weight, arm.config.seed) for arm in found} == {
        (f, k, s) for f in (0.3, 1.0) for k in (0, 0.1) for s in (4, 5)
    }


def test_labels_with_changes_and_nested_or_dotted_keys_say_the_same(planned, values):
    values["arms"]["quantity"] = {"vary": {"what": {"a": {"views": {"flip": 0.25}}, "b": {"views.flip": 0.25}}}}
    one, two = arms(planned, values)
    assert (one.condition, two.condition) == ("a", "b")
    assert one.config.views.flip == 0.25
    assert one.digest == two.digest, "a name decides nothing"
    assert one.config.views.local_size == 16, "what a change does not name stays as the study has it"


def test_a_series_that_varies_nothing_is_one_arm(planned, values):
    values["arms"]["quantity"] = {}
    assert [arm.label for arm in arms(planned, values)] == ["quantity"]


def test_images_and_patients_are_those_of_the_manifest(planned, values, corpus):
    values["arms"]["quantity"]["vary"] = {"sources": [1, 2, ["synthetic-b"]]}
    values["arms"]["quantity"]["axis"] = "sources"
    one, two, named = arms(planned, values)
    table = corpus.manifest[corpus.manifest["split"] == "train"]
    counts = table["source"].value_counts()
    assert (one.images, two.images) == (counts.max(), len(table))
    assert two.patients == table["patient"].nunique()
    assert named.images == counts["synthetic-b"]
    assert set(rows_of(one, corpus)) <= set(rows_of(two, corpus))
    assert [arm.at("sources") for arm in (one, two, named)] == [1, 2, 1]


def test_equal_images_thin_the_larger_arms(planned, values):
    values["arms"]["quantity"] |= {"vary": {"sources": [1, 2]}, "equal_images": True, "axis": "sources"}
    one, two = arms(planned, values)
    assert abs(two.images - one.images) < 0.25 * one.images
    assert two.config.fraction < 1


def test_fractions_lie_within_each_other_by_patient(planned, values, corpus):
    values["arms"]["quantity"]["vary"] = {"fraction": [1.0, 0.2, 0.5], "seed": [0, 1]}
    made = planned(values)
    assert made.nested == 4
    by_label = {arm.label: set(corpus.manifest["patient"].iloc[rows_of(arm, corpus)]) for arm in made.arms[:6]}
    for seed in (0, 1):
        small, middle, whole = (by_label[f"fraction {share} %, seed {seed}"] for share in (20, 50, 100))
        assert small < middle < whole
    one, two = (arm for arm in made.arms if arm.label in ("fraction 20 %, seed 0", "fraction 50 %, seed 0"))
    other = replace(one, config=one.config.model_copy(update={"seed": 9}))
    with pytest.raises(RaddinoError, match="fraction 20 %, seed 0 do not lie within those of fraction 50 %"):
        check_nested([other, two], corpus)


def test_an_arm_without_enough_images_says_so_and_the_others_stay(planned, values):
    values["arms"]["quantity"]["vary"] = {"fraction": [0.001, 1.0], "seed": [3]}
    few, whole = arms(planned, values)
    assert "too few for batch_size" in few.reason
    assert not few.digest
    assert not whole.reason
    values["arms"]["quantity"]["vary"] = {"sources": [2, 3, ["nih"]]}
    values["arms"]["quantity"]["axis"] = None
    _, three, nih = arms(planned, values)
    assert "3 sources of a corpus that trains on 2: synthetic-" in three.reason
    assert nih.reason == "the corpus has no source 'nih'"
    values["arms"] = {"quantity": {"vary": {"sources": [5]}}}
    with pytest.raises(ConfigError, match="no arm of study own can run"):
        planned(values)


def test_a_digest_is_of_settings_images_and_initial_weights(planned, values, corpus, tmp_path):
    made = planned(values)
    _, whole, hog = made.arms
    assert len({arm.digest for arm in made.arms}) == 3
    assert digested(replace(whole, series="x", factors={}), corpus).digest == whole.digest
    changed = [
        whole.config.model_copy(update={"seed": 1}),
        whole.config.model_copy(update={"steps": 11}),
        whole.config.model_copy(update={"ssl": whole.config.ssl.model_copy(update={"koleo_weight": 0.2})}),
    ]
    digests = {digested(replace(whole, config=config), corpus).digest for config in changed}
    assert len(digests | {whole.digest}) == 4
    for folder, weights in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(weights)
    a, b, c = (
        digested(replace(whole, config=whole.config.model_copy(update={"init": str(tmp_path / name)})), corpus).digest
        for name in "abc"
    )
    assert a == b != c, "what lies in the folder counts, not what it is called"
    assert hog.digest == digested(replace(hog, factors={"encoder": "other"}), corpus).digest


def test_the_corpus_is_part_of_the_digest(planned, values, corpus, monkeypatch):
    whole = planned(values).arms[1]
    monkeypatch.setitem(corpus.info, "fingerprint", "another")
    assert digested(whole, corpus).digest != whole.digest


@pytest.mark.parametrize("steps", [100, 20_000, 70_000])
def test_a_stretched_schedule_keeps_its_shape(steps):
    config = load_config(PretrainConfig, "rad-dino-vit-b-518")
    longer = stretched(config, steps)
    assert longer.steps == steps
    for key in ("warmup_steps", "freeze_last_layer_steps", "teacher_temperature_steps", "length"):
        before, after = getattr(config.schedule, key), getattr(longer.schedule, key)
        assert after / steps == pytest.approx(before / config.steps, abs=0.5 / steps)
    assert longer.schedule.lr == config.schedule.lr


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({"vary": {"ssl.koleo_wieght": [0]}}, "koleo_wieght"),
        ({"vary": {"fraction": [0.5, 0.5]}}, "two arms are called 'fraction 50 %'"),
        ({"vary": {"init": ["/jane/a/encoder", "/jane/b/encoder"]}}, r"two arms are called 'encoder': give factors as"),
        ({"vary": {"fraction": [0.5, 1.0]}, "against": "fraction 20 %"}, "none of fraction 50 %, fraction 100 %"),
        ({"vary": {"preset": ["cpu-smok"]}}, "Did you mean 'cpu-smoke'"),
    ],
)
def test_mistakes_in_a_series_are_named(planned, values, series, words):
    values["arms"]["quantity"] = series
    with pytest.raises(ConfigError, match=words):
        planned(values)


def test_numbers_of_axes(planned, values, corpus):
    values["arms"]["quantity"] = {"vary": {"pixels": {32: {}, "many": {"views.flip": 0}}}, "axis": "pixels"}
    one, two = arms(planned, values)
    assert (one.at("pixels"), two.at("pixels")) == (32, None)
    assert one.at("flops") == one.flops > 0
    study = load_study("text-vs-image", "smoke")[1]
    assert all(arm.at("flops") is None for arm in place(expand(study), study, corpus))
