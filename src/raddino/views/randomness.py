"""Random numbers as a function of (seed, purpose, position), never of what was drawn before."""

import numpy as np

PURPOSES = ("order", "views", "masks", "drop_path", "weights", "probe", "source", "xray")


def generator(seed: int, purpose: str, position: int = 0) -> np.random.Generator:
    """A fresh generator for one purpose at one position; equal arguments give equal streams everywhere.

    Args:
        seed: of the run, >= 0.
        purpose: one of :data:`PURPOSES`; streams of different purposes are independent.
        position: sample position, step or epoch, >= 0.
    """
    counter = np.array([0, 0, PURPOSES.index(purpose), position], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=seed))


def integer(seed: int, purpose: str, position: int = 0) -> int:
    """A 63-bit seed for generators of other libraries."""
    return int(generator(seed, purpose, position).integers(2**63))
