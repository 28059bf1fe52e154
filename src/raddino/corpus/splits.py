"""Splits by patient: given ones are checked, missing ones follow from a hash of the patient alone."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from raddino.errors import ConfigError, RaddinoError, counted

NAMES = ("train", "val", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SHOWN = 5


def parse_splits(values: pd.Series) -> pd.Series:
    """``"training"``, ``"Valid"`` … to train, val, test; empty stays None.

    Raises:
        ConfigError: another word.
    """
    words = [None if pd.isna(value) else str(value).strip().lower() or None for value in values]
    unknown = sorted({word for word in words if word is not None and word not in SPELLINGS})
    if unknown:
        raise ConfigError(
            f"unknown split {unknown[0]!r} in the manifest; a split is train, val or test. Map another "
            "column with columns={'split': …}, or leave it out with columns={'split': ''}"
        )
    return pd.Series([word and SPELLINGS[word] for word in words], index=values.index, dtype=object)


def split_of(patient: str, proportions: Sequence[float], seed: int) -> str:
    """The split of a (hashed) patient: a pure function, so that adding files moves nobody.

    Args:
        patient: pseudonym.
        proportions: of train, val and test; they sum to 1.
        seed: another seed, another draw.
    """
    position = _position(f"{seed}/{patient}")
    if position < proportions[0]:
        return "train"
    return "val" if position < proportions[0] + proportions[1] else "test"


def patient_fraction(patients: Sequence[str] | np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The images of a random share of the patients, nested: 10 % lies inside 25 % of the same seed.

    Each patient has a place in [0, 1) that follows from (seed, patient) alone and is in when that lies below
    ``fraction``: adding images moves nobody, and the share is met in expectation (SD sqrt(f (1 - f) / patients)).
    The patient with the lowest place is always in.

    Args:
        patients: (N,) patient of each image.
        fraction: in (0, 1]; 1 takes all.
        seed: another seed, another draw; independent of the draw of :func:`split_of`.

    Returns:
        (N,) bool.

    Raises:
        ConfigError: a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"fraction is a share of the patients above 0 and up to 1; got {fraction!r}")
    codes, names = pd.factorize(np.asarray(patients, dtype=object), use_na_sentinel=False)
    places = np.array([_position(f"fraction/{seed}/{name}") for name in names])
    inside = places < fraction
    if len(places):
        inside[places.argmin()] = True
    return inside[codes]


def patients_within(patients: Sequence[str] | np.ndarray, limit: int, seed: int) -> np.ndarray:
    """As many whole patients as stay within ``limit`` images, in the order of a hash of (seed, patient): nested.

    Args:
        patients: (N,) patient of each image.
        limit: greatest number of images.
        seed: another seed, another draw.

    Returns:
        (N,) bool, the images of the patients that fit before the first one that does not.
    """
    codes, names = pd.factorize(np.asarray(patients, dtype=object), use_na_sentinel=False)
    order = np.argsort([_position(f"limit/{seed}/{name}") for name in names], kind="stable")
    fits = np.zeros(len(names), dtype=bool)
    fits[order] = np.bincount(codes, minlength=len(names))[order].cumsum() <= limit
    return fits[codes]


def _position(words: str) -> float:
    """A number in [0, 1) that follows from ``words`` alone."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64


def check_proportions(proportions: Sequence[float]) -> None:
    """Raise ConfigError unless there are three proportions, none negative, that sum to 1."""
    if len(proportions) != 3 or min(proportions) < 0 or abs(sum(proportions) - 1) > 1e-6:
        raise ConfigError(f"splits are three proportions (train, val, test) that sum to 1; got {tuple(proportions)}")


def check_patient_splits(table: pd.DataFrame) -> None:
    """Refuse a table in which a patient stands in two splits.

    Args:
        table: with columns ``patient`` (hashed) and ``split``; rows without either are ignored.

    Raises:
        RaddinoError: names the patients by hash and says how to mend it.
    """
    known = table[["patient", "split"]].dropna().drop_duplicates()
    torn = sorted(known.loc[known["patient"].duplicated(), "patient"].unique())
    if torn:
        more = f" and {len(torn) - SHOWN} more" if len(torn) > SHOWN else ""
        raise RaddinoError(
            f"{counted(len(torn), 'patient', 'stand')} in two splits: {', '.join(torn[:SHOWN])}{more} (keyed hashes). "
            "Results would be too good: give each patient one split in the manifest, or leave the column out with "
            "columns={'split': ''} to have patients split by hash; where two hospitals gave one number to two people, "
            "name the hospitals in a column namespace"
        )
