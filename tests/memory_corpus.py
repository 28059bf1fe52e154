"""A corpus that lives in memory, with the face of ``raddino.corpus.dataset.Corpus``."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


class MemoryCorpus:
    def __init__(self, images: list[np.ndarray], manifest: pd.DataFrame, path: Path) -> None:
        self.images, self.manifest, self.path = images, manifest.reset_index(drop=True), path
        self.info: dict[str, Any] = {"synthetic": False}
        table = manifest.to_csv(index=False).encode()
        self.fingerprint = hashlib.sha256(b"".join(image.tobytes() for image in images) + table).hexdigest()
        self.fingerprints = [self.fingerprint]
        self.reads = 0

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> np.ndarray:
        self.reads += 1
        return self.images[i]

    def rows(self, split: str | None = None, where: str | None = None) -> np.ndarray:
        from raddino.corpus.where import query

        chosen = np.ones(len(self), bool) if where is None else query(self.manifest, where)
        if split is not None:
            chosen &= (self.manifest["split"] == split).to_numpy()
        return np.flatnonzero(chosen)


def toy_corpus(path: Path, n: int = 240, size: int = 24, seed: int = 0) -> MemoryCorpus:
    """Noise images, two a patient: the left half's brightness says ``label_left`` and sex, the right's age.

    ``label_left`` misses for every tenth image, ``label_none`` is always 0, ``label_noise`` is unrelated.
    """
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // 2
    split = np.array(["train", "train", "train", "val", "test", "test"])[patient % 6]
    left = rng.integers(0, 2, n).astype(float)
    age = rng.uniform(20, 80, n)
    images = rng.normal(100, 20, (n, size, size))
    images[:, :, : size // 2] += 14 * left[:, None, None]
    images[:, :, size // 2 :] += age[:, None, None] / 4
    label_left = left.copy()
    label_left[::10] = np.nan
    manifest = pd.DataFrame(
        {
            "id": [f"image{i}" for i in range(n)],
            "patient": [f"p{p}" for p in patient],
            "split": split,
            "source": "toy",
            "view": np.where(rng.random(n) < 0.5, "AP", "PA"),
            "sex": np.where(left == 1, "M", "F"),
            "age": age,
            "label_left": label_left,
            "label_noise": rng.integers(0, 2, n).astype(float),
            "label_none": 0.0,
        }
    )
    return MemoryCorpus([image.clip(0, 255).astype(np.uint8) for image in images], manifest, path)
