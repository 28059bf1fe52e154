"""A small corpus and network, and a program that embeds it: started by tests under torchrun and to be killed."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from memory_corpus import MemoryCorpus, toy_corpus
from raddino.encoders.base import Features, Provenance
from raddino.encoders.ours import VitEncoder
from raddino.features import parts
from raddino.features.extract import embed
from raddino.vit import VisionTransformer, VitConfig

IMAGES = 40


def corpus_at(folder: Path) -> MemoryCorpus:
    return toy_corpus(folder / "corpus", n=IMAGES)


def small_vit() -> VitEncoder:
    config = VitConfig(embed_dim=32, depth=2, num_heads=2, patch_size=8, image_size=24, layerscale_init=1.0)
    model = VisionTransformer(config).init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return VitEncoder(model, size=24, mean=0.4, std=0.2, name="small", provenance=Provenance(), device="cpu")


class Means:
    """Mean and deviation of the image, and of its four quarters as patches."""

    name, dim, grid, provenance, fingerprint = "means", 2, (2, 2), Provenance(), "means-1"

    def __init__(self, spoil=None, fail_after=None, seconds=0.0):
        self.spoil, self.fail_after, self.seconds, self.seen = spoil, fail_after, seconds, 0

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        self.seen += len(batch)
        if self.fail_after is not None and self.seen > self.fail_after:
            raise KeyboardInterrupt
        if self.seconds:
            time.sleep(self.seconds)
        cls = torch.stack([batch.mean((1, 2)), batch.std((1, 2))], 1)
        quarters = batch.unflatten(1, (2, -1)).unflatten(3, (2, -1))
        patches = torch.stack([quarters.mean((2, 4)), quarters.std((2, 4))], -1)
        features = Features(cls, patches)
        return self.spoil(features) if self.spoil else features


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    parts.PART_IMAGES = 4
    encoder = Means(seconds=options["seconds"]) if options.get("seconds") else small_vit()
    out = options.get("out")
    embed(
        corpus_at(Path(sys.argv[1])),
        encoder,
        batch_size=4,
        patches=options.get("patches", False),
        out=out and Path(out),
    )
