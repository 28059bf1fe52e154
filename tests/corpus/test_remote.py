"""A corpus behind a URL is the corpus in the folder; nothing half of it opens, and little of it is fetched."""

import multiprocessing
import os
import pickle
import stat

import fsspec
import numpy as np
import pytest

from raddino import storage
from raddino.corpus.combine import combine
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import RaddinoError

URL = "memory://bucket/corpus"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache/raddino"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def folder(images, tmp_path):
    return prepare(images, tmp_path / "folder", workers=1)


@pytest.fixture
def remote(folder):
    fs = fsspec.filesystem("memory")
    for file in folder.path.rglob("*"):
        if file.is_file():
            fs.pipe_file(f"/bucket/corpus/{file.relative_to(folder.path)}", file.read_bytes())
    return fs


def same(a: Corpus, b: Corpus) -> None:
    assert a.fingerprint == b.fingerprint
    assert a.manifest.equals(b.manifest)
    for row in range(len(a)):
        np.testing.assert_array_equal(a.read(row), b.read(row))
        np.testing.assert_array_equal(a.read_mask(row, "lungs"), b.read_mask(row, "lungs"))


@pytest.mark.parametrize("url", [URL, f"{URL}/"])
def test_it_is_read_as_the_folder_is(folder, remote, url):
    same(Corpus.open(url), folder)
    same(pickle.loads(pickle.dumps(Corpus.open(url))), folder)
    np.testing.assert_array_equal(Corpus.open(url).rows("test"), folder.rows("test"))


def test_a_file_url_is_the_folder(folder):
    corpus = Corpus.open(f"file://{folder.path}")
    assert corpus.path == folder.path
    same(corpus, folder)


def test_a_forked_worker_reads_it(folder, remote):
    corpus = Corpus.open(URL)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(corpus.read, (7,)), folder.read(7))


def test_only_what_is_asked_for_is_fetched(folder, remote, monkeypatch):
    fetched = []
    original = storage.read_remote

    def counted(url, *span):
        data = original(url, *span)
        fetched.append((url.rpartition("/")[2], len(data)))
        return data

    for module in ("raddino.storage", "raddino.corpus.shards"):
        monkeypatch.setattr(f"{module}.read_remote", counted)
    corpus = Corpus.open(URL)
    assert {name for name, _ in fetched} == {"corpus.json", "manifest.parquet"}
    fetched.clear()
    corpus = Corpus.open(URL)
    assert {name for name, _ in fetched} == {"corpus.json"}
    fetched.clear()
    corpus.read(3)
    assert fetched == [(corpus.manifest["shard"][3], corpus.manifest["length"][3])]


def test_its_small_files_are_the_owners_alone(remote, cache):
    corpus = Corpus.open(URL)
    assert corpus.path.parent == cache / "corpora"
    assert stat.S_IMODE(corpus.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in corpus.path.iterdir()} == {0o600}
    assert sorted(os.listdir(corpus.path)) == ["corpus.json", "manifest.parquet"]


def test_another_corpus_under_the_same_url(images, folder, remote, tmp_path):
    Corpus.open(URL)
    other = prepare(images, tmp_path / "other", workers=1, bits=16)
    for file in other.path.rglob("*"):
        if file.is_file():
            remote.pipe_file(f"/bucket/corpus/{file.relative_to(other.path)}", file.read_bytes())
    same(Corpus.open(URL), other)


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("corpus.json", "memory://bucket/corpus is no corpus"),
        ("manifest.parquet", "manifest.parquet is missing or cut short"),
        ("shards/000000.tar", "corpus memory://bucket/corpus: shards/000000.tar is missing or cut short"),
    ],
)
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_half_a_corpus_does_not_open(remote, gone, told, how):
    path = f"/bucket/corpus/{gone}"
    if how == "gone":
        remote.rm_file(path)
    else:
        remote.pipe_file(path, remote.cat_file(path)[:-9])
        told = told if gone != "corpus.json" else "corpus.json is damaged"
    with pytest.raises(RaddinoError, match=told) as error:
        Corpus.open(URL)
    assert "\n" not in str(error.value)


def test_a_shard_that_goes_after_it_was_opened(remote):
    corpus = Corpus.open(URL)
    remote.rm_file("/bucket/corpus/shards/000000.tar")
    with pytest.raises(RaddinoError, match=r"shard 000000.tar of corpus memory://bucket/corpus is missing"):
        corpus.read(0)


def test_it_is_combined_with_a_folder(images, remote, tmp_path):
    other = prepare(images, tmp_path / "other", workers=1, where="path < 'png/Doe_Jane_10'", columns={"path": "path"})
    with pytest.raises(RaddinoError, match="shares"):
        combine([Corpus.open(URL), other])


def test_prepare_writes_it(images, folder, cache):
    corpus = prepare(images, URL, workers=2)
    same(corpus, folder)
    fs = fsspec.filesystem("memory")
    written = {path.removeprefix("/bucket/corpus/") for path in fs.find("/bucket/corpus")}
    assert written == {str(file.relative_to(folder.path)) for file in folder.path.rglob("*") if file.is_file()}
    for name in written:
        assert fs.cat_file(f"/bucket/corpus/{name}") == (folder.path / name).read_bytes()
    assert not list((cache / "staged").iterdir())
    same(prepare(images, URL), folder)
    with pytest.raises(RaddinoError, match=r"memory://bucket/corpus was made from other images"):
        prepare(images, URL, bits=16)


def test_a_copy_that_fails_leaves_no_corpus_and_is_gone_on_with(images, folder, cache, monkeypatch):
    fs = fsspec.filesystem("memory")
    original, packed = type(fs).put_file, []
    with monkeypatch.context() as broken:

        def refuse(self, here, there, **options):
            if there.endswith("manifest.parquet"):
                raise PermissionError("secret account")
            return original(self, here, there, **options)

        broken.setattr(type(fs), "put_file", refuse)
        with pytest.raises(
            RaddinoError, match=r"memory://bucket/corpus cannot be written \(PermissionError\)"
        ) as error:
            prepare(images, URL, workers=1)
    assert "secret" not in str(error.value)
    with pytest.raises(RaddinoError, match="is no corpus"):
        Corpus.open(URL)
    staged = next((cache / "staged").iterdir())
    assert stat.S_IMODE(staged.stat().st_mode) == 0o700
    monkeypatch.setattr("raddino.corpus.prepare.pack_all", lambda *given: packed.append(given))
    same(prepare(images, URL, workers=1), folder)
    assert not packed
