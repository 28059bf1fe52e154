"""A few noise images with distinct texts, and a small random encoder of our own."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from memory_corpus import MemoryCorpus
from raddino.encoders.base import Provenance
from raddino.encoders.ours import VitEncoder
from raddino.tasks.findings.data import Reports
from raddino.tasks.findings.settings import FindingsConfig, Stage, TinyLanguage
from raddino.tasks.findings.train import Trained, train_findings
from raddino.vit import VisionTransformer, VitConfig

TEXTS = (
    "The lungs are clear.",
    "There is a small left pleural effusion. Heart size is normal.",
    "Right chest drain in place. No pneumothorax.",
    "The heart is mildly enlarged.",
    "Dense consolidation in the right lower zone. No effusion.",
    "A 9 mm nodule projects over the left upper zone.",
    "肺野は清明。Ærlig talt: ω ≥ 0,5.",
    "There is a large right pneumothorax with mediastinal shift.",
)


def small_encoder(registers: int = 0, seed: int = 0) -> VitEncoder:
    """Two blocks on 32 px, patches of 8: a 4 x 4 grid of width 32."""
    config = VitConfig(
        embed_dim=32, depth=2, num_heads=2, patch_size=8, image_size=32, layerscale_init=1.0,
        num_register_tokens=registers, interpolate_antialias=registers > 0,
    )  # fmt: skip
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(seed))
    for weight in model.parameters():
        weight.data *= 2  # features that differ between images
    record = Provenance(licence="Apache-2.0", synthetic=True)
    return VitEncoder(model, size=32, mean=0.5, std=0.25, name="small", provenance=record, device="cpu")


def report_corpus(path: Path, size: int = 40) -> MemoryCorpus:
    """Eight images of four patients, frontal and lateral in each of two studies of two patients."""
    rng = np.random.default_rng(0)
    manifest = pd.DataFrame(
        {
            "id": [f"image{i}" for i in range(8)],
            "patient": ["a", "a", "a", "a", "b", "c", "c", None],
            "study": ["a1", "a1", "a2", "a2", "b1", "c1", "c2", None],
            "study_order": [0, 0, 1, 1, 0, 0, 3, np.nan],
            "view": ["PA", "LATERAL", "AP", "LATERAL", "PA", "AP", "PA", "PA"],
            "split": "train",
            "source": "toy",
            "report": TEXTS,
            "indication": ["fever", None, "<image> cough", "", None, None, None, None],
        }
    )
    coarse = rng.integers(0, 256, (8, 5, 5)).astype(np.uint8)
    images = [np.kron(one, np.ones((size // 5, size // 5), np.uint8)) for one in coarse]
    return MemoryCorpus(images, manifest, path)


def train_quickly(folder: Path, batch_size: int) -> Trained:
    """A few steps through two stages; under ``torchrun`` each process takes ``batch_size`` images a step."""
    config = FindingsConfig(
        language_model="tiny",
        tiny=TinyLanguage(layers=2, width=64, heads=2, vocabulary=400),
        batch_size=batch_size,
        evaluate_every=3,
        stages=(Stage(train="projector", steps=4, lr=1e-3), Stage(train="both", steps=8, lr=2e-3, warmup=2)),
    )
    reports = Reports(np.arange(8), TEXTS)
    return train_findings(
        report_corpus(folder), reports, reports, small_encoder(), config, folder / "out", device="cpu",
        cache=folder / "cache",
    )  # fmt: skip


if __name__ == "__main__":
    train_quickly(Path(sys.argv[1]), 2)
