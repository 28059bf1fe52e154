"""Noise images with a bright disc and a dark bar, and their masks: what a small head learns in seconds."""

from pathlib import Path

import numpy as np
import pandas as pd

from memory_corpus import MemoryCorpus

EXCLUSIVE = {"classes": {"disc": 1, "bar": 2}, "mirror": []}
OVERLAPPING = {"coding": "bits", "classes": {"disc": 0, "bar": 1}, "mirror": []}


class BlobCorpus(MemoryCorpus):
    """``mask_values``: 1 disc, 2 bar over it; ``mask_bits``: bit 0 disc, bit 1 bar. Every fourth image has no bar."""

    def __init__(self, path: Path, n: int = 36, height: int = 48, width: int = 40, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        images, self.masks = [], {"values": [], "bits": []}
        for index in range(n):
            top, left, radius = rng.uniform(14, height - 14), rng.uniform(12, width - 12), rng.uniform(7, 11)
            disc = (y - top) ** 2 + (x - left) ** 2 < radius**2
            bar = (abs(y - rng.integers(6, height - 6)) < 4) & (index % 4 != 0)
            grey = rng.normal(110, 10, (height, width)) + 80 * disc
            images.append(np.where(bar, grey - 90, grey).clip(0, 255).astype(np.uint8))
            self.masks["values"].append(np.where(bar, 2, disc).astype(np.uint8))
            self.masks["bits"].append((disc + 2 * bar).astype(np.uint8))
        manifest = pd.DataFrame(
            {
                "id": [f"image{i}" for i in range(n)],
                "patient": [f"p{i}" for i in range(n)],
                "split": np.array(["train", "val", "test"])[np.arange(n) % 3],
                "source": "toy",
                "height": height,
                "width": width,
                "mask_values": "there",
                "mask_bits": "there",
            }
        )
        super().__init__(images, manifest, path)

    def read_mask(self, i: int, name: str) -> np.ndarray | None:
        return self.masks[name][i]


def grey_encoder(size: int = 32, patch: int = 4):
    """A small vision transformer of ours with random weights."""
    import torch

    from raddino.encoders.base import Provenance
    from raddino.encoders.ours import VitEncoder
    from raddino.vit.model import VisionTransformer, VitConfig

    torch.manual_seed(0)
    config = VitConfig(
        embed_dim=24, depth=4, num_heads=2, patch_size=patch, image_size=size, in_channels=1, layerscale_init=1.0
    )
    return VitEncoder(
        VisionTransformer(config), size=size, mean=0.5, std=0.25, name="grey", provenance=Provenance(), device="cpu"
    )
