"""Floors on real X-rays at 64 px: what they reach is known, so that a broken probe or encoder shows."""

import numpy as np
import pandas as pd
import yaml

from memory_corpus import MemoryCorpus
from raddino.benchmark.evaluate import evaluate
from raddino.encoders.floors import HOG, PixelPCA


def test_hog_and_pca_rank_real_images(shared, tmp_path):
    folder = shared / "data" / "cxr" / "tiny_nih64"
    table = pd.read_csv(folder / "labels.csv")
    images = np.load(folder / "images.npz")["images"]
    manifest = table[["view", "sex", "age", "split"]].assign(
        id=table["index"].astype(str),
        patient=table["patient_id"],
        source="nih",
    )
    suite = tmp_path / "suite.yaml"
    tasks = [
        {"name": "sex", "target": "sex", "kind": "binary", "positive": "M"},
        {"name": "view", "target": "view", "kind": "binary", "positive": "AP"},
        {"name": "age", "target": "age", "kind": "regression"},
    ]
    suite.write_text(yaml.safe_dump({"tasks": tasks, "probe": {"seeds": 2}}), encoding="utf-8")
    results = evaluate(
        MemoryCorpus(list(images), manifest, tmp_path / "corpus"),
        [PixelPCA(size=32), HOG(size=64, cell=8)],
        suite=suite,
        out=tmp_path / "results",
        resamples=200,
    )
    rows = results.rows().set_index(["task", "encoder", "metric"])["value"]
    assert rows["view", "hog", "auroc"] > 0.95
    assert rows["sex", "hog", "auroc"] > 0.75
    assert rows["sex", "pca", "auroc"] > 0.65
    constant = (manifest["age"] - manifest.loc[manifest["split"] == "train", "age"].median()).abs()
    assert rows["age", "hog", "mae"] < 0.95 * constant[manifest["split"] == "test"].mean()
