"""Opening, selecting and reading a corpus, whole and damaged."""

import json
import pickle

import numpy as np
import pytest

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError, RaddinoError


@pytest.fixture
def corpus(images, tmp_path) -> Corpus:
    return prepare(images, tmp_path / "corpus", workers=1)


def test_reopened_is_the_same(corpus):
    again = Corpus.open(str(corpus.path))
    assert again.fingerprint == corpus.fingerprint
    assert again.info == corpus.info
    np.testing.assert_array_equal(again.read(5), corpus.read(5))
    assert again.manifest["report"].tolist() == [None] * 40


def test_pickled_copy_reads(corpus):
    before = corpus.read(39)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(corpus)).read(39), before)


def test_forked_loader_workers_read(corpus):
    from torch.utils.data import DataLoader

    corpus.read(0)  # files are open before the workers start
    loader = DataLoader(_Sums(corpus), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert [int(total) for total in loader] == [int(corpus.read(i).sum()) for i in range(40)]


class _Sums:
    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, i: int) -> int:
        return int(self.corpus.read(i).sum())


def test_rows(corpus):
    table = corpus.manifest
    assert len(corpus.rows()) == 40
    assert corpus.rows("val").tolist() == np.flatnonzero(table["split"] == "val").tolist()
    chosen = corpus.rows("train", "sex == 'F' and age > 30 and label_edema == 1")
    expected = (table["split"] == "train") & (table["sex"] == "F") & (table["age"] > 30)
    expected &= table["label_edema"] == 1
    assert chosen.tolist() == np.flatnonzero(expected).tolist()
    assert len(corpus.rows(where="report == 'x'")) == 0


def test_query_compares_and_touches_nothing_else(corpus, tmp_path):
    assert len(corpus.rows(where="sex.isin(['F', 'M']) | `sex`.isna()")) == len(corpus)
    write = f"sex.to_csv({str(tmp_path / 'x')!r})"
    for where in (f"{write} == sex", f"sex == '`' and {write} == '`'", f'sex == "`" and {write} == "`"'):
        with pytest.raises(ConfigError, match="to_csv is not one of"):
            corpus.rows(where=where)
    assert not list(tmp_path.glob("x"))


@pytest.mark.parametrize(
    "where", ["sexx == 'F'", "sex = 'F'", "sex ==", "age", "age.sum()", "@x == 1", "", "print(sex) == sex"]
)
def test_wrong_query_is_one_line(corpus, where):
    with pytest.raises(ConfigError) as error:
        corpus.rows(where=where)
    assert "\n" not in str(error.value)


def test_wrong_names_get_a_suggestion(corpus):
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        corpus.rows("trian")
    with pytest.raises(ConfigError, match="Did you mean 'lungs'"):
        corpus.read_mask(0, "lung")


def test_rows_without_a_mask_give_none(images, tmp_path):
    (images / "png/Doe_Jane_04_lungs.png").unlink()
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    assert corpus.read_mask(4, "lungs") is None
    assert corpus.read_mask(5, "lungs") is not None


def test_absent_corpus(tmp_path):
    with pytest.raises(RaddinoError, match="is no corpus"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("name", ["shards/000001.tar", "manifest.parquet"])
@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_missing_bytes_are_noticed(corpus, name, damage):
    file = corpus.path / name
    data = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(data[:-1])
    with pytest.raises(RaddinoError, match=name):
        Corpus.open(corpus.path)


def test_a_damaged_image_is_a_one_line_error(corpus):
    file = corpus.path / "shards/000000.tar"
    data = file.read_bytes()
    file.write_bytes(data[:512] + bytes(len(data) - 512))
    with pytest.raises(RaddinoError, match="damaged at byte") as raised:
        Corpus.open(corpus.path).read(0)
    assert "\n" not in str(raised.value)


def test_a_manifest_that_is_no_manifest_is_refused(corpus):
    file = corpus.path / "manifest.parquet"
    table = corpus.manifest
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(RaddinoError, match=r"is not the one that corpus\.json describes"):
        Corpus.open(corpus.path)
    _describe(corpus)
    with pytest.raises(RaddinoError, match=r"manifest\.parquet is damaged"):
        Corpus.open(corpus.path)
    table.drop(columns="split").to_parquet(file)
    _describe(corpus)
    with pytest.raises(RaddinoError, match="lacks the column 'split'"):
        Corpus.open(corpus.path)


def _describe(corpus):
    """Let ``corpus.json`` speak of the manifest as it is now, as one that an older version wrote."""
    info = {key: value for key, value in corpus.info.items() if key != "manifest_sha256"}
    info["manifest_bytes"] = (corpus.path / "manifest.parquet").stat().st_size
    (corpus.path / "corpus.json").write_text(json.dumps(info), encoding="utf-8")


def test_other_version_and_damaged_json(corpus):
    file = corpus.path / "corpus.json"
    file.write_text(json.dumps({**corpus.info, "format": 99}), encoding="utf-8")
    with pytest.raises(RaddinoError, match="format 99"):
        Corpus.open(corpus.path)
    file.write_text(json.dumps({**corpus.info, "format": 1}), encoding="utf-8")
    with pytest.raises(
        RaddinoError, match=r"format 1, in which a person under two .*: prepare the images again"
    ) as old:
        Corpus.open(corpus.path)
    assert "\n" not in str(old.value)
    for text in ("{half", "[]", "{}", '{"format": 1}'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(RaddinoError):
            Corpus.open(corpus.path)
