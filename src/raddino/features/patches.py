"""Patch features on disk: one half-precision array a corpus, mapped into memory and never read whole."""

from __future__ import annotations

import os
import shutil
import zlib
from pathlib import Path

import numpy as np

from raddino.errors import RaddinoError, UnwritableError
from raddino.files import draft_of, writing

FILE = "patches.npy"


class PatchRows:
    """Some rows of a patch array on disk, read when asked for.

    Attributes:
        array: (M, H, W, D) float16 ``np.memmap``; row i belongs to image i of the corpus.
        at: (N,) row numbers.
        crc32: (N,) uint32 of each row's bytes, compared when a row is read for the first time; None for no comparison.
    """

    def __init__(self, array: np.memmap, at: np.ndarray, crc32: np.ndarray | None = None) -> None:
        self.array, self.at, self.crc32 = array, np.asarray(at, dtype=np.int64), crc32
        self._sound = np.zeros(len(array), bool)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, D)"""
        return (len(self.at), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """float16"""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> np.ndarray:
        """(H, W, D) or (n, H, W, D) of the chosen images; a whole number is a view, nothing is copied.

        Raises:
            RaddinoError: not the bytes that were written.
        """
        if self.crc32 is not None:
            self._check(np.atleast_1d(self.at[index]), np.atleast_1d(self.crc32[index]))
        return self.array[self.at[index]]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All rows in memory."""
        return np.asarray(self[:], dtype=dtype)

    def take(self, positions: list[int] | np.ndarray) -> PatchRows:
        """The images at ``positions``, in that order; reads nothing."""
        taken = PatchRows(self.array, self.at[positions], None if self.crc32 is None else self.crc32[positions])
        taken._sound = self._sound
        return taken

    def _check(self, rows: np.ndarray, crcs: np.ndarray) -> None:
        for row, crc in zip(rows.tolist(), crcs.tolist(), strict=True):
            if not self._sound[row] and zlib.crc32(self.array[row].data) != crc:
                file = Path(str(self.array.filename))
                raise RaddinoError(f"{file} is damaged in row {row}: delete the folder {file.parent} and embed again")
            self._sound[row] = True


class PatchFile:
    """``patches.npy`` of one cache folder: (images of the corpus, H, W, D) float16, sparse until it is filled.

    Which rows are filled is known to the parts beside it: a part is saved after its patches are on disk.

    Args:
        folder: of the cache.
        shape: (M, H, W, D) with the size of the whole corpus.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.shape = folder / FILE, shape

    def create(self, images: int) -> None:
        """Make the file where it is not there yet; whoever comes second finds the first one's.

        Args:
            images: how many are to be written.

        Raises:
            RaddinoError: they do not fit on the disk, or the file cannot be made.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        needed, free = images * int(np.prod(self.shape[1:])) * 2, shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise UnwritableError(
                f"patch features of {images} images take {needed / 1e9:.1f} GB, the disk of {self.path.parent} has "
                f"{free / 1e9:.1f}: free some, give another cache folder, or embed fewer rows"
            )
        if self.path.is_file():
            return
        with draft_of(self.path, keep=True) as draft:
            np.lib.format.open_memmap(draft, "w+", np.float16, self.shape).flush()

    def write(self, rows: np.ndarray, patches: list[np.ndarray]) -> np.ndarray:
        """Put patches (n, H, W, D) of consecutive runs of ``rows`` in their places, and wait until the disk has them.

        They are written, not stored through the mapping: a full disk then is an error and not a signal that kills.

        Returns:
            CRC-32 of each row's bytes, (n,) uint32.

        Raises:
            RaddinoError: the disk is full, or the file is not what it should be.
        """
        start, crcs = self.open().offset, []
        found = (image for part in patches for image in part)
        with writing(self.path), self.path.open("r+b") as file:
            for row, image in zip(rows.tolist(), found, strict=True):
                file.seek(start + row * image.size * 2)
                values = np.ascontiguousarray(image, np.float16).data
                file.write(values)
                crcs.append(zlib.crc32(values))
            file.flush()
            os.fsync(file.fileno())
        return np.array(crcs, np.uint32)

    def open(self) -> np.memmap:
        """The array.

        Raises:
            RaddinoError: the file is missing, cut short, or of another shape.
        """
        try:
            array = np.load(self.path, mmap_mode="r")
            if array.shape == self.shape and array.dtype == np.float16:
                return array
            words = f"holds {array.dtype} of shape {array.shape}, not float16 of shape {self.shape}"
        except Exception as error:  # numpy parses the header as Python, which fails in many ways
            words = f"is missing or damaged ({type(error).__name__})"
        raise RaddinoError(f"{self.path} {words}: delete the folder {self.path.parent} and embed again")
