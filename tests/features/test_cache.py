"""Feature files: readable by others, whole or absent, refused when damaged."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from raddino.errors import RaddinoError
from raddino.features.cache import FeatureCache, FeatureSet


def features(rows=(3, 1, 7), patches=True, encoder="enc", corpus="data") -> FeatureSet:
    rng = np.random.default_rng(sum(rows))
    n = len(rows)
    mean_patch = rng.normal(size=(n, 4)).astype(np.float32) if patches else None
    cls = rng.normal(size=(n, 4)).astype(np.float32)
    return FeatureSet(cls, mean_patch, np.array(rows), [f"id{row}" for row in rows], encoder, corpus)


@pytest.mark.parametrize("patches", [True, False])
def test_round_trip(tmp_path, patches):
    saved = features(patches=patches)
    saved.save(tmp_path / "deep" / "f.safetensors")
    loaded = FeatureSet.load(tmp_path / "deep" / "f.safetensors")
    np.testing.assert_array_equal(loaded.cls, saved.cls)
    assert (loaded.mean_patch is None) is not patches
    assert loaded.ids == saved.ids
    assert (loaded.encoder, loaded.corpus) == ("enc", "data")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f.safetensors"]


def test_another_program_can_read_it(tmp_path):
    features().save(tmp_path / "f.safetensors")
    with safe_open(tmp_path / "f.safetensors", "pt") as file:
        assert set(file.keys()) == {"cls", "mean_patch", "rows"}
        assert json.loads(file.metadata()["ids"]) == ["id3", "id1", "id7"]


def test_take_follows_the_asked_order_and_join_undoes_splitting():
    whole = features()
    np.testing.assert_array_equal(whole.take([7, 3]).cls, whole.cls[[2, 0]])
    assert whole.take([7, 3]).ids == ["id7", "id3"]
    again = FeatureSet.join([whole.take([3]), whole.take([1, 7])])
    np.testing.assert_array_equal(again.mean_patch, whole.mean_patch)
    with pytest.raises(KeyError):
        whole.take([2])


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_damage_is_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "f.safetensors"
    features().save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "text":
        path.write_text("no tensors here", encoding="utf-8")
    else:
        from safetensors.numpy import save_file

        save_file({"cls": np.zeros(2)}, path)
    with pytest.raises(RaddinoError, match="delete it and embed again") as error:
        FeatureSet.load(path)
    assert "\n" not in str(error.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(RaddinoError, match="does not exist"):
        FeatureSet.load(tmp_path / "f.safetensors")


def test_cache_keeps_encoders_and_corpora_apart(tmp_path):
    stores = [FeatureCache(tmp_path, *pair) for pair in (("a", "x"), ("a", "y"), ("b", "x"))]
    assert len({store.folder for store in stores}) == 3
    stores[0].add(features(encoder="a", corpus="x"))
    stores[0].add(features(rows=(9,), encoder="a", corpus="x"))
    assert sorted(len(part.rows) for part in stores[0].load()) == [1, 3]
    assert stores[1].load() == []
    features(encoder="b", corpus="x").save(stores[0].folder / "stray.safetensors")
    with pytest.raises(RaddinoError, match="another encoder"):
        stores[0].load()
