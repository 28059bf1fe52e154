"""Object stores over their real client: files, manifests, archives and corpora on a server that speaks S3."""

import multiprocessing
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from raddino import storage
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import RaddinoError

s3fs = pytest.importorskip("s3fs")
servers = pytest.importorskip("moto.server")


@pytest.fixture
def bucket(images, tmp_path, monkeypatch):
    """Address of a bucket that holds ``xrays`` and ``xrays.zip``; a server on loopback alone."""
    server = servers.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST"), timeout=60).close()
    for name, value in {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1", "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    shutil.make_archive(str(tmp_path / "xrays"), "zip", images)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem()
    fs.mkdir("hospital")
    fs.put(str(images), "hospital/xrays", recursive=True)
    fs.put(str(tmp_path / "xrays.zip"), "hospital/xrays.zip")
    yield "s3://hospital"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def same(a: Corpus, b: Corpus) -> None:
    assert len(a) == len(b) > 0
    for row in range(len(a)):
        np.testing.assert_array_equal(a.read(row), b.read(row))


@pytest.mark.parametrize("place", ["xrays", "xrays/png", "xrays/manifest.csv", "xrays.zip"])
def test_a_source_is_read_as_the_folder_is(bucket, images, tmp_path, place):
    local = tmp_path / place if place.endswith(".zip") else images / Path(place).relative_to("xrays")
    made = prepare(f"{bucket}/{place}", tmp_path / "made", workers=2)
    same(made, prepare(local, tmp_path / "local", workers=1))


def test_a_corpus_is_written_and_read(bucket, images, tmp_path):
    written = prepare(images, f"{bucket}/corpus", workers=1)
    folder = prepare(images, tmp_path / "folder", workers=1)
    fs = s3fs.S3FileSystem()
    for file in folder.path.rglob("*"):
        if file.is_file():
            assert fs.cat_file(f"hospital/corpus/{file.relative_to(folder.path)}") == file.read_bytes()
    same(written, folder)
    same(Corpus.open(f"{bucket}/corpus"), folder)
    assert Corpus.open(f"{bucket}/corpus").fingerprint == folder.fingerprint


def test_processes_read_it_however_they_are_started(bucket, images, tmp_path):
    prepare(images, f"{bucket}/corpus", workers=1)
    corpus = Corpus.open(f"{bucket}/corpus")
    first = corpus.read(7)
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply_async(corpus.read, (7,)).get(120), first)


def test_states_sizes_and_ranges(bucket, images):
    url, file = f"{bucket}/xrays/manifest.csv", images / "manifest.csv"
    assert storage.open_ranges(url).read(3, 20) == file.read_bytes()[3:23]
    before = storage.state_of(url)
    assert before is not None
    assert before[0] == file.stat().st_size
    s3fs.S3FileSystem().pipe_file("hospital/xrays/manifest.csv", file.read_bytes().swapcase())
    s3fs.S3FileSystem.clear_instance_cache()
    assert storage.state_of(url) != before
    assert storage.state_of(f"{bucket}/xrays/absent.csv") is None
    assert storage.remote_sizes(f"{bucket}/xrays")["manifest.csv"] == file.stat().st_size


@pytest.mark.parametrize("place", ["s3://nobody/xrays", "s3://hospital/absent"])
def test_what_is_not_there_is_said_in_one_line(bucket, tmp_path, place):
    with pytest.raises(RaddinoError) as error:
        prepare(place, tmp_path / "made", workers=1)
    assert "\n" not in str(error.value)
    with pytest.raises(RaddinoError, match=r"is no corpus|cannot be reached"):
        Corpus.open(place)


def test_a_server_that_is_not_reached(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(RaddinoError, match="cannot be reached"):
        Corpus.open("s3://hospital/corpus")
