"""What a probe reads of a feature set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raddino.errors import RaddinoError
from raddino.features.patches import PatchRows
from raddino.tasks.probes.base import ProbeConfig

if TYPE_CHECKING:
    from raddino.features.cache import FeatureSet


def read_features(features: FeatureSet, rows: np.ndarray, config: ProbeConfig) -> np.ndarray | PatchRows:
    """Input of the probe for corpus ``rows``: (N, D), or patches (N, H, W, D) that stay on disk.

    Raises:
        RaddinoError: the probe reads patch tokens that the encoder does not have or that were not kept.
        KeyError: a row that is not in the feature set.
    """
    some = features.take(rows)
    if config.features == "patches":
        if some.patches is None:
            raise RaddinoError(f"the {config.kind} probe reads all patches, and none were kept for this encoder")
        return some.patches
    return pick(some.cls, some.mean_patch, config.features)


def pick(cls: np.ndarray, mean_patch: np.ndarray | None, features: str) -> np.ndarray:
    """(N, D) or (N, 2 D) that a probe of image embeddings reads; ``grid`` stands in ``cls`` already.

    Raises:
        RaddinoError: a mean of patches that the encoder does not have.
    """
    if features in ("cls", "grid"):
        return cls
    if mean_patch is None:
        raise RaddinoError(f"the probe reads {features}, but this encoder has no patch tokens")
    return mean_patch if features == "mean_patch" else np.concatenate([cls, mean_patch], axis=1)


def take(x: np.ndarray | PatchRows, index: np.ndarray) -> np.ndarray | PatchRows:
    """Images of what :func:`read_features` gave; patches stay on disk."""
    return x.take(index) if isinstance(x, PatchRows) else x[index]
