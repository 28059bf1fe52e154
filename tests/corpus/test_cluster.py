"""Ray Data packs the corpus of the local engine, to the byte; refusals and full disks stay one line."""

import os
import pickle
import shutil
import stat
from pathlib import Path

import pandas as pd
import pytest

from raddino.corpus import cluster
from raddino.corpus.pack import ShardTask
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError, RaddinoError


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    ray.init(
        num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )  # fmt: skip
    yield ray
    ray.shutdown()


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_ray_gives_what_the_local_engine_gives(ray, images, tmp_path, monkeypatch, key):
    """Images in an archive, masks beside it, one damaged file; two shards at once of three; an interrupted run."""
    (images / "png/Doe_Jane_03.png").write_bytes(b"no picture")
    shutil.make_archive(str(tmp_path / "x"), "zip", images)
    table = pd.read_csv(images / "manifest.csv")
    table["path"] = [f"{tmp_path}/x.zip::{name}" for name in table["path"]]
    table.to_csv(images / "manifest.csv", index=False)
    whole = prepare(images, tmp_path / "whole", workers=2)
    assert len(whole.info["shards"]) == 3
    monkeypatch.setattr(cluster, "TASKS_AT_ONCE", 1)
    out = tmp_path / "spread"
    with monkeypatch.context() as patched:
        patched.setattr("raddino.corpus.prepare.seal", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(images, out, workers=2, engine="ray")
    (out / ".partial/000001.json").unlink()
    (out / "shards/000001.tar").unlink()
    before = (out / "shards/000000.tar").stat().st_mtime_ns
    blocks, original = [], pickle.dumps

    def kept(*given, **options):
        blocks.append(original(*given, **options))
        return blocks[-1]

    monkeypatch.setattr(cluster.pickle, "dumps", kept)
    assert contents(prepare(images, out, engine="ray").path) == contents(whole.path)
    assert (out / "shards/000000.tar").stat().st_mtime_ns == before
    assert any(b"Doe_Jane" in block for block in blocks)
    assert not any(key.encode() in block for block in blocks)


def test_reports_are_the_owners_alone(ray, images, tmp_path):
    table = pd.read_csv(images / "manifest.csv").assign(report="Clear lungs.")
    table.to_csv(images / "manifest.csv", index=False)
    before = os.umask(0)
    try:
        corpus = prepare(images, tmp_path / "corpus", engine="ray")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in corpus.path.rglob("*") if path.is_file()} == {0o600}


def test_a_place_that_cannot_be_written_is_one_line(ray, images, tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    original = cluster._pack

    def broken(*given):
        shutil.rmtree(out / "shards")
        (out / "shards").write_bytes(b"")
        original(*given)

    monkeypatch.setattr(cluster, "_pack", broken)
    with pytest.raises(RaddinoError, match=r"cannot write .*Not a directory") as error:
        prepare(images, out, workers=1, engine="ray")
    assert "\n" not in str(error.value)
    assert not (out / "corpus.json").exists()


def test_an_actor_that_fails_is_one_line(ray, images, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(ShardTask, "__getstate__", lambda self: {"items": ["Doe_Jane"]}, raising=False)
    with pytest.raises(RaddinoError, match=r"failed \(AttributeError\).* run the same command again") as error:
        prepare(images, tmp_path / "corpus", workers=1, engine="ray")
    assert "\n" not in str(error.value)
    assert "Doe" not in capfd.readouterr().err


def test_without_ray_it_is_said(images, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(RaddinoError, match=r"pip install 'raddino\[cluster\]'"):
        prepare(images, tmp_path / "corpus", engine="ray")


def test_what_ray_does_not_take(images, tmp_path):
    with pytest.raises(ConfigError, match="engine takes local or ray"):
        prepare(images, tmp_path / "corpus", engine="spark")
    with pytest.raises(ConfigError, match="of one process"):
        prepare("memory://x", tmp_path / "corpus", engine="ray")
