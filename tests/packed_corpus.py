"""A packed corpus of pictures in hand."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare

KEY = "the key of these tests"


def pack(folder: Path, images: list[np.ndarray], **columns) -> Corpus:
    """A corpus of (H, W) uint8 images, one patient each unless ``columns`` say otherwise."""
    (folder / "files").mkdir(parents=True)
    for n, image in enumerate(images):
        Image.fromarray(image).save(folder / f"files/{n:03}.png")
    table = {"path": [f"files/{n:03}.png" for n in range(len(images))], "patient_id": range(len(images))}
    pd.DataFrame({**table, **columns}).to_csv(folder / "files.csv", index=False)
    return prepare(folder / "files.csv", folder / "corpus", key=KEY, workers=1, shorter_side=64)
