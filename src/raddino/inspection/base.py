"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from raddino.registry import Registry

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From what spoils a training or leaks a patient to what is worth knowing."""
Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels of the packed image."""
Value = float | int | str | bool | list | dict | None
"""What JSON holds; numbers are finite."""


@dataclass(frozen=True)
class Finding:
    """One thing that one check says of one image.

    Attributes:
        row: position in the table that the check judged.
        reason: machine-readable, small letters and hyphens, for example ``"turned-90"``; one of the check's reasons.
        probability: that it is so, calibrated; None where the check does not estimate one.
        said: more of it for a reader, in fixed words and numbers; nothing read from the image or its header.
        boxes: where in the image.
        partner: another row that belongs to it, for example a duplicate's first copy.
    """

    row: int
    reason: str
    probability: float | None = None
    said: str = ""
    boxes: tuple[Box, ...] = ()
    partner: int | None = None


class Check(Protocol):
    """One question asked of every image.

    Attributes:
        name: small letters; of the cache and of the columns in ``inspect.csv``.
        version: raised with every change of what :meth:`measure` gives, with the settings behind it where there are
            any; measures of other versions are made anew.
    """

    name: str

    @property
    def version(self) -> int | str:
        """See the class."""

    @property
    def reasons(self) -> Mapping[str, tuple[Severity, str]]:
        """What it can find, to its severity and a title for the page."""

    def measure(self, images: Sequence[np.ndarray]) -> list[dict[str, Value]]:
        """Of each image, (H, W) uint8 or uint16, what is kept; a function of that image alone."""

    def judge(self, manifest: pd.DataFrame, measures: pd.DataFrame) -> Iterable[Finding]:
        """What follows from all measures and from what the manifest says.

        Args:
            manifest: of one corpus or several, a row an image, with a column ``corpus`` (its number, from 0).
            measures: what :meth:`measure` gave, row by row beside it.
        """


CHECKS: Registry[Check] = Registry("check")


def register(check: Check) -> Check:
    """File a check under its name."""
    return CHECKS.register(check.name)(check)
