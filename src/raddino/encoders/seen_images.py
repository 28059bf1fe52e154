"""Which images an encoder was trained on, as keyed digests: whoever has an image can ask, nobody can read one out."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from raddino.errors import RaddinoError
from raddino.files import SEAL, UNSEALED, check_seal, draft_of, seal

FILE = "seen_images.safetensors"
DIGESTS = ("sha256", "sha256_source")
"""Columns of a manifest: of the packed pixels, and of those of the file that they were made from."""
SALT, LENGTH = 16, 8
"""Bytes of the salt and of a digest."""
REMEDY = "restore the file, or delete it: then nothing is known of these images by content"


@dataclass(frozen=True)
class SeenImages:
    """Digests of images, keyed by a salt of their own.

    An image is recognised as it was packed, or by its file's pixels at whatever size it is packed. One that was
    compressed, cropped or windowed anew before it was packed is not: a digest that outlasts such changes is so short
    that trying all of them out gives back a blurred picture.

    Attributes:
        salt: bytes, no secret; digests of two encoders cannot be compared without the images.
        digests: (N,) uint64, ascending, up to two an image.
    """

    salt: bytes
    digests: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame) -> SeenImages:
        """Of the rows of a manifest; the same images give the same bytes."""
        words = sorted({word for words in _words(table) for word in words})
        return cls(hashlib.sha256("\n".join(words).encode()).digest()[:SALT], np.empty(0, np.uint64)).adding(table)

    def adding(self, table: pd.DataFrame) -> SeenImages:
        """These and the rows of a manifest."""
        found = [self._keyed(words) for words in _words(table)]
        return SeenImages(self.salt, np.unique(np.concatenate([self.digests, *found])))

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """(R,) bool: which rows of a manifest are among them."""
        held = np.zeros(len(table), bool)
        for name in set(DIGESTS) & set(table):
            said = table[name].notna().to_numpy()
            held[said] |= np.isin(self._keyed(table.loc[said, name]), self.digests)
        return held

    def save(self, folder: Path) -> None:
        """Write :data:`FILE` into a folder, whole or not at all."""
        with draft_of(folder / FILE) as draft:
            digests = np.frombuffer(self.digests.astype("<u8").tobytes(), np.uint8).reshape(-1, LENGTH)
            tensors = {"digests": digests, "salt": np.frombuffer(self.salt, np.uint8)}
            save_file(tensors, draft, metadata={SEAL: UNSEALED})
            seal(draft)

    @classmethod
    def load(cls, folder: Path) -> SeenImages | None:
        """What :meth:`save` wrote; None where the folder has none.

        Raises:
            RaddinoError: damaged.
        """
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            if not check_seal(file, REMEDY):
                raise ValueError("its seal is broken")
            with safe_open(file, framework="numpy") as opened:
                salt, digests = opened.get_tensor("salt"), opened.get_tensor("digests")
            kinds, shapes = {salt.dtype, digests.dtype}, (salt.shape, digests.shape[1:])
            if kinds != {np.dtype(np.uint8)} or shapes != ((SALT,), (LENGTH,)):
                raise ValueError("other contents than digests")
        except (ValueError, SafetensorError) as error:
            raise RaddinoError(f"{file} is damaged ({' '.join(str(error).split())}): {REMEDY}") from None
        return cls(salt.tobytes(), np.frombuffer(digests.tobytes(), "<u8").astype(np.uint64))

    def _keyed(self, words: Iterable[str]) -> np.ndarray:
        short = b"".join(hmac.digest(self.salt, word.encode(), "sha256")[:LENGTH] for word in words)
        return np.frombuffer(short, "<u8").astype(np.uint64)


def _words(table: pd.DataFrame) -> list[pd.Series]:
    return [table[name].dropna() for name in DIGESTS if name in table]
