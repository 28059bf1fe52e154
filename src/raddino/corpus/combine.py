"""Several corpora as one training set, with a weight and a cap for each source."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.corpus.copies import leave_out, refuse_torn
from raddino.corpus.dataset import Corpus
from raddino.corpus.splits import check_patient_splits, patients_within
from raddino.errors import ConfigError, RaddinoError, counted, did_you_mean

DUPLICATES = ("ignore", "leave-out", "refuse")


class CombinedCorpus(Corpus):
    """Rows of several packed corpora behind the face of one; nothing is copied.

    Attributes:
        parts: the packed corpora.
        path: a folder beside the first, which need not exist, named after all; features go there.
    """

    def __init__(
        self,
        parts: Sequence[Corpus],
        rows: Sequence[np.ndarray],
        weights: dict[str, float],
        caps: dict[str, int],
        seed: int,
        duplicates: str = "ignore",
    ) -> None:
        self.parts, self._weights = list(parts), weights
        self._place = [(part, int(row)) for part, chosen in zip(parts, rows, strict=True) for row in chosen]
        self.path = Path(parts[0].path).parent / "+".join(Path(part.path).name for part in parts)
        tables = [part.manifest.iloc[chosen] for part, chosen in zip(parts, rows, strict=True)]
        self.manifest = _stack(tables)
        kinds = {part.info["synthetic"] for part in parts}
        made_of: dict[str, Any] = {
            "parts": [part.fingerprint for part in parts],
            "weights": weights,
            "caps": caps,
            "seed": seed,
        }
        if duplicates == "leave-out":
            made_of["duplicates"] = duplicates
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        self.info = {
            **made_of,
            "namespaces": {name: key for part in parts for name, key in part.info["namespaces"].items()},
            "synthetic": kinds.pop() if len(kinds) == 1 else "mixed",
            "preparation": parts[0].info["preparation"],
            "images": len(self.manifest),
            "patients": int(self.manifest["patient"].nunique()),
            "sources": {str(name): int(n) for name, n in self.manifest["source"].value_counts().items()},
            "fingerprint": digest[:16],
        }

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the packed corpora in it."""
        return [part.fingerprint for part in self.parts]

    @property
    def weights(self) -> dict[str, float]:
        """How often training draws an image of a source; sources not named count 1."""
        return self._weights

    def read(self, i: int) -> np.ndarray:
        """Image ``i``: (H, W) uint8 or uint16."""
        part, row = self._place[i]
        return part.read(row)

    def read_mask(self, i: int, name: str) -> np.ndarray | None:
        """Mask ``name`` of image ``i``, None when it has none; see :meth:`Corpus.read_mask`."""
        part, row = self._place[i]
        if name in self.mask_names and name not in part.mask_names:
            return None
        return part.read_mask(row, name)


def combine(
    corpora: Sequence[Corpus],
    weights: Mapping[str, float] | None = None,
    caps: Mapping[str, int] | None = None,
    seed: int = 0,
    duplicates: str = "ignore",
) -> CombinedCorpus:
    """Join corpora for training.

    Args:
        corpora: packed with the same number of bits.
        weights: by source, how often an image of it is drawn for each time one of weight 1 is: in a pass of the
            training order, a source of n images takes round(weight x n) places, each image equally often up to one.
        caps: by source, greatest number of its *train* images, whole patients drawn by hash; a smaller cap takes
            a part of what a larger one takes. Validation and test images stay.
        seed: of the caps.
        duplicates: ``"leave-out"`` reads every image and trains without those of which a copy stands in another split,
            ``"refuse"`` stops where there are such, ``"ignore"`` does not look.

    Raises:
        ConfigError: another word for duplicates, a source that no corpus has, a weight or cap that is not positive, a
            cap below the images of one patient, or corpora of 8 and 16 bits.
        RaddinoError: an image (one id, or the same pixels) in two corpora, a patient in two splits, copies that are in
            two and refused, or corpora of which that cannot be seen, because the patients of one namespace were hashed
            with two keys.
    """
    weights, caps = dict(weights or {}), dict(caps or {})
    if duplicates not in DUPLICATES:
        hint = did_you_mean(duplicates, DUPLICATES)
        raise ConfigError(f"duplicates must be {', '.join(DUPLICATES)}; got {duplicates!r}.{hint}")
    if not corpora:
        raise ConfigError("nothing to combine: give at least one corpus")
    _check(corpora, weights, caps)
    _check_keys(corpora)
    rows = [np.arange(len(part)) for part in corpora]
    for source, limit in caps.items():
        rows = _capped(corpora, rows, source, limit, seed)
    _check_distinct(corpora, rows)
    if duplicates == "refuse":
        refuse_torn(corpora, rows)
    elif duplicates == "leave-out":
        rows = leave_out(corpora, rows)
    combined = CombinedCorpus(corpora, rows, weights, caps, seed, duplicates)
    check_patient_splits(combined.manifest)
    return combined


def _check_keys(corpora: Sequence[Corpus]) -> None:
    """Refuse corpora whose patients cannot be compared; those of different namespaces need not be."""
    for a, b in itertools.combinations(corpora, 2):
        one, other = a.info["namespaces"], b.info["namespaces"]
        torn = [name for name in one if name in other and one[name] != other[name]]
        if torn:
            where = f" of namespace {torn[0]!r}" if torn[0] else ""
            raise RaddinoError(
                f"{Path(a.path).name} and {Path(b.path).name} hold patients{where} hashed with two different keys, so "
                "nobody can see whether one person stands in both: prepare both with one key (RADDINO_KEY, or the "
                "same user), or each with its own --namespace if their patients are different people"
            )


def _check_distinct(corpora: Sequence[Corpus], rows: Sequence[np.ndarray]) -> None:
    """Refuse an image that two corpora hold, under one id or as the same packed pixels."""
    tables = [part.manifest.iloc[chosen] for part, chosen in zip(corpora, rows, strict=True)]
    for (a, one), (b, other) in itertools.combinations(zip(corpora, tables, strict=True), 2):
        shared = other["id"].isin(one["id"])
        if "sha256" in one and "sha256" in other:
            shared |= other["sha256"].isin(one["sha256"].dropna())
        if shared.any():
            raise RaddinoError(
                f"{Path(b.path).name} shares {counted(int(shared.sum()), 'image')} with {Path(a.path).name}, by id "
                "or by the same pixels: leave one of the two corpora out, or prepare it again without them"
            )


def _check(corpora: Sequence[Corpus], weights: Mapping[str, float], caps: Mapping[str, int]) -> None:
    known = sorted({str(source) for part in corpora for source in part.manifest["source"].unique()})
    for kind, values in (("weight", weights), ("cap", caps)):
        for source, value in values.items():
            if source not in known:
                hint = did_you_mean(source, known)
                raise ConfigError(
                    f"{kind} of {source!r}: no corpus has that source.{hint} Sources: {', '.join(known)}."
                )
            if not value > 0 or not np.isfinite(value):
                raise ConfigError(
                    f"{kind} of {source!r} must be above 0, got {value}; to leave a source out, leave it out"
                )
    if len({part.info["preparation"]["bits"] for part in corpora}) > 1:
        raise ConfigError("corpora of 8 and of 16 bits cannot be combined: prepare them with the same --bits")


def _capped(corpora: Sequence[Corpus], rows: list[np.ndarray], source: str, limit: int, seed: int) -> list[np.ndarray]:
    """``rows`` of each corpus without the train images of ``source`` beyond the cap."""
    tables = [part.manifest.iloc[chosen] for part, chosen in zip(corpora, rows, strict=True)]
    bound = [((table["source"] == source) & (table["split"] == "train")).to_numpy() for table in tables]
    patients = np.concatenate([table["patient"].to_numpy()[at] for table, at in zip(tables, bound, strict=True)])
    inside = patients_within(patients, limit, seed)
    if len(patients) and not inside.any():
        raise ConfigError(f"cap {limit} of {source!r} is below the images of its first patient: raise it")
    kept, start = [], 0
    for chosen, at in zip(rows, bound, strict=True):
        keep = ~at
        keep[at] = inside[start : start + at.sum()]
        start += at.sum()
        kept.append(chosen[keep])
    return kept


def _stack(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Manifests one below the other; absent text is None, absent numbers are NaN."""
    stacked = pd.concat(tables, ignore_index=True)
    for column in stacked.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in stacked.dtypes]]:
        values = stacked[column].astype(object)
        stacked[column] = values.where(values.notna(), None)
    return stacked
