"""Features in memory and on disk, and the folder of parts that an extraction grows from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raddino.errors import RaddinoError
from raddino.features.files import Undigested, read_features, write_features
from raddino.features.patches import PatchRows
from raddino.files import check_writable

FORMAT = "1"


@dataclass(frozen=True)
class FeatureSet:
    """Embeddings of N images of one corpus by one encoder.

    Attributes:
        cls: (N, D) float32.
        mean_patch: (N, D) float32, the mean patch token, or None for encoders without a grid.
        rows: (N,) int64 row numbers in the corpus.
        ids: (N,) ids of the corpus manifest.
        encoder, corpus: their fingerprints; features computed in bf16 carry ``-bf16`` behind the encoder's.
        path: the file, or the cache folder with the parts, in which they lie; None in memory only.
        patches: (N, H, W, D) float16 on disk, indexed like an array; None unless they were asked for.
        patch_crc32: (N,) uint32 of those on disk, known to the parts of a cache whose patches were kept.
    """

    cls: np.ndarray
    mean_patch: np.ndarray | None
    rows: np.ndarray
    ids: list[str]
    encoder: str
    corpus: str
    path: Path | None = None
    patches: PatchRows | None = None
    patch_crc32: np.ndarray | None = None

    def save(self, path: Path, split: Sequence[Any] | None = None) -> None:
        """Write a ``.safetensors`` or ``.parquet`` file, whole or not at all; patches stay where they are.

        safetensors: tensors ``cls``, ``mean_patch`` and ``rows``; in the header ``ids`` (a JSON list), ``encoder``
        and ``corpus`` (fingerprints). Parquet: one row an image with ``id``, ``row``, ``split`` where given, and
        ``cls`` and ``mean_patch`` as lists of D float32; the fingerprints are in the schema's metadata.

        Raises:
            RaddinoError: another suffix.
        """
        self._write(Path(path), {}, split)

    def _write(self, path: Path, more: dict[str, np.ndarray], split: Sequence[Any] | None = None) -> None:
        tensors = {"cls": self.cls, "rows": self.rows}
        if self.mean_patch is not None:
            tensors["mean_patch"] = self.mean_patch
        header = {"encoder": self.encoder, "corpus": self.corpus, "format": FORMAT}
        write_features(path, tensors | more, self.ids, header, split)

    @classmethod
    def load(cls, path: Path) -> FeatureSet:
        """Read what :meth:`save` wrote.

        Raises:
            RaddinoError: the file is missing, damaged, or not a feature file.
        """
        path = Path(path)
        tensors, ids, header = read_features(path)
        return cls(
            cls=tensors["cls"],
            mean_patch=tensors.get("mean_patch"),
            rows=tensors["rows"],
            ids=ids,
            encoder=header["encoder"],
            corpus=header["corpus"],
            path=path,
            patch_crc32=tensors.get("patch_crc32"),
        )

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
            patches=None if self.patches is None else self.patches.take(at),
            patch_crc32=None if self.patch_crc32 is None else self.patch_crc32[at],
        )

    @staticmethod
    def join(parts: list[FeatureSet]) -> FeatureSet:
        """The parts of one extraction (at least one) as one set, without patches."""
        patches = [part.mean_patch for part in parts if part.mean_patch is not None]
        crcs = [part.patch_crc32 for part in parts if part.patch_crc32 is not None]
        return FeatureSet(
            cls=np.concatenate([part.cls for part in parts]),
            mean_patch=np.concatenate(patches) if patches else None,
            rows=np.concatenate([part.rows for part in parts]),
            ids=[name for part in parts for name in part.ids],
            encoder=parts[0].encoder,
            corpus=parts[0].corpus,
            patch_crc32=np.concatenate(crcs) if len(crcs) == len(parts) else None,
        )


class FeatureCache:
    """Parts of one (encoder, corpus) pair under ``folder/<key>/``; parts are never changed, only added.

    Args:
        folder: shared by all encoders and corpora.
        encoder, corpus: fingerprints; together they name the subfolder.
    """

    def __init__(self, folder: Path, encoder: str, corpus: str) -> None:
        key = hashlib.sha256(json.dumps([encoder, corpus]).encode()).hexdigest()[:20]
        self.folder, self.encoder, self.corpus = Path(folder) / key, encoder, corpus

    def load(self, with_patches: bool = False) -> list[FeatureSet]:
        """All parts, or those whose patches are on disk too; those that older versions wrote, without a digest, do not
        count.

        Raises:
            RaddinoError: a part is damaged or belongs to another encoder or corpus.
        """
        parts = []
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                part = FeatureSet.load(path)
            except Undigested:
                continue
            if (part.encoder, part.corpus) != (self.encoder, self.corpus):
                raise RaddinoError(f"{self.folder} holds features of another encoder or corpus: delete the folder")
            if not with_patches or part.patch_crc32 is not None:
                parts.append(part)
        return parts

    def create(self) -> None:
        """Make the folder.

        Raises:
            RaddinoError: it cannot be made, or nothing can be written in it.
        """
        check_writable(self.folder)

    def add(self, part: FeatureSet) -> None:
        """Keep a part; with ``patch_crc32`` it says that the patches of its rows are on disk.

        Raises:
            RaddinoError: it cannot be written.
        """
        crcs = part.patch_crc32
        kind = b"" if crcs is None else b"patches"
        name = hashlib.sha256(part.rows.tobytes() + kind).hexdigest()[:16]
        part._write(self.folder / f"{name}.safetensors", {} if crcs is None else {"patch_crc32": crcs})
