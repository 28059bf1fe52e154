"""One small folder of every kind that raddino writes and opens again, from one small journey."""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import subject
from .seeds import Seed, picture, saved

NOT_TRIED = (".md", ".csv", ".jsonl", ".lock")
CONFIG = {
    "steps": 1, "batch_size": 4, "precision": "fp32",
    "vit": {"embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 8, "image_size": 32},
    "ssl": {"head": {"prototypes": 16, "hidden": 16, "bottleneck": 8}},
    "views": {"global_size": 32, "local_size": 16, "local_views": 1},
    "monitor": {"every": 1, "images": 16, "patience": 0},
}  # fmt: skip
SUITE = {
    "description": "Two tasks.",
    "where": "split != 'none'",
    "tasks": [
        {"name": "disc", "target": "label_disc", "kind": "binary"},
        {"name": "age", "target": "age", "kind": "regression"},
    ],
    "probe": {"seeds": 1, "steps": 5, "learning_rates": [0.1], "weight_decays": [0.01]},
}
REDUNDANT = ("shards/", "corpus.json", "metrics.json", "inspection/", ".safetensors", ".parquet", ".npy")
CACHES = ("cache", "inspection")
"""Whose files are called by their contents."""


def folder_seeds() -> list[Seed]:
    """Every file of a corpus, encoder, feature file, run, result folder and suite, each to be damaged in its place."""
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(io.StringIO()):
        return list(_seeds(Path(place)))


def _seeds(place: Path) -> Iterator[Seed]:
    import yaml

    from raddino.benchmark.evaluate import evaluate
    from raddino.config import validate
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.floors import HOG
    from raddino.features.cache import FeatureSet
    from raddino.training.pretrain import pretrain
    from raddino.training.settings import PretrainConfig

    corpus = _corpus(place)
    yield from _files("corpus", place / "corpus")
    pretrain(corpus, place / "run", validate(PretrainConfig, CONFIG), device="cpu", workers=0)
    shutil.copytree(place / "run" / "encoder", place / "encoder")
    yield from _files("encoder", place / "encoder")
    yield from _files("run", place / "run", "config.yaml", "*.safetensors", "checkpoints/*/*", "checkpoints/*/.*")
    numbers = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    held = FeatureSet(numbers, numbers + 1, np.arange(6), [f"i{at}" for at in range(6)], "e", "c")
    for suffix in ("safetensors", "parquet"):
        held.save(place / suffix / f"features.{suffix}")
        yield from _files("features", place / suffix)
    subject.cache(place)
    yield from _files("cache", place, "cache/*/*", beside=("corpus", "encoder"))
    subject.inspection(place)
    yield from _files("inspection", place, "corpus/inspection/*/*/*", beside=("corpus",))
    shutil.rmtree(place / "corpus" / "inspection")
    _model(place)
    yield from _files("model", place, "model/*", beside=("encoder",))
    (place / "suite").mkdir()
    (place / "suite" / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    yield from _files("suite", place / "suite")
    evaluate(
        Corpus.open(place / "corpus"), [HOG(24, 8)], names=["hog"], out=place / "results",
        suite=place / "suite" / "suite.yaml", resamples=20, device="cpu",
    )  # fmt: skip
    yield from _files("results", place / "results", "metrics.json", "predictions.parquet")


def _corpus(place: Path):
    import pandas as pd

    from raddino.corpus.prepare import prepare

    (place / "images").mkdir()
    count = 30
    for at in range(count):
        grey = picture(8, at)
        grey = grey[::-1] if at % 2 else grey
        (place / "images" / f"{at}.png").write_bytes(saved(np.ascontiguousarray(grey), "PNG"))
    table = pd.DataFrame({"path": [f"{at}.png" for at in range(count)], "id": [f"i{at}" for at in range(count)]})
    table["source"], table["synthetic"], table["age"] = "x", 1, 20.0 + np.arange(count)
    table["label_disc"], table["patient"] = np.arange(count) % 2, [f"p{at}" for at in range(count)]
    table["split"] = [("train", "val", "test")[at // 2 % 3] for at in range(count)]
    table["mask_half"] = [f"runs:image:1 {10 * at + 7}" for at in range(count)]
    table.to_csv(place / "images" / "manifest.csv", index=False)
    return prepare(place / "images", place / "corpus", workers=1, shorter_side=48)


def _model(place: Path) -> None:
    from raddino.config import validate
    from raddino.encoders.load import load_encoder
    from raddino.tasks.segmentation.model import ModelRecord, SegmentationModel
    from raddino.tasks.segmentation.network import build_network
    from raddino.tasks.segmentation.settings import SegmentationConfig

    encoder = load_encoder(place / "encoder", "cpu")
    options = validate(SegmentationConfig, {"classes": {"half": 255}, "steps": 1})
    about = {"name": "e", "fingerprint": encoder.fingerprint, "provenance": {}}
    record = ModelRecord(options, ("half",), None, about, "0" * 16, 48, 32, {})
    SegmentationModel(build_network(encoder, options, device="cpu").eval(), record).save(place / "model")


def _files(kind: str, folder: Path, *patterns: str, beside: tuple[str, ...] = ()) -> Iterator[Seed]:
    """A seed for each file of ``folder`` that is read when it is opened; files in folders ``beside`` stay sound."""
    gives = subject.OPENERS[kind](folder)
    tried = sorted({file for pattern in patterns or ("*", "*/*") for file in folder.glob(pattern) if file.is_file()})
    sound = [file for name in beside for file in sorted((folder / name).rglob("*")) if file.is_file()]
    held = {str(file.relative_to(folder)): file.read_bytes() for file in (*tried, *sound)}
    for file in tried:
        name = str(file.relative_to(folder))
        data = held[name]
        if not name.endswith(NOT_TRIED):
            others = {other: content for other, content in held.items() if other != name}
            row = f"{kind}: {'*' + file.suffix if kind in CACHES else name}"
            redundant = any(mark in name for mark in REDUNDANT)
            yield Seed(kind, row, name, data, redundant=redundant, beside=others, gives=gives)
