"""Folders that come from elsewhere are data: damaged or hostile, each is one line, soon, and nothing in it runs."""

import hashlib
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image, PngImagePlugin
from pyarrow import parquet
from safetensors.numpy import load_file, save_file

from blob_corpus import EXCLUSIVE, BlobCorpus, grey_encoder
from features.embed_job import Means, small_vit
from findings_corpus import train_quickly
from memory_corpus import toy_corpus
from raddino.benchmark.compare import compare
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.leaderboard import leaderboard
from raddino.benchmark.results import Results
from raddino.benchmark.suite import load_suite
from raddino.cli import main
from raddino.config import validate
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.corpus.shards import encode_png
from raddino.encoders.floors import PixelPCA
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import save_encoder
from raddino.errors import RaddinoError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.report.artefacts import read_results, read_run
from raddino.report.findings_page import read_reports
from raddino.tables import write_table
from raddino.tasks.base import TaskConfig
from raddino.tasks.cases import Job
from raddino.tasks.findings.model import load_model
from raddino.tasks.segmentation.model import SegmentationModel
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.shown import read_bits, read_shown
from raddino.tasks.segmentation.task import Segmentation
from raddino.tasks.segmentation.work import Work

SECONDS, MEGABYTES = 10, 700
QUICK = {"steps": 4, "evaluate_every": 2, "batch_size": 6, "lr": 2e-2, "warmup": 1}
SUITE = {
    "tasks": [{"name": "left", "target": "label_left", "kind": "binary"}],
    "probe": {"seeds": 1, "steps": 20, "learning_rates": [0.1], "weight_decays": [0.01]},
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """One of every kind of folder."""
    place = tmp_path_factory.mktemp("places")
    os.environ["RADDINO_KEY"] = "the key of these tests"
    _corpus(place)
    grey = toy_corpus(place / "grey")
    embed(grey, Means(), cache=place / "cache", patches=True, out=place / "features.safetensors")
    FeatureSet.load(place / "features.safetensors").save(place / "features.parquet")
    made = small_vit()
    save_encoder(place / "encoder", made.model, size=24, mean=0.4, std=0.2, name="small", provenance=made.provenance)
    _transformers(place / "hub")
    (place / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    evaluate(grey, [PixelPCA(8, 4)], names=["pca"], out=place / "results", suite=place / "suite.yaml", resamples=20)
    _segmentation(place)
    train_quickly(place / "writer", 4)
    run = place / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n')
    (run / "config.yaml").write_text("seed: 1\n")
    (run / "environment.json").write_text('{"synthetic": true}')
    return place


def _corpus(place: Path) -> None:
    folder, rng = place / "images", np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for n in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 36)).astype(np.uint8)).save(folder / f"{n}.png")
        Image.fromarray((rng.random((40, 36)) < 0.5).astype(np.uint8) * 255).save(folder / f"{n}_m.png")
        rows.append({"path": f"{n}.png", "patient_id": f"p{n}", "label_x": n % 2, "mask_lungs": f"{n}_m.png"})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    prepare(folder, place / "corpus", workers=1)


def _transformers(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTModel(config).save_pretrained(folder)
    values = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def _segmentation(place: Path) -> None:
    corpus, made = BlobCorpus(place / "blobs"), grey_encoder()
    encoder = type(made).load(
        save_encoder(place / "grey-encoder", made.model, size=32, mean=0.5, std=0.25, name="g",
                     provenance=made.provenance), "cpu",
    )  # fmt: skip
    options = EXCLUSIVE | QUICK
    task = TaskConfig(name="blobs", target="mask_values", kind="segmentation", options=options)
    job = Job(
        corpus, Segmentation().select(corpus, task), encoder, str(place / "grey-encoder"),
        validate(SegmentationConfig, options), place / "model", device="cpu", cache=place / "blob-cache",
    )  # fmt: skip
    work = Work(job)
    work.records(work.model())


# what reads each folder whole, and a text that is the same for the same content


def _said(*parts: Any) -> str:
    texts = [part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode() for part in parts]
    return hashlib.sha256(b"|".join(texts)).hexdigest()


def read_corpus(folder: Path) -> str:
    corpus = Corpus.open(folder)
    table = corpus.manifest.to_csv()
    images = [corpus.read(i) for i in range(len(corpus))]
    masks = [corpus.read_mask(i, name) for name in corpus.mask_names for i in range(len(corpus))]
    return _said(corpus.info, table, *images, *masks)


def read_features(file: Path) -> str:
    held = FeatureSet.load(file)
    return _said(held.cls, held.mean_patch, held.rows, held.ids, held.encoder, held.corpus)


def read_cache(folder: Path) -> str:
    corpus = toy_corpus(folder.parent / "grey")
    held = embed(corpus, Means(), cache=folder, patches=True)
    return _said(held.cls, held.mean_patch, held.rows, held.ids, np.asarray(held.patches))


def read_network(folder: Path) -> str:
    encoder = load_encoder(folder, "cpu")
    return _said(encoder.fingerprint)


def read_evaluation(folder: Path) -> str:
    results = Results.open(folder)
    compare(folder, folder, resamples=5)
    leaderboard([folder])
    return _said(results.data, results.predictions.to_csv(), read_results(folder).metrics)


def read_segmentation(folder: Path) -> str:
    model = SegmentationModel.load(folder, device="cpu")
    cases = [read_bits(folder / "shown" / case["file"], case["sha256"]) for case in read_shown(folder)]
    return _said(model.predict(np.arange(1600, dtype=np.uint8).reshape(40, 40)), model.record.training, *cases)


def read_writer(folder: Path) -> str:
    model, tokenizer = load_model(folder, torch.device("cpu"), torch.float32)
    return _said(model.lm_head.weight.detach().numpy(), model.config.to_json_string(), len(tokenizer))


def read_pretraining(folder: Path) -> str:
    return _said(read_run(folder).steps.to_csv(), read_run(folder).config)


READERS: dict[str, Callable[[Path], str]] = {
    "corpus": read_corpus,
    "features.safetensors": read_features,
    "features.parquet": read_features,
    "cache": read_cache,
    "encoder": read_network,
    "hub": read_network,
    "results": read_evaluation,
    "model": read_segmentation,
    "writer/out/model": read_writer,
    "run": read_pretraining,
    "suite.yaml": lambda file: _said(load_suite(file)),
}


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
        ("cache", "*/patches.npy", 40), ("encoder", "model.safetensors", 20), ("results", "metrics.json", 30),
        ("results", "predictions.parquet", 30), ("model", "head.safetensors", 20), ("model", "segmentation.json", 30),
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
        except RaddinoError as error:
            noticed += 1
            assert "\n" not in str(error)
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
            try:
                read(place)
            except RaddinoError as error:
                assert "\n" not in str(error)
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


DEEP = "[" * 100_000 + "]" * 100_000
JSONS = {
    "empty": "", "no json": "{", "a list": "[]", "nothing": "null", "deep": DEEP, "deep in a key": f'{{"a": {DEEP}}}',
    "no number": '{"format": NaN}', "an endless number": '{"format": 1e999}', "empty object": "{}",
    "many digits": '{"format": ' + "9" * 10_000 + "}", "no text": b"\xff\xfe\x00",
}  # fmt: skip


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


def edited(file: str, *change: Any) -> Callable[[Path], None]:
    """Set an entry of a JSON file, by its keys and a value, and take the file's digest out."""

    def harm(folder: Path) -> None:
        values = json.loads((folder / file).read_text())
        values.pop("seal", None)
        *keys, last, value = change
        inner = values
        for key in keys:
            inner = inner[key]
        if value is None and isinstance(inner, dict):
            del inner[last]
        else:
            inner[last] = value
        (folder / file).write_text(json.dumps(values))

    return harm


def manifest(change: Callable[[pd.DataFrame], Any]) -> Callable[[Path], None]:
    """Rewrite the manifest, and ``corpus.json`` so that it fits."""

    def harm(folder: Path) -> None:
        table = change(pd.read_parquet(folder / "manifest.parquet"))
        file = folder / "manifest.parquet"
        if isinstance(table, pa.Table):
            parquet.write_table(table, file)
        else:
            table.to_parquet(file, index=False)
        describe(folder, len(table))

    return harm


def describe(folder: Path, images: int) -> None:
    info = json.loads((folder / "corpus.json").read_text())
    for key in ("seal", "manifest_sha256"):
        info.pop(key, None)
    info |= {"manifest_bytes": (folder / "manifest.parquet").stat().st_size, "images": images}
    info["shards"] = {file.name: file.stat().st_size for file in (folder / "shards").iterdir()}
    (folder / "corpus.json").write_text(json.dumps(info))


def column(name: str, value: Any) -> Callable[[Path], None]:
    return manifest(lambda table: table.assign(**{name: value}))


def bomb(folder: Path) -> None:
    table = pa.table({"id": pa.array(np.zeros(40_000_000, np.int8))})
    parquet.write_table(table, folder / "manifest.parquet", compression="zstd")
    describe(folder, 40_000_000)


def text_bomb(folder: Path) -> None:
    """A megabyte of text, stored once and told in each of very many rows."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, np.int32)), ["x" * 1_000_000])
    table = pa.Table.from_pandas(pd.read_parquet(folder / "manifest.parquet")).take([0] * 200_000)
    at = table.column_names.index("view")
    parquet.write_table(table.set_column(at, "view", texts), folder / "manifest.parquet", compression="zstd")
    describe(folder, 200_000)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame(0, table.index, [f"c{n}" for n in range(5000)])], axis=1)


def nested(table: pd.DataFrame) -> pa.Table:
    values = pa.Table.from_pandas(table)
    return values.append_column("extra", pa.array([[[{"a": 1}]]] * len(table)))


def foreign_png(make: Callable[[Path], None], **size: int) -> Callable[[Path], None]:
    """Put a PNG at the place of the first image."""

    def harm(folder: Path) -> None:
        file = folder.with_name("made.png")
        make(file)
        shard = folder / "shards/000000.tar"
        data = file.read_bytes()
        at = shard.stat().st_size
        shard.write_bytes(shard.read_bytes() + data)
        table = pd.read_parquet(folder / "manifest.parquet")
        table.loc[0, ["offset", "length"]] = [at, len(data)]
        for name, value in size.items():
            table.loc[0, name] = value
        table.to_parquet(folder / "manifest.parquet", index=False)
        describe(folder, len(table))

    return harm


def large_png(file: Path) -> None:
    Image.fromarray(np.zeros((9000, 9000), np.uint8)).save(file)


def texts_in_png(file: Path) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "x" * 50_000_000, zip=True)
    Image.fromarray(np.zeros((40, 36), np.uint8)).save(file, pnginfo=texts)


def moving_png(file: Path) -> None:
    frames = [Image.fromarray(np.full((40, 36), n, np.uint8)) for n in range(3)]
    frames[0].save(file, save_all=True, append_images=frames[1:])


def bad_index(part: Any) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder.with_name("model.safetensors"))
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": part}}))

    return harm


def lying_header(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def noise(file: Path) -> None:
    file.write_bytes(b"\xff" * 64)


def text(file: str, content: str) -> Callable[[Path], None]:
    return lambda folder: ((folder / file) if file else folder).write_text(content) and None


def predictions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        change(pd.read_parquet(folder / "predictions.parquet")).to_parquet(folder / "predictions.parquet")

    return harm


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


def suite(**values: Any) -> str:
    return yaml.safe_dump(SUITE | values)


HOSTILE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "shard elsewhere": ("corpus", edited("corpus.json", "shards", {"../../images/0.png": 5})),
    "absolute shard": ("corpus", edited("corpus.json", "shards", {"/etc/passwd": 5})),
    "shards of no size": ("corpus", edited("corpus.json", "shards", {"000000.tar": "large"})),
    "shards a list": ("corpus", edited("corpus.json", "shards", [1])),
    "preparation a text": ("corpus", edited("corpus.json", "preparation", "x")),
    "synthetic a number": ("corpus", edited("corpus.json", "synthetic", 3)),
    "no fingerprint": ("corpus", edited("corpus.json", "fingerprint", None)),
    "format a list": ("corpus", edited("corpus.json", "format", [1])),
    "other count": ("corpus", edited("corpus.json", "images", 5)),
    "negative offset": ("corpus", column("offset", -1)),
    "offset beyond": ("corpus", column("offset", 2**62)),
    "broken offset": ("corpus", column("offset", 1.5)),
    "offset a text": ("corpus", column("offset", "12")),
    "huge length": ("corpus", column("length", 2**63 - 1)),
    "no length": ("corpus", column("length", 0)),
    "shard a number": ("corpus", column("shard", 7)),
    "shard absolute in a row": ("corpus", column("shard", "/etc/passwd")),
    "shard missing in a row": ("corpus", column("shard", None)),
    "synthetic a text": ("corpus", column("synthetic", "no")),
    "height a text": ("corpus", column("height", "tall")),
    "image too large": ("corpus", column("height", 2**31)),
    "label a text": ("corpus", column("label_x", "yes")),
    "age a text": ("corpus", column("age", "old")),
    "mask cell": ("corpus", column("mask_lungs", "../../etc/passwd:0:10")),
    "mask beyond": ("corpus", column("mask_lungs", "000000.tar:99999999999:10")),
    "mask a number": ("corpus", column("mask_lungs", 5)),
    "date column": ("corpus", column("study", pd.Timestamp("2020-01-01"))),
    "nested column": ("corpus", manifest(nested)),
    "no column": ("corpus", manifest(lambda table: table.drop(columns="patient"))),
    "many columns": ("corpus", manifest(wide)),
    "rows without end": ("corpus", bomb),
    "a text without end": ("corpus", text_bomb),
    "large png": ("corpus", foreign_png(large_png)),
    "large png as told": ("corpus", foreign_png(large_png, height=90_000, width=90_000)),
    "png with texts": ("corpus", foreign_png(texts_in_png)),
    "moving png": ("corpus", foreign_png(moving_png)),
    "palette": ("corpus", foreign_png(lambda file: Image.new("P", (36, 40)).save(file))),
    "colours": ("corpus", foreign_png(lambda file: Image.new("RGB", (36, 40)).save(file))),
    "other size": ("corpus", foreign_png(lambda file: Image.new("L", (40, 36)).save(file))),
    "other format": ("corpus", foreign_png(lambda file: Image.new("L", (36, 40)).save(file, "GIF"))),
    "hidden size": ("hub", edited("config.json", "hidden_size", 10**9)),
    "hidden size a text": ("hub", edited("config.json", "hidden_size", "wide")),
    "negative hidden size": ("hub", edited("config.json", "hidden_size", -24)),
    "layers": ("hub", edited("config.json", "num_hidden_layers", 10**9)),
    "image size": ("hub", edited("config.json", "image_size", 10**9)),
    "patch size": ("hub", edited("config.json", "patch_size", 0)),
    "labels": ("hub", edited("config.json", "num_labels", 10**9)),
    "activation": ("hub", edited("config.json", "hidden_act", "os.system")),
    "model type": ("hub", edited("config.json", "model_type", ["vit"])),
    "kernel": ("hub", edited("config.json", "attn_implementation", "someone/kernels")),
    "processor size": ("hub", edited("preprocessor_config.json", "size", {"height": 10**9, "width": 10**9})),
    "deviation": ("hub", edited("preprocessor_config.json", "image_std", [0, 0, 0])),
    "interpolation": ("hub", edited("preprocessor_config.json", "resample", 99)),
    "mean": ("hub", edited("preprocessor_config.json", "image_mean", "grey")),
    "index elsewhere": ("hub", bad_index("../model.safetensors")),
    "index absolute": ("hub", bad_index("/etc/passwd")),
    "index of numbers": ("hub", bad_index(1)),
    "header lies": ("hub", lying_header),
    "header lies in ours": ("encoder", lying_header),
    "our layers": ("encoder", edited("config.json", "num_hidden_layers", 10**9)),
    "our image size": ("encoder", edited("config.json", "image_size", 10**9 // 8 * 8)),
    "our patch size": ("encoder", edited("config.json", "patch_size", 0)),
    "our crop": ("encoder", edited("preprocessor_config.json", "crop_size", 10**9)),
    "our deviation": ("encoder", edited("preprocessor_config.json", "image_std", [0, 0, 0])),
    "our provenance": ("encoder", edited("raddino.json", "provenance", {"sources": 3})),
    "rows of numbers": ("results", edited("metrics.json", "rows", [1])),
    "value a text": ("results", edited("metrics.json", "rows", 0, "value", "high")),
    "detail a list": ("results", edited("metrics.json", "rows", 0, "detail", [1])),
    "unknown encoder": ("results", edited("metrics.json", "rows", 0, "encoder", {"a": 1})),
    "encoders a text": ("results", edited("metrics.json", "encoders", "x")),
    "bad provenance": ("results", edited("metrics.json", "encoders", 0, "provenance", {"note": 3})),
    "suite a list": ("results", edited("metrics.json", "suite", [])),
    "results of another format": ("results", edited("metrics.json", "format", 9)),
    "score a text": ("results", predictions(lambda table: table.assign(score="x"))),
    "score no number": ("results", predictions(lambda table: table.assign(score=np.nan))),
    "no patient": ("results", predictions(lambda table: table.drop(columns="patient"))),
    "list scores": ("results", predictions(lambda table: table.assign(score=[[1.0]] * len(table)))),
    "names": ("model", edited("segmentation.json", "names", [1, 2])),
    "options": ("model", edited("segmentation.json", "options", "side", 10**9)),
    "record's encoder": ("model", edited("segmentation.json", "encoder", {"name": 1})),
    "record's digests": ("model", edited("segmentation.json", "sha256", {"head.safetensors": 3})),
    "shown elsewhere": ("model", edited("shown/shown.json", "cases", 0, "file", "../../images/0.png")),
    "writer's settings": ("writer/out/model", edited("findings.json", "config", {"beams": "many"})),
    "writer's prompt": ("writer/out/model", edited("findings.json", "prompt", 3)),
    "writer's files": ("writer/out/model", edited("findings.json", "sha256", {"../findings.json": "0"})),
    "no features": ("features.safetensors", noise),
    "no parquet features": ("features.parquet", noise),
    "aliases": ("suite.yaml", text("", ALIASES)),
    "own alias": ("suite.yaml", text("", "tasks: &a [*a]")),
    "deep yaml": ("suite.yaml", text("", "[" * 50_000)),
    "key twice": ("suite.yaml", text("", "tasks: []\ntasks: []")),
    "python in yaml": ("suite.yaml", text("", "tasks: !!python/object/apply:os.system [ls]")),
    "binary in yaml": ("suite.yaml", text("", "tasks: !!binary aGk=")),
    "large yaml": ("suite.yaml", text("", "x" * 3_000_000)),
    "a list of suites": ("suite.yaml", text("", "- 1")),
    "a number as key": ("suite.yaml", text("", "1: 2")),
    "deep run config": ("run", text("config.yaml", "[" * 50_000)),
    "run without steps": ("run", text("metrics.jsonl", DEEP + '\n{"step": 1e999}\n[]\n{"step": {}}\n')),
}


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
    file.write_text(f'{{"format": {DEEP}}}')
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
    info = {"format": 1, "fingerprint": "0" * 16, "synthetic": False, "patients": n, "images": n, "shards": {}}
    (tmp_path / "corpus.json").write_text(json.dumps(info))
    describe(tmp_path, n)
    code = (
        "import resource, sys, time; from raddino.corpus.dataset import Corpus; used = resource.getrusage;"
        "begun = used(resource.RUSAGE_SELF); corpus = Corpus.open(sys.argv[1]); end = used(resource.RUSAGE_SELF);"
        "print(end.ru_utime + end.ru_stime - begun.ru_utime - begun.ru_stime, (end.ru_maxrss - begun.ru_maxrss) / 1024)"
    )
    told = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
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
