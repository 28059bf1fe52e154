"""One of every kind of folder that raddino reads, and what reads each of them whole."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

from blob_corpus import EXCLUSIVE, BlobCorpus, grey_encoder
from features.embed_job import Means, small_vit
from findings_corpus import train_quickly
from memory_corpus import toy_corpus
from raddino.benchmark.compare import compare
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.leaderboard import leaderboard
from raddino.benchmark.results import Results
from raddino.benchmark.suite import load_suite
from raddino.config import validate
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.encoders.floors import PixelPCA
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import save_encoder
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.report.artefacts import read_results, read_run
from raddino.tasks.base import TaskConfig
from raddino.tasks.cases import Job
from raddino.tasks.findings.model import load_model
from raddino.tasks.probes.kept import KeptProbe
from raddino.tasks.segmentation.model import SegmentationModel
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.shown import read_bits, read_shown
from raddino.tasks.segmentation.task import Segmentation
from raddino.tasks.segmentation.work import Work

QUICK = {"steps": 4, "evaluate_every": 2, "batch_size": 6, "lr": 2e-2, "warmup": 1}
SUITE = {
    "tasks": [{"name": "left", "target": "label_left", "kind": "binary"}],
    "probe": {"seeds": 1, "steps": 20, "learning_rates": [0.1], "weight_decays": [0.01]},
}


def make_places(place: Path) -> Path:
    """One of every kind of folder, below ``place``."""
    os.environ["RADDINO_KEY"] = "the key of these tests"
    _corpus(place)
    grey = toy_corpus(place / "grey")
    embed(grey, Means(), cache=place / "cache", patches=True, out=place / "features.safetensors")
    FeatureSet.load(place / "features.safetensors").save(place / "features.parquet")
    made = small_vit()
    save_encoder(place / "encoder", made.model, size=24, mean=0.4, std=0.2, name="small", provenance=made.provenance)
    _transformers(place / "hub")
    (place / "suite.yaml").write_text(yaml.safe_dump(SUITE), encoding="utf-8")
    evaluate(grey, [PixelPCA(8, 4)], names=["pca"], out=place / "results", suite=place / "suite.yaml", resamples=20)
    shutil.copytree(place / "results" / "probes" / "left" / "pca", place / "probe")
    _segmentation(place)
    train_quickly(place / "writer", 4)
    run = place / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n', encoding="utf-8")
    (run / "config.yaml").write_text("seed: 1\n", encoding="utf-8")
    (run / "environment.json").write_text('{"synthetic": true}', encoding="utf-8")
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
    (folder / "preprocessor_config.json").write_text(json.dumps(values), encoding="utf-8")


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


def read_probe(folder: Path) -> str:
    probe = KeptProbe.load(folder)
    return _said(probe.weight, probe.bias, probe.record)


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
    "probe": read_probe,
    "model": read_segmentation,
    "writer/out/model": read_writer,
    "run": read_pretraining,
    "suite.yaml": lambda file: _said(load_suite(file)),
}
