"""Settings of probes as suites write them, the input that they read, and selection."""

import numpy as np
import pytest
import torch

from raddino.config import Config, validate
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.patches import PatchRows
from raddino.tasks.probes import PROBES, KNNConfig, LinearConfig, ProbeSetting, parse_probe
from raddino.tasks.probes.base import CHUNK, LinearMap, choose
from raddino.tasks.probes.read import read_features, take


class Holder(Config):
    probe: ProbeSetting = LinearConfig()


def test_a_kind_a_mapping_or_nothing():
    assert validate(Holder, {}).probe == LinearConfig()
    assert validate(Holder, {"probe": "knn"}).probe == KNNConfig()
    assert validate(Holder, {"probe": {"seeds": 2}}).probe == LinearConfig(seeds=2)
    assert validate(Holder, {"probe": {"kind": "knn", "neighbours": [3]}}).probe == KNNConfig(neighbours=(3,))


@pytest.mark.parametrize("kind", list(PROBES))
def test_settings_survive_a_round_trip_and_only_their_own_keys(kind):
    setting = parse_probe(kind)
    assert setting.kind == kind
    assert validate(Holder, Holder(probe=setting).model_dump(mode="json")).probe == setting


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("knnn", "unknown probe 'knnn'. Did you mean 'knn'"),
        ({"kind": "knn", "neighbour": [1]}, "Did you mean 'neighbours'"),
        ({"kind": "knn", "seeds": 3}, "unknown config key 'seeds'"),
        ({"kind": "knn", "neighbours": [0]}, "greater than 0"),
        ({"kind": "attentive", "features": "cls"}, "features"),
        ({"criterion": "f1"}, "criterion"),
        ([1], "a probe is a kind"),
    ],
)
def test_mistakes_are_one_line(value, message):
    with pytest.raises(RaddinoError, match=message) as error:
        validate(Holder, {"probe": value})
    assert "\n" not in str(error.value)


def feature_set(mean_patch=True, patches=None):
    rows = np.array([7, 3, 5])
    cls = rows[:, None] * np.ones((3, 2), np.float32)
    return FeatureSet(cls, -cls if mean_patch else None, rows, ["a", "b", "c"], "encoder", "corpus", patches=patches)


@pytest.mark.parametrize(
    ("features", "expected"), [("cls", [5, 5]), ("mean_patch", [-5, -5]), ("both", [5, 5, -5, -5]), ("grid", [5, 5])]
)
def test_features_are_read_in_the_order_of_the_rows(features, expected):
    x = read_features(feature_set(), np.array([5, 7]), LinearConfig(features=features))
    assert x[0].tolist() == expected


def test_patches_stay_where_they_are_until_a_batch_is_read():
    source = np.arange(8)[:, None, None, None] * np.ones((8, 2, 2, 4), np.float16)
    held = feature_set(patches=PatchRows(source, np.array([7, 3, 5])))
    some = take(read_features(held, np.array([5, 7, 3]), parse_probe("attentive")), np.array([2, 0]))
    assert isinstance(some, PatchRows)
    assert some.shape == (2, 2, 2, 4)
    assert some[np.array([0, 1])][:, 0, 0, 0].tolist() == [3, 5]


def test_what_an_encoder_does_not_have_is_named():
    with pytest.raises(RaddinoError, match="no patch tokens"):
        read_features(feature_set(mean_patch=False), np.array([3]), LinearConfig(features="both"))
    with pytest.raises(RaddinoError, match="none were kept"):
        read_features(feature_set(), np.array([3]), parse_probe("attentive"))


def test_each_label_chooses_by_the_mean_over_seeds_and_never_what_diverged():
    target = torch.tensor([[0.0, 1], [1, 0]])
    good, bad = torch.tensor([[-2.0, 2], [2, -2]]), torch.tensor([[2.0, 2], [-2, -2]])
    seeds = [torch.stack([good, bad], 1), torch.stack([good, good * torch.nan], 1)]
    assert choose(seeds, target, "logistic", "loss") == [0, 0]
    mixed = torch.stack([torch.stack([bad[:, 0], good[:, 1]], 1), torch.stack([good[:, 0], bad[:, 0]], 1)], 1)
    assert choose([mixed], target, "logistic", "auroc") == [1, 0]
    with pytest.raises(RaddinoError, match="diverged"):
        choose([seeds[0] * torch.nan], target, "logistic", "loss")


def test_unknown_kind_of_setting_is_a_config_error():
    with pytest.raises(ConfigError):
        parse_probe(3)


@pytest.mark.parametrize("rows", [0, 1, CHUNK, CHUNK + 3])
def test_a_linear_map_is_one_product_whatever_the_number_of_rows(rows):
    random = np.random.default_rng(0)
    weight, bias, x = random.normal(size=(2, 3, 4)), random.normal(size=(2, 1, 4)), random.normal(size=(rows, 3))
    found = LinearMap(weight, bias, []).predict(x)
    assert found.shape == (2, rows, 4)
    np.testing.assert_allclose(found, np.einsum("nd,sdt->snt", x, weight) + bias)
