"""Embed the images of a corpus once, in parts that survive an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raddino.encoders.base import Encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.features.cache import FeatureCache, FeatureSet
from raddino.features.cluster import embed_on_cluster
from raddino.features.files import check_suffix
from raddino.features.forward import feature_key, resolve_precision
from raddino.features.parts import Settings, embed_rows
from raddino.features.patches import PatchFile, PatchRows
from raddino.features.ranks import Ranks, join_ranks
from raddino.progress import bar, subject

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus


def embed(
    corpus: Corpus,
    encoder: Encoder,
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 32,
    out: Path | None = None,
    cache: Path | None = None,
    precision: str = "fp32",
    compile: bool = False,
    workers: int = 0,
    patches: bool = False,
    engine: str = "local",
) -> FeatureSet:
    """Features of corpus images, computed where the cache does not hold them yet.

    Under ``torchrun`` every rank embeds its share into the shared cache, and all return the whole. An encoder that
    has to be fitted (PCA) is fitted on the training rows of the corpus first.

    Args:
        corpus: where the images lie.
        encoder: anything behind the :class:`~raddino.encoders.base.Encoder` protocol.
        rows: row numbers, any order; None for the whole corpus.
        batch_size: images in one call of the encoder.
        out: also save the result in this ``.safetensors`` or ``.parquet`` file.
        cache: folder of parts, ``<corpus>/features`` by default; keyed by encoder and corpus fingerprints.
        precision: ``"bf16"`` features are kept apart from ``"fp32"`` ones; ``"auto"`` is bf16 on a GPU.
        compile: pass the encoder through ``torch.compile``; worth its minute on a GPU and a large corpus.
        workers: processes that read and preprocess; 0 for threads. Under Ray: actors, 0 for one.
        patches: keep patch features as a half-precision array on disk, see :attr:`FeatureSet.patches`.
        engine: ``"ray"`` spreads the work over a Ray cluster that shares the cache folder (extra ``cluster``).

    Raises:
        RaddinoError: rows that the corpus lacks, a cache that is damaged, cannot be written or holds features of
            another width, features of the wrong shape or not finite, patches asked of an encoder that has none or of
            which the disk has no room.
    """
    wanted = np.arange(len(corpus)) if rows is None else np.asarray(rows, dtype=np.int64)
    _check(wanted, len(corpus), batch_size, workers, engine, out)
    if patches and encoder.grid is None:
        raise RaddinoError(f"encoder {encoder.name!r} has no patch features: leave --patches (patches=True) out")
    ranks = join_ranks()
    fit_where_needed(encoder, corpus)
    settings = Settings(batch_size, resolve_precision(precision, encoder), compile, workers, patches)
    folder = Path(cache) if cache else corpus.path / "features"
    store = FeatureCache(folder, feature_key(encoder, settings.precision), corpus.fingerprint)
    array = PatchFile(store.folder, (len(corpus), *encoder.grid, encoder.dim)) if patches and encoder.grid else None

    parts = store.load(patches)
    _check_held(parts, encoder, store, array)
    held = [part.rows for part in parts]
    todo = np.setdiff1d(wanted, np.concatenate(held) if held else np.empty(0, np.int64))
    ranks.wait()  # all have seen the same cache before anyone adds to it
    if len(todo):
        store.create()
    if array is not None and len(todo):
        array.create(len(todo))
    _fill(corpus, encoder, ranks.share(todo), settings, store, ranks, engine, len(np.unique(wanted)) - len(todo))
    ranks.wait()

    features = FeatureSet.join(store.load(patches)).take(wanted)
    if array is not None:
        features = replace(features, patches=PatchRows(array.open(), features.rows, features.patch_crc32))
    path = store.folder if out is None else Path(out)
    if out is not None and ranks.rank == 0:
        split = corpus.manifest["split"].iloc[wanted].tolist() if "split" in corpus.manifest else None
        features.save(path, split)
    ranks.wait()
    return replace(features, path=path)


def rows_held(corpus: Corpus, encoder: Encoder, precision: str, cache: Path | None = None) -> np.ndarray:
    """(M,) row numbers, in order, of which :func:`embed` would compute nothing."""
    store = FeatureCache(cache or corpus.path / "features", feature_key(encoder, precision), corpus.fingerprint)
    return np.unique(np.concatenate([np.empty(0, np.int64), *(part.rows for part in store.load())]))


def fit_where_needed(encoder: Encoder, corpus: Corpus) -> None:
    """Fit an encoder that has a ``fit`` and has not run it, on the training rows."""
    if hasattr(encoder, "fit") and not getattr(encoder, "fitted", False):
        encoder.fit(corpus, corpus.rows(split="train"))


def _fill(
    corpus: Corpus,
    encoder: Encoder,
    rows: np.ndarray,
    settings: Settings,
    store: FeatureCache,
    ranks: Ranks,
    engine: str,
    done: int,
) -> None:
    """Embed what is missing, here or on a cluster, with a bar on the first rank."""
    if not len(rows):
        return
    if ranks.rank:
        embed_rows(corpus, encoder, rows, settings, store, lambda n: None)
        return
    whose = f" (rank 0 of {ranks.size})" if ranks.size > 1 else ""
    done = 0 if whose else done
    with bar(f"embed {subject(encoder.name)}{whose}", total=len(rows) + done, done=done) as shown:
        if engine == "ray":
            embed_on_cluster(corpus, encoder, rows, settings, store, shown.advance)
        else:
            embed_rows(corpus, encoder, rows, settings, store, shown.advance)


def _check_held(parts: list[FeatureSet], encoder: Encoder, store: FeatureCache, array: PatchFile | None) -> None:
    """Refuse parts that this encoder cannot have made, and parts whose patches are no longer there."""
    for part in parts:
        if part.cls.ndim != 2 or part.cls.shape[1] != encoder.dim:
            raise RaddinoError(
                f"{store.folder} holds features of shape {part.cls.shape} under the fingerprint of encoder "
                f"{encoder.name!r}, which has width {encoder.dim}: delete the folder, or give another cache"
            )
    if parts and array is not None:
        array.open()


def _check(wanted: np.ndarray, images: int, batch_size: int, workers: int, engine: str, out: Path | None) -> None:
    if not len(wanted):
        raise RaddinoError("no images to embed")
    if wanted.min() < 0 or wanted.max() >= images:
        raise RaddinoError(f"rows to embed must lie in 0..{images - 1}")
    if batch_size < 1:
        raise RaddinoError(f"batch_size must be at least 1, got {batch_size}")
    if workers < 0:
        raise RaddinoError(f"workers must be 0 or more, got {workers}")
    if engine not in ("local", "ray"):
        raise ConfigError(f"engine takes local or ray, got {engine!r}")
    if out is not None:
        check_suffix(Path(out))
