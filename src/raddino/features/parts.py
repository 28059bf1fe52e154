"""Rows of a corpus to parts of a cache: what every process and actor that embeds runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from raddino.encoders.base import Encoder
from raddino.features.cache import FeatureCache, FeatureSet
from raddino.features.forward import Encoded, device_of, encode_all, make_encode
from raddino.features.patches import PatchFile
from raddino.features.reading import deaths_told, read_batches

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

PART_IMAGES = 256
PART_SECONDS = 120.0


@dataclass(frozen=True)
class Settings:
    """How images are read and encoded; none but ``precision`` changes a feature beyond rounding.

    Attributes:
        batch_size: images in one call of the encoder.
        precision: ``"fp32"`` or ``"bf16"``.
        compile: pass the encoder through ``torch.compile``.
        workers: reader processes; 0 reads in threads.
        patches: keep patch features too.
    """

    batch_size: int
    precision: Literal["fp32", "bf16"]
    compile: bool
    workers: int
    patches: bool


def embed_rows(
    corpus: Corpus,
    encoder: Encoder,
    rows: np.ndarray,
    settings: Settings,
    store: FeatureCache,
    advance: Callable[[int], None],
) -> None:
    """Embed ``rows`` into the cache, part after part; a part is written when it is full or two minutes old."""
    pin = device_of(encoder).type == "cuda"
    encode = make_encode(encoder, settings.precision, settings.compile)
    batches = read_batches(corpus, encoder, rows, settings.batch_size, settings.workers, pin)
    part: list[Encoded] = []
    begun = time.monotonic()
    with deaths_told():
        for encoded in encode_all(encoder, encode, batches, settings.patches):
            part.append(encoded)
            full = sum(len(one.rows) for one in part) >= PART_IMAGES
            if full or time.monotonic() - begun > PART_SECONDS:
                _keep(corpus, part, store)
                part, begun = [], time.monotonic()
            advance(len(encoded.rows))
    if part:
        _keep(corpus, part, store)


def _keep(corpus: Corpus, part: list[Encoded], store: FeatureCache) -> None:
    """Write a part, its patches first: what the part names is then there."""
    rows = np.concatenate([one.rows for one in part])
    patches = [one.patches for one in part if one.patches is not None]
    crcs = PatchFile(store.folder, (len(corpus), *patches[0].shape[1:])).write(rows, patches) if patches else None
    means = [one.mean_patch for one in part if one.mean_patch is not None]
    features = FeatureSet(
        cls=np.concatenate([one.cls for one in part]),
        mean_patch=np.concatenate(means) if means else None,
        rows=rows,
        ids=corpus.manifest["id"].iloc[rows].astype(str).tolist(),
        encoder=store.encoder,
        corpus=store.corpus,
        patch_crc32=crcs,
    )
    store.add(features)
