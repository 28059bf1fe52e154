"""Some images of a corpus under their own row numbers, perhaps in other splits; nothing is copied."""

from __future__ import annotations

import numpy as np

from raddino.corpus.dataset import Corpus


class CorpusView(Corpus):
    """A corpus of which some rows are not to be seen.

    Row numbers, fingerprint and place are those of the whole, so that features of the two are the same.

    Args:
        whole: the corpus.
        rows: row numbers that :meth:`rows` gives out, in any order.
        split: (len(whole),) splits instead of the manifest's; None for those.
    """

    def __init__(self, whole: Corpus, rows: np.ndarray, split: np.ndarray | None = None) -> None:
        self.whole, self.path, self.info = whole, whole.path, whole.info
        self.manifest = whole.manifest if split is None else whole.manifest.assign(split=split)
        self._seen = np.zeros(len(whole), bool)
        self._seen[rows] = True

    @property
    def fingerprint(self) -> str:
        """Of the whole."""
        return self.whole.fingerprint

    @property
    def fingerprints(self) -> list[str]:
        """Of the packed corpora in the whole."""
        return self.whole.fingerprints

    @property
    def weights(self) -> dict[str, float]:
        """Of the whole."""
        return self.whole.weights

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, i: int) -> np.ndarray:
        """Image ``i`` of the whole."""
        return self.whole.read(i)

    def read_mask(self, i: int, name: str) -> np.ndarray | None:
        """Mask ``name`` of image ``i`` of the whole."""
        return self.whole.read_mask(i, name)

    def rows(self, split: str | None = None, where: str | None = None) -> np.ndarray:
        """As :meth:`Corpus.rows`, of the rows that are to be seen."""
        chosen = super().rows(split, where)
        return chosen[self._seen[chosen]]
