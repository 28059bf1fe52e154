"""Features on disk: a safetensors file that anyone can read, and the folder of parts it grows from."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raddino.errors import RaddinoError


@dataclass(frozen=True)
class FeatureSet:
    """Embeddings of N images of one corpus by one encoder.

    Attributes:
        cls: (N, D) float32.
        mean_patch: (N, D) float32, the mean patch token, or None for encoders without a grid.
        rows: (N,) int64 row numbers in the corpus.
        ids: (N,) ids of the corpus manifest.
        encoder, corpus: their fingerprints.
        path: the file, or the cache folder with the parts, in which they lie; None in memory only.
    """

    cls: np.ndarray
    mean_patch: np.ndarray | None
    rows: np.ndarray
    ids: list[str]
    encoder: str
    corpus: str
    path: Path | None = None

    def save(self, path: Path) -> None:
        """Write a ``.safetensors`` file, whole or not at all.

        Tensors ``cls``, ``mean_patch`` and ``rows``; in the header ``ids`` (a JSON list), ``encoder`` and
        ``corpus`` (fingerprints).
        """
        from safetensors.numpy import save_file

        tensors = {"cls": self.cls, "rows": self.rows}
        if self.mean_patch is not None:
            tensors["mean_patch"] = self.mean_patch
        header = {"ids": json.dumps(self.ids), "encoder": self.encoder, "corpus": self.corpus, "format": "1"}
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
        os.close(handle)
        try:
            save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, draft, header)
            os.replace(draft, path)
        finally:
            Path(draft).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> FeatureSet:
        """Read what :meth:`save` wrote.

        Raises:
            RaddinoError: the file is missing, damaged, or not a feature file.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise RaddinoError(f"feature file {path} does not exist")
        try:
            with safe_open(path, "numpy") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(
                cls=tensors["cls"],
                mean_patch=tensors.get("mean_patch"),
                rows=tensors["rows"],
                ids=json.loads(header["ids"]),
                encoder=header["encoder"],
                corpus=header["corpus"],
                path=path,
            )
        except (SafetensorError, KeyError, ValueError) as error:
            raise RaddinoError(
                f"{path} is damaged or no feature file ({type(error).__name__}): delete it and embed again"
            ) from None

    def take(self, rows: np.ndarray) -> FeatureSet:
        """The features of corpus rows ``rows``, in that order. Raises KeyError for a row that is not here."""
        where = {row: position for position, row in enumerate(self.rows.tolist())}
        at = [where[row] for row in np.asarray(rows).tolist()]
        return FeatureSet(
            cls=self.cls[at],
            mean_patch=None if self.mean_patch is None else self.mean_patch[at],
            rows=self.rows[at],
            ids=[self.ids[position] for position in at],
            encoder=self.encoder,
            corpus=self.corpus,
        )

    @staticmethod
    def join(parts: list[FeatureSet]) -> FeatureSet:
        """The parts of one extraction (at least one) as one set."""
        patches = [part.mean_patch for part in parts if part.mean_patch is not None]
        return FeatureSet(
            cls=np.concatenate([part.cls for part in parts]),
            mean_patch=np.concatenate(patches) if patches else None,
            rows=np.concatenate([part.rows for part in parts]),
            ids=[name for part in parts for name in part.ids],
            encoder=parts[0].encoder,
            corpus=parts[0].corpus,
        )


class FeatureCache:
    """Parts of one (encoder, corpus) pair under ``folder/<key>/``; parts are never changed, only added.

    Args:
        folder: shared by all encoders and corpora.
        encoder, corpus: fingerprints; together they name the subfolder.
    """

    def __init__(self, folder: Path, encoder: str, corpus: str) -> None:
        key = hashlib.sha256(json.dumps([encoder, corpus]).encode()).hexdigest()[:20]
        self.folder, self.encoder, self.corpus = folder / key, encoder, corpus

    def load(self) -> list[FeatureSet]:
        """All parts.

        Raises:
            RaddinoError: a part is damaged or belongs to another encoder or corpus.
        """
        parts = [FeatureSet.load(path) for path in sorted(self.folder.glob("*.safetensors"))]
        for part in parts:
            if (part.encoder, part.corpus) != (self.encoder, self.corpus):
                raise RaddinoError(f"{self.folder} holds features of another encoder or corpus: delete the folder")
        return parts

    def add(self, part: FeatureSet) -> None:
        """Keep a part."""
        name = hashlib.sha256(part.rows.tobytes()).hexdigest()[:16]
        part.save(self.folder / f"{name}.safetensors")
