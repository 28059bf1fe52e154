"""Manifest columns as targets of guides: classes or standardised numbers, and how much each image counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from torch import Tensor

from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.images.acquisition import ACQUISITION
from raddino.ssl import SslConfig
from raddino.ssl.guides import Guide

MOST_CLASSES = 100
HEAVIEST = 10.0
"""Weight of an image above which no rarity lifts it: a few images would steer whole steps."""
COLUMNS = frozenset(("source", "view", "sex", "age", "weight", "bmi", "synthetic", *ACQUISITION))
"""What may guide, beside labels: nothing that names a person or an image."""


@dataclass(frozen=True)
class Scale:
    """How a column's values become targets, as ``environment.json`` keeps it.

    Attributes:
        classes: their names, in the order of their numbers; empty for numbers.
        mean, sd: of numbers; 0 and 1 for classes.
    """

    classes: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    @classmethod
    def of(cls, values: pd.Series, column: str) -> Scale:
        """That of the training images' values; text, flags and numbers of two values are classes.

        Raises:
            ConfigError: nothing is known, all is the same, or there are more than :data:`MOST_CLASSES` classes.
        """
        known = values.dropna()
        different = known.nunique()
        if different < 2:
            said = "is the same in" if different else "is absent from"
            raise ConfigError(f"ssl.guides: column {column} {said} all training images: leave it out")
        if is_numeric_dtype(known) and not is_bool_dtype(known) and different > 2:
            numbers = known.to_numpy(np.float64)
            if not np.isfinite(numbers).all() or not numbers.std() > 0:
                raise ConfigError(f"ssl.guides: column {column} holds numbers without a spread: leave it out")
            return cls(mean=float(numbers.mean()), sd=float(numbers.std()))
        if different > MOST_CLASSES:
            raise ConfigError(
                f"ssl.guides: column {column} has {different} values, more than {MOST_CLASSES} classes: choose a "
                "coarser column, or leave it out"
            )
        return cls(tuple(sorted(map(_word, known.unique()))))

    @classmethod
    def from_dict(cls, told: Any) -> Scale:
        """What ``asdict`` gave, read back.

        Raises:
            ValueError: it is not that.
        """
        classes, mean, sd = told["classes"], float(told["mean"]), float(told["sd"])
        if not all(isinstance(one, str) for one in classes) or not np.isfinite([mean, sd]).all() or sd <= 0:
            raise ValueError
        return cls(tuple(classes), mean, sd)

    def targets(self, values: pd.Series) -> np.ndarray:
        """(N,) class numbers or standardised numbers; NaN where the value is absent, or is no class of these."""
        if not self.classes:
            return (values.to_numpy(np.float64) - self.mean) / self.sd
        numbers = {name: float(number) for number, name in enumerate(self.classes)}
        codes, different = pd.factorize(values)  # absent ones are -1, the last
        return np.array([*(numbers.get(_word(value), np.nan) for value in different), np.nan])[codes]


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def scales(corpus: Corpus, rows: np.ndarray, ssl: SslConfig, recorded: Mapping[str, Any]) -> dict[str, Scale]:
    """How each guide's column is read: as recorded, so that a run's heads keep their meaning; else by its rows.

    Args:
        corpus, rows: what is trained on.
        ssl: names the columns.
        recorded: ``guides`` of the run's ``environment.json``; empty for a new run.

    Raises:
        ConfigError: a column is absent, names persons or images, or tells nothing; one line with the remedy.
        RaddinoError: what is recorded is damaged.
    """
    found = {}
    for column, _ in ssl.guides:
        values = _column(corpus, column).iloc[rows]
        found[column] = _recorded(recorded[column]) if column in recorded else Scale.of(values, column)
        if pd.Series(found[column].targets(values)).nunique() < 2:
            raise ConfigError(
                f"ssl.guides: of what the run knows of column {column}, these images hold less than two values: leave "
                "it out, or give another --out"
            )
    return found


def _recorded(told: Any) -> Scale:
    try:
        return Scale.from_dict(told)
    except (KeyError, TypeError, ValueError):
        raise RaddinoError("environment.json is damaged in 'guides': restore it, or give another --out") from None


def _column(corpus: Corpus, column: str) -> pd.Series:
    manifest = corpus.manifest
    known = sorted(name for name in manifest if name in COLUMNS or str(name).startswith("label_"))
    if column not in known:
        why = "names persons or images" if column in manifest else "is no column of the corpus"
        raise ConfigError(
            f"ssl.guides: {column!r} {why}.{did_you_mean(column, known)} Columns that may guide: {', '.join(known)}."
        )
    return manifest[column]


def guides(ssl: SslConfig, found: Mapping[str, Scale]) -> list[Guide]:
    """The heads that a student needs."""
    return [Guide(name, what == "keep", max(len(found[name].classes), 1)) for name, what in ssl.guides]


def targets(corpus: Corpus, rows: np.ndarray, found: Mapping[str, Scale]) -> Tensor:
    """(len(corpus), G, 2) float32: targets, and weights that are 0 where nothing is known.

    Each class of a column weighs the same over ``rows``, and each column as much as there are images, so that a rare
    class or value is not drowned and a column half known is not half as loud; but no image more than
    :data:`HEAVIEST`. With classes weighted alike a head that knows nothing has the loss ln(classes), whatever
    their shares.
    """
    table = np.zeros((len(corpus), len(found), 2), dtype=np.float32)
    for at, (column, scale) in enumerate(found.items()):
        values = scale.targets(corpus.manifest[column])
        known = ~np.isnan(values)
        kinds = np.where(known, values if scale.classes else 0, 0).astype(int)
        counts = np.bincount(kinds[rows][known[rows]], minlength=max(len(scale.classes), 1))
        weights = len(rows) / ((counts > 0).sum() * counts.clip(min=1))
        table[:, at, 0] = np.where(known, values, 0)
        table[:, at, 1] = np.where(known, weights[kinds].clip(max=HEAVIEST), 0)
    return torch.from_numpy(table)


def record(found: Mapping[str, Scale]) -> dict[str, Any]:
    """What ``environment.json`` keeps of them; nothing without guides."""
    return {"guides": {name: asdict(scale) for name, scale in found.items()}} if found else {}


def summary(found: Mapping[str, Scale], ssl: SslConfig) -> str:
    """One line on what guides a run, without a value of the corpus."""
    kinds = {name: f"{len(scale.classes)} classes" if scale.classes else "a number" for name, scale in found.items()}
    return f"guided by {', '.join(f'{name} ({kinds[name]}: {what})' for name, what in ssl.guides)}"
