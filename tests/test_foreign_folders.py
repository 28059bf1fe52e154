"""Folders that come from elsewhere are data: damaged or hostile, each is one line, soon, and nothing in it runs."""

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from foreign_harms import DEEP, HOSTILE, JSONS, describe
from foreign_places import READERS, make_places, read_cache, read_network
from raddino.cli import main
from raddino.corpus.dataset import FORMAT, Corpus
from raddino.corpus.prepare import prepare
from raddino.corpus.shards import encode_png
from raddino.errors import RaddinoError
from raddino.report.findings_page import read_reports
from raddino.tables import write_table

SECONDS, MEGABYTES = 10, 700


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    return make_places(tmp_path_factory.mktemp("places"))


def copy_of(places: Path, name: str, tmp_path: Path) -> Path:
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if (places / name).is_dir():
        shutil.copytree(places / name, target)
    else:
        shutil.copy(places / name, target)
    return target


def refused(read: Callable[[Path], Any], folder: Path) -> str:
    """The one line that reading ends in, within the time and memory that it may take."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RaddinoError) as error:
        read(folder)
    assert time.monotonic() - begun < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES
    words = str(error.value)
    assert "\n" not in words
    assert len(words) < 1000
    return words


@pytest.mark.parametrize("name", READERS)
def test_what_is_whole_is_read(places, name):
    assert READERS[name](places / name) == READERS[name](places / name)


# a changed bit


@pytest.mark.parametrize(
    ("name", "file", "flips"),
    [
        ("corpus", "corpus.json", 40), ("corpus", "manifest.parquet", 40), ("corpus", "shards/000000.tar", 100),
        ("features.safetensors", "", 100), ("features.parquet", "", 100), ("cache", "*/*.safetensors", 40),
        ("cache", "*/patches.npy", 40), ("encoder", "model.safetensors", 20),
        ("encoder", "config.json", 40), ("encoder", "raddino.json", 40), ("encoder", "preprocessor_config.json", 40),
        ("results", "metrics.json", 30),
        ("results", "predictions.parquet", 30), ("probe", "probe.json", 40),
        ("probe", "probe.safetensors", 20), ("model", "head.safetensors", 20),
        ("model", "segmentation.json", 30),
        ("model", "shown/*.png", 20), ("model", "shown/shown.json", 20), ("writer/out/model", "model.safetensors", 6),
        ("writer/out/model", "findings.json", 6), ("writer/out/model", "config.json", 6),
    ],
)  # fmt: skip
def test_no_changed_bit_is_silent(places, tmp_path, name, file, flips):
    place = copy_of(places, name, tmp_path)
    target = sorted(place.glob(file))[0] if file else place
    whole, data, rng, noticed = READERS[name](place), target.read_bytes(), np.random.default_rng(0), 0
    for _ in range(flips):
        at, bit = int(rng.integers(len(data))), int(rng.integers(8))
        target.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        try:
            assert READERS[name](place) == whole, f"byte {at}, bit {bit}"
        except RaddinoError:
            noticed += 1
    assert noticed >= flips * (0.2 if file.endswith(".tar") else 0.5)


@pytest.mark.parametrize("file", ["records.parquet", "reports.parquet"])
def test_no_changed_bit_of_a_table_is_silent(tmp_path, file):
    table = pd.DataFrame({"variant": "", "id": list("abcd"), "reference": "r", "hypothesis": "h", "score": 0.5})
    write_table(tmp_path / file, table)
    data, rng = (tmp_path / file).read_bytes(), np.random.default_rng(0)
    pd.testing.assert_frame_equal(read_reports_of(tmp_path, file), table, check_dtype=False)
    for _ in range(300):
        at, bit = int(rng.integers(len(data))), int(rng.integers(8))
        (tmp_path / file).write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        try:
            pd.testing.assert_frame_equal(read_reports_of(tmp_path, file), table, check_dtype=False)
        except RaddinoError:
            continue


def read_reports_of(folder: Path, file: str) -> pd.DataFrame:
    if file != "reports.parquet":
        shutil.copy(folder / file, folder / "reports.parquet")
    return read_reports(folder)


def test_features_of_an_older_version_are_embedded_again(places, tmp_path):
    folder = copy_of(places, "cache", tmp_path)
    whole = read_cache(folder)
    for part in folder.glob("*/*.safetensors"):
        tensors = load_file(part)
        tensors["cls"] = tensors["cls"] + 1
        save_file(tensors, part, {"ids": "[]", "encoder": "means-1", "corpus": "x", "format": "1"})
    assert read_cache(folder) == whole


# hostile content


class Runs:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def test_nothing_pickled_is_run(places, tmp_path):
    trace = tmp_path / "trace"
    planted = pickle.dumps(Runs(trace))
    pickle.loads(planted)
    assert trace.is_dir()
    trace.rmdir()
    for name, read in READERS.items():
        place = copy_of(places, name, tmp_path / "copies")
        files = [one for one in place.rglob("*") if one.is_file()] if place.is_dir() else [place]
        for file in files:
            data = file.read_bytes()
            file.write_bytes(planted)
            with suppress(RaddinoError):
                read(place)
            assert not trace.exists(), (name, file)
            file.write_bytes(data)
    hub = copy_of(places, "hub", tmp_path / "bin")
    (hub / "model.safetensors").unlink()
    torch.save(Runs(trace), hub / "pytorch_model.bin")
    refused(read_network, hub)
    patches = next((copy_of(places, "cache", tmp_path / "npy")).glob("*/patches.npy"))
    np.save(patches, np.array([Runs(trace)], dtype=object), allow_pickle=True)
    refused(read_cache, patches.parents[1])
    assert not trace.exists()


def as_torch_saves(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    """A corpus that ``evaluate`` can measure on."""
    folder = tmp_path_factory.mktemp("judged")
    rows, splits = [], ["train"] * 20 + ["val"] * 20 + ["test"] * 40
    for n, split in enumerate(splits):
        Image.fromarray(np.random.default_rng(n).integers(0, 256, (8, 8), np.uint8)).save(folder / f"{n}.png")
        rows.append({"path": f"{n}.png", "patient_id": f"p{n}", "split": split, "label_x": n % 2})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return prepare(folder, folder / "corpus", workers=1).path


@pytest.mark.parametrize(("command", "pickled"), [("report", pickle.dumps), ("evaluate", as_torch_saves)])
def test_nothing_pickled_in_a_run_is_run_by_what_shows_it(places, judged, tmp_path, monkeypatch, command, pickled):
    run, trace = copy_of(places, "run", tmp_path), tmp_path / "trace"
    shutil.copytree(places / "encoder", run / "encoder")
    for name in (".metadata", "task.safetensors", "SHA256SUMS"):
        (run / "checkpoints/step_2").mkdir(parents=True, exist_ok=True)
        (run / "checkpoints/step_2" / name).touch()
    out = copy_of(places, "results", tmp_path) if command == "report" else tmp_path / "out"
    call = {
        "report": ["report", out],
        "evaluate": ["evaluate", judged, "--encoders", f"trained={run}/encoder", "--out", out, "--resamples", "20"],
    }[command]
    monkeypatch.setattr(sys, "argv", [str(word) for word in ["raddino", *call, "--run", run]])
    for file in [file for file in run.rglob("*") if file.is_file()]:
        data = file.read_bytes()
        file.write_bytes(pickled(Runs(trace)))
        with suppress(SystemExit):
            main()
        assert not trace.exists(), file
        file.write_bytes(data)
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "No pre-training run was given" not in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", JSONS)
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("corpus", "corpus.json"), ("encoder", "raddino.json"), ("hub", "config.json"),
        ("hub", "preprocessor_config.json"), ("results", "metrics.json"), ("model", "segmentation.json"),
        ("model", "shown/shown.json"), ("writer/out/model", "findings.json"), ("run", "environment.json"),
    ],
)  # fmt: skip
def test_json_of_any_kind_is_one_line(places, tmp_path, name, file, content):
    place = copy_of(places, name, tmp_path)
    text = JSONS[content]
    (place / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    if content == "empty object" and file in ("raddino.json", "environment.json"):
        READERS[name](place)  # says nothing, and need not
    else:
        refused(READERS[name], place)


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folders_are_one_line(places, tmp_path, case):
    name, harm = HOSTILE[case]
    place = copy_of(places, name, tmp_path)
    harm(place)
    refused(READERS[name], place)


COMMANDS = {
    "prepared corpus": ["embed", "{corpus}", "--encoder", "{encoder}"],
    "encoder": ["export", "{encoder}", "--format", "huggingface", "--out", "{out}"],
    "report": ["report", "{results}"],
    "compare": ["compare", "{results}", "{results}"],
    "leaderboard": ["leaderboard", "{results}", "--out", "{out}"],
    "segment": ["segment", "{images}", "--model", "{model}", "--out", "{out}"],
}
HARMED = {
    "prepared corpus": "corpus.json", "encoder": "raddino.json", "report": "metrics.json", "compare": "metrics.json",
    "leaderboard": "metrics.json", "segment": "segmentation.json",
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_end_with_one_line(places, tmp_path, monkeypatch, capsys, command):
    folders = {name: str(copy_of(places, name, tmp_path)) for name in ("corpus", "encoder", "results", "model")}
    harmed, asked = HARMED[command], COMMANDS[command]
    file = next(Path(folders[name], harmed) for name in folders if Path(folders[name], harmed).is_file())
    file.write_text(f'{{"format": {DEEP}}}', encoding="utf-8")
    words = [part.format(**folders, images=places / "images", out=tmp_path / "out") for part in asked]
    monkeypatch.setattr(sys, "argv", ["raddino", *words])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2
    assert len(said) == 1
    assert harmed in said[0]


def test_a_large_manifest_opens_soon_and_in_little_memory(tmp_path):
    """200,000 rows: a fifth of what has to open within a second and 300 MB."""
    n, rng = 200_000, np.random.default_rng(0)
    digits = rng.bytes(n * 10).hex()
    ids = [digits[i * 20 : i * 20 + 20] for i in range(n)]
    png = encode_png(np.zeros((8, 8), np.uint8))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/000000.tar").write_bytes(png)
    table = pd.DataFrame({
        "id": ids, "shard": "000000.tar", "offset": 0, "length": len(png), "height": 8, "width": 8, "source": "nih",
        "patient": ids, "split": rng.choice(["train", "test"], n), "view": rng.choice(["PA", "AP", None], n),
        "sex": rng.choice(["F", None], n), "age": rng.uniform(0, 90, n), "synthetic": False,
        "report": None, **{f"label_{i}": rng.random(n).astype("f4") for i in range(14)},
    })  # fmt: skip
    table.to_parquet(tmp_path / "manifest.parquet", index=False)
    info = {"format": FORMAT, "fingerprint": "0" * 16, "synthetic": False, "patients": n, "images": n, "shards": {}}
    (tmp_path / "corpus.json").write_text(json.dumps(info), encoding="utf-8")
    describe(tmp_path, n)
    code = (
        "import resource, sys, time; from raddino.corpus.dataset import Corpus; used = resource.getrusage;"
        "begun = used(resource.RUSAGE_SELF); corpus = Corpus.open(sys.argv[1]); end = used(resource.RUSAGE_SELF);"
        "print(end.ru_utime + end.ru_stime - begun.ru_utime - begun.ru_stime, (end.ru_maxrss - begun.ru_maxrss) / 1024)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, encoding="utf-8", check=True
    ).stdout
    seconds, megabytes = map(float, told.split())
    assert seconds < 2
    assert megabytes < 150
    corpus = Corpus.open(tmp_path)
    held = corpus.manifest
    assert held["report"].tolist() == [None] * n
    assert set(held["view"]) == {"PA", "AP", None}
    assert held["id"].tolist() == ids
    assert (
        corpus.rows("train", "view == 'PA' and age > 40").tolist()
        == np.flatnonzero((table["split"] == "train") & (table["view"] == "PA") & (table["age"] > 40)).tolist()
    )
    assert (corpus.read(n - 1) == 0).all()


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "file", "record"),
    [
        ("hub", "model.safetensors", None), ("encoder", "model.safetensors", "raddino.json"),
        ("model", "head.safetensors", "segmentation.json"), ("writer/out/model", "model.safetensors", "findings.json"),
    ],
)  # fmt: skip
def test_weights_that_are_not_finite_are_refused(places, tmp_path, name, file, record, number):
    """Digests hold, as they do where a diverged run was saved."""
    folder = copy_of(places, name, tmp_path)
    tensors = {key: tensor.copy() for key, tensor in load_file(folder / file).items()}
    before = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    next(tensor for tensor in tensors.values() if tensor.dtype.kind == "f").flat[-1] = number
    save_file(tensors, folder / file, metadata={"format": "pt"})
    if record:
        after = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        values = json.loads((folder / record).read_text(encoding="utf-8").replace(before, after))
        values.pop("seal", None)
        (folder / record).write_text(json.dumps(values), encoding="utf-8")
    assert "holds numbers that are not finite" in refused(READERS[name], folder)
