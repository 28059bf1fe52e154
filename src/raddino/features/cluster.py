"""Embedding over a Ray cluster: the same functions, in actors that share the cache folder."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError
from raddino.features.cache import FeatureCache
from raddino.features.forward import device_of
from raddino.features.parts import Settings, embed_rows

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

BLOCK_IMAGES = 256


class EmbedActor:
    """Holds one copy of the encoder; turns blocks of row numbers into cache parts and gives the numbers back."""

    def __init__(self, corpus: Corpus, encoder: Encoder, settings: Settings, store: FeatureCache) -> None:
        self.arguments = corpus, encoder, settings, store

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        corpus, encoder, settings, store = self.arguments
        try:
            embed_rows(corpus, encoder, block["row"], settings, store, lambda n: None)
        except RaddinoError as error:
            return {"row": block["row"], "error": np.full(len(block["row"]), str(error), dtype=object)}
        return {"row": block["row"], "error": np.full(len(block["row"]), "", dtype=object)}


def embed_on_cluster(
    corpus: Corpus,
    encoder: Encoder,
    rows: np.ndarray,
    settings: Settings,
    store: FeatureCache,
    advance: Callable[[int], None],
) -> None:
    """Embed ``rows`` by Ray Data; joins the cluster of ``RAY_ADDRESS``, or starts one on this machine.

    Args:
        settings: ``workers`` is the number of actors, at least one; each has a GPU where the encoder runs on one.

    Raises:
        RaddinoError: Ray is not installed, an encoder or image is refused in an actor, or an actor failed.
    """
    try:
        import ray
    except ImportError:
        raise RaddinoError("engine ray needs Ray Data: pip install 'raddino[cluster]'") from None

    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    actors = max(1, settings.workers)
    block = max(1, min(BLOCK_IMAGES, -(-len(rows) // actors)))
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        resources: dict[str, Any] = {"num_gpus": 1} if device_of(encoder).type == "cuda" else {"num_cpus": 1}
        # blocks made here need no task of their own, which would wait for ever where the actors hold every core
        blocks = [pd.DataFrame({"row": rows[start : start + block]}) for start in range(0, len(rows), block)]
        finished = ray.data.from_pandas(blocks).map_batches(
            EmbedActor,
            fn_constructor_args=(corpus, encoder, replace(settings, workers=0), store),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=actors),
            **resources,
        )
        for batch in finished.iter_batches(batch_size=None):
            refused = [str(error) for error in batch["error"] if error]
            if refused:
                raise RaddinoError(refused[0])
            advance(len(batch["row"]))
    except ray.exceptions.RayError as error:
        raise RaddinoError(
            f"an actor of the Ray cluster failed ({type(error).__name__}); its own log says why. "
            "What is embedded stays: run the same command again to continue"
        ) from error
    finally:
        if started:
            ray.shutdown()
