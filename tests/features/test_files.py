"""Feature files that others open: Parquet in pandas and Hugging Face datasets, equal to safetensors."""

import os

import numpy as np
import pandas as pd
import pytest

from features.embed_job import small_vit
from memory_corpus import toy_corpus
from raddino.errors import RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed


@pytest.fixture
def corpus(tmp_path):
    return toy_corpus(tmp_path / "corpus", n=12)


def test_parquet_and_safetensors_hold_the_same(corpus, tmp_path):
    rows = np.array([5, 0, 7])
    loaded = []
    for suffix in ("parquet", "safetensors"):
        path = tmp_path / f"f.{suffix}"
        assert embed(corpus, small_vit(), rows=rows, out=path).path == path
        loaded.append(FeatureSet.load(path))
    first, second = loaded
    for name in ("cls", "mean_patch", "rows"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert (first.ids, first.encoder, first.corpus) == (second.ids, second.encoder, second.corpus)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "f.parquet", "f.safetensors"]


def test_files_have_the_rights_that_the_umask_gives(corpus, tmp_path):
    before = os.umask(0o027)
    try:
        features = embed(corpus, small_vit(), patches=True, out=tmp_path / "f.parquet")
        features.save(tmp_path / "f.safetensors")
    finally:
        os.umask(before)
    files = [tmp_path / "f.parquet", tmp_path / "f.safetensors", *corpus.path.glob("features/*/*")]
    assert {file.suffix for file in files} == {".parquet", ".safetensors", ".npy"}
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o640"}


def test_pandas_reads_one_row_an_image(corpus, tmp_path):
    features = embed(corpus, small_vit(), rows=np.array([5, 0, 7]), out=tmp_path / "f.parquet")
    table = pd.read_parquet(tmp_path / "f.parquet")
    assert table.columns.tolist() == ["id", "row", "split", "cls", "mean_patch"]
    assert table["id"].tolist() == ["image5", "image0", "image7"]
    assert table["row"].tolist() == [5, 0, 7]
    assert table["split"].tolist() == corpus.manifest["split"].iloc[[5, 0, 7]].tolist()
    np.testing.assert_array_equal(np.stack(table["cls"]), features.cls)


def test_datasets_reads_it_with_its_width(corpus, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = embed(corpus, small_vit(), out=tmp_path / "f.parquet")
    table = datasets.Dataset.from_parquet(str(tmp_path / "f.parquet"), cache_dir=str(tmp_path / "hub"))
    assert table.features["cls"].length == 32
    assert table.features["cls"].feature.dtype == "float32"
    np.testing.assert_array_equal(table.with_format("numpy")["cls"][:], features.cls)


def test_without_patches_and_splits_there_are_no_such_columns(tmp_path):
    features = FeatureSet(np.ones((2, 3), np.float32), None, np.array([4, 1]), ["a", "b"], "e", "c")
    features.save(tmp_path / "f.parquet")
    assert pd.read_parquet(tmp_path / "f.parquet").columns.tolist() == ["id", "row", "cls"]
    assert FeatureSet.load(tmp_path / "f.parquet").mean_patch is None


@pytest.mark.parametrize("damage", ["cut", "text", "foreign"])
def test_damaged_parquet_is_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "f.parquet"
    FeatureSet(np.ones((2, 3), np.float32), None, np.array([4, 1]), ["a", "b"], "e", "c").save(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "text":
        path.write_text("no table here", encoding="utf-8")
    else:
        pd.DataFrame({"id": ["a"], "row": [1], "cls": [1.0]}).to_parquet(path)
    with pytest.raises(RaddinoError, match="delete it and embed again") as error:
        FeatureSet.load(path)
    assert "\n" not in str(error.value)
