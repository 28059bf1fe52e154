"""Embed the images of a corpus once, in parts that survive an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raddino.encoders.base import Encoder, Features
from raddino.errors import RaddinoError
from raddino.features.cache import FeatureCache, FeatureSet
from raddino.progress import Bar, bar

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

PART_IMAGES = 256
READERS = 4


def embed(
    corpus: Corpus,
    encoder: Encoder,
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 32,
    out: Path | None = None,
    cache: Path | None = None,
) -> FeatureSet:
    """Features of corpus images, computed where the cache does not hold them yet.

    An encoder that has to be fitted (PCA) is fitted on the training rows of the corpus first.

    Args:
        corpus: where the images lie.
        encoder: anything behind the :class:`~raddino.encoders.base.Encoder` protocol.
        rows: row numbers, any order; None for the whole corpus.
        batch_size: images in one pass of the encoder.
        out: also save the result in this ``.safetensors`` file.
        cache: folder of parts, ``<corpus>/features`` by default; keyed by encoder and corpus fingerprints.

    Raises:
        RaddinoError: rows that the corpus lacks, a damaged cache, features of the wrong shape or not finite.
    """
    wanted = np.arange(len(corpus)) if rows is None else np.asarray(rows, dtype=np.int64)
    if not len(wanted):
        raise RaddinoError("no images to embed")
    if wanted.min() < 0 or wanted.max() >= len(corpus):
        raise RaddinoError(f"rows to embed must lie in 0..{len(corpus) - 1}")
    if batch_size < 1:
        raise RaddinoError(f"batch_size must be at least 1, got {batch_size}")
    if out is not None and Path(out).suffix != ".safetensors":
        raise RaddinoError(f"features are written as .safetensors; got {Path(out).name!r}")
    fit_where_needed(encoder, corpus)
    store = FeatureCache(cache or corpus.path / "features", encoder.fingerprint, corpus.fingerprint)
    parts = store.load()
    held = np.concatenate([part.rows for part in parts]) if parts else np.empty(0, np.int64)
    todo = np.setdiff1d(wanted, held)
    done = len(np.intersect1d(wanted, held))
    with bar(f"embed {encoder.name}", total=len(todo) + done, done=done) as shown:
        for start in range(0, len(todo), PART_IMAGES):
            part = todo[start : start + PART_IMAGES]
            cls, mean_patch = _embed_part(corpus, encoder, part, batch_size, shown)
            ids = corpus.manifest["id"].iloc[part].astype(str).tolist()
            parts.append(FeatureSet(cls, mean_patch, part, ids, store.encoder, store.corpus))
            store.add(parts[-1])
    features = FeatureSet.join(parts).take(wanted)
    if out is None:
        return replace(features, path=store.folder)
    features.save(Path(out))
    return replace(features, path=Path(out))


def fit_where_needed(encoder: Encoder, corpus: Corpus) -> None:
    """Fit an encoder that has a ``fit`` and has not run it, on the training rows."""
    if hasattr(encoder, "fit") and not getattr(encoder, "fitted", False):
        encoder.fit(corpus, corpus.rows(split="train"))


def _embed_part(
    corpus: Corpus, encoder: Encoder, rows: np.ndarray, batch_size: int, shown: Bar
) -> tuple[np.ndarray, np.ndarray | None]:
    """CLS and mean patch features (N, D) of corpus rows."""
    cls, patches = [], []
    for images in _read_batches(corpus, rows, batch_size):
        features = encoder.encode(encoder.preprocess(images))
        _check(encoder, features, len(images))
        cls.append(features.cls.float().cpu().numpy())
        if features.patches is not None:
            patches.append(features.patches.float().mean((1, 2)).cpu().numpy())
        shown.advance(len(images))
    return np.concatenate(cls), np.concatenate(patches) if patches else None


def _read_batches(corpus: Corpus, rows: np.ndarray, batch_size: int) -> Iterator[list[np.ndarray]]:
    """Images in batches, read ahead by threads."""
    with ThreadPoolExecutor(READERS) as readers:
        images = readers.map(corpus.read, rows.tolist())
        for start in range(0, len(rows), batch_size):
            yield [next(images) for _ in rows[start : start + batch_size]]


def _check(encoder: Encoder, features: Features, n: int) -> None:
    """Refuse what would spoil every number behind it."""
    expected: dict[str, tuple[int, ...]] = {"cls": (n, encoder.dim)}
    if encoder.grid is not None:
        expected["patches"] = (n, *encoder.grid, encoder.dim)
    for name, shape in expected.items():
        tensor = getattr(features, name)
        found = None if tensor is None else tuple(tensor.shape)
        if found != shape:
            raise RaddinoError(f"encoder {encoder.name!r} returned {name} of shape {found}; it promised {shape}")
        if not tensor.isfinite().all():
            raise RaddinoError(f"encoder {encoder.name!r} returned {name} that hold NaN or infinity")
