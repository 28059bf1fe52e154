"""What an archive holds: counts, sizes, views, people, labels, what is missing and how grey it is, group by group.

Groups are those of the sources, splits, machines and years; nothing in a table is finer than a count of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from raddino.files import write_json

if TYPE_CHECKING:
    from raddino.inspection.drift import Told

GROUPED = (
    "source", "corpus", "split", "manufacturer", "model", "station", "detector", "portable", "patient_position",
    "year_band",
)  # fmt: skip
"""Columns whose values are compared, where a manifest has them."""
FACTS = (
    "study", "view", "sex", "age", "weight", "bmi", "report", "manufacturer", "model", "station", "detector", "kvp",
    "exposure_index", "portable", "patient_position", "year_band", "licence",
)  # fmt: skip
"""Columns of which it is said on how many images they are not known."""
NUMBERS = ("age", "weight", "bmi", "kvp", "exposure_index")
MOST_GROUPS, THE_REST, UNKNOWN = 12, "all others", "unknown"
"""The smallest groups beyond so many are one; an image without a value is in the last."""
OLDEST = 90
"""Years; from here on ages are not told apart."""
DECADES = (*(f"{start}-{start + 9}" for start in range(0, OLDEST, 10)), f"{OLDEST}+")
PRESENT = 0.5
HASH_SHOWN = 8
MEBIBYTE = 2**20
Tables = dict[str, pd.DataFrame]


def holdings(manifest: pd.DataFrame, measures: Mapping[str, pd.DataFrame] | None = None) -> Tables:
    """Tables with columns ``by`` (of :data:`GROUPED`, or ``"all"``) and ``group`` (its value), then:

    * ``counts``: ``images``, ``patients``, ``studies`` (None where no study is known) and ``mebibytes`` of the packed
      images;
    * ``sizes``: pixels of the packed images: least, median and greatest ``width`` and ``height``, median ``aspect``
      (width over height), and how many different ``shapes``;
    * ``views``: ``view`` and ``images``;
    * ``people``: patients by ``sex`` (F, M, ``unknown``, or ``contradictory`` where a patient's images disagree) and
      ``age`` (decade, ``90+`` or ``unknown``), the least of a patient's ages;
    * ``numbers``: ``column`` of :data:`NUMBERS`, images on which it is ``known``, quartiles ``q1``, ``median``, ``q3``;
      ages above 90 count as 90;
    * ``labels``: ``label``, images on which it is ``known`` and on which it is ``positive`` (at least 0.5), and the
      ``prevalence`` among the known;
    * ``missing``: ``column`` of :data:`FACTS`, ``images`` and on how many it is ``missing``; columns that the manifest
      lacks are left out;
    * ``greys``: means over images of ``mean``, ``std``, ``entropy`` and of each bin of the ``histogram``, where the
      check ``intensity`` was made.

    Args:
        manifest: a row an image, with ``source``, ``split``, ``patient``, ``height``, ``width`` and ``length``, and of
            several corpora with ``corpus`` (their numbers, from 0).
        measures: as :attr:`raddino.inspection.inspect.Inspection.measures`.
    """
    frame = manifest.reset_index(drop=True)
    grey = (measures or {}).get("intensity")
    tables: dict[str, list[pd.DataFrame]] = {}
    for by in ("all", *present(frame, GROUPED)):
        groups = pd.Series("all", frame.index) if by == "all" else pd.Series(groups_of(frame, by), frame.index)
        for name, table in _tables_of(frame, groups.rename("group"), grey).items():
            table.insert(0, "by", by)
            tables.setdefault(name, []).append(table)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def present(manifest: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those columns of ``names`` that say something; corpora only where they are not the sources."""
    known = [name for name in names if name in manifest and manifest[name].notna().any()]
    if "corpus" in known:
        pairs, corpora = manifest[["corpus", "source"]].drop_duplicates(), manifest["corpus"].nunique()
        if corpora == 1 or len(pairs) == corpora == manifest["source"].nunique():
            known.remove("corpus")
    return known


def groups_of(manifest: pd.DataFrame, by: str) -> np.ndarray:
    """(N,) name of each image's group by one column; hashes are cut, and the smallest groups are one."""
    values = manifest[by]
    if by == "corpus":
        values = "corpus " + (values + 1).astype(str)
    if by == "portable":
        values = values.map({1: "portable", 0: "not portable"})
    named = values.astype(object).where(values.notna() & (values != ""), UNKNOWN).astype(str)
    if by == "station":
        named = named.where(named == UNKNOWN, "station " + named.str[:HASH_SHOWN])
    sizes = named[named != UNKNOWN].value_counts()
    if len(sizes) > MOST_GROUPS:
        kept = sorted(sizes.index, key=lambda name: (-sizes[name], name))[: MOST_GROUPS - 1]
        named = named.where(named.isin([*kept, UNKNOWN]), THE_REST)
    return named.to_numpy()


def write_holdings(path: Path, tables: Tables, told: list[Told] | None = None) -> Path:
    """Write the tables, a list of rows each, and what tells groups apart (``drift``, None where it was not asked)."""
    held: dict[str, Any] = {name: _plain(table) for name, table in tables.items()}
    write_json(path, {"holdings": held, "drift": None if told is None else [one.row() for one in told]})
    return path


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


def _tables_of(frame: pd.DataFrame, groups: pd.Series, grey: pd.DataFrame | None) -> Tables:
    tables = {
        "counts": _counts(frame, groups),
        "sizes": _sizes(frame, groups),
        "views": _views(frame, groups),
        "people": _people(frame, groups),
        "numbers": _numbers(frame, groups),
        "labels": _labels(frame, groups),
        "missing": _missing(frame, groups),
    }
    if grey is not None:
        tables["greys"] = _greys(grey, groups)
    return {name: table for name, table in tables.items() if table is not None}


def _counts(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    whose = frame["patient"].fillna(frame["id"]) if "id" in frame else frame["patient"]
    table = pd.DataFrame({"images": groups.groupby(groups).size(), "patients": whose.groupby(groups).nunique()})
    studies = frame["study"].groupby(groups).nunique() if "study" in frame else pd.Series(0, table.index)
    table["studies"] = studies.astype(object).where(studies > 0, None)
    table["mebibytes"] = (frame["length"].groupby(groups).sum() / MEBIBYTE).round(2)
    return table.sort_values("images", ascending=False, kind="stable").reset_index(names="group")


def _sizes(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame(index=pd.Index(sorted(groups.unique()), name="group"))
    for name in ("width", "height"):
        for what in ("min", "median", "max"):
            table[f"{name}_{what}"] = frame[name].groupby(groups).agg(what)
    table["aspect"] = (frame["width"] / frame["height"]).groupby(groups).median().round(4)
    table["shapes"] = (frame["height"].astype(str) + "x" + frame["width"].astype(str)).groupby(groups).nunique()
    return table.reset_index()


def _views(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame | None:
    if "view" not in frame:
        return None
    views = frame["view"].astype(object).where(frame["view"].notna(), UNKNOWN)
    return groups.groupby([groups, views.rename("view")]).size().rename("images").reset_index()


def _people(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame | None:
    if not {"sex", "age"} & set(frame):
        return None
    keys = [groups, frame["patient"].fillna(frame["id"]) if "id" in frame else frame["patient"]]
    empty = pd.Series(None, frame.index, dtype=object)
    by_sex = frame.get("sex", empty).groupby(keys)
    sex = by_sex.first().where(by_sex.nunique() < 2, "contradictory").fillna(UNKNOWN)
    age = pd.to_numeric(frame.get("age", empty), errors="coerce").groupby(keys).min()
    band = (age.clip(0, OLDEST) // 10).map(dict(enumerate(DECADES))).fillna(UNKNOWN)
    people = pd.DataFrame({"sex": sex, "age": band}).reset_index()
    table = people.groupby(["group", "sex", "age"]).size().rename("patients").reset_index()
    order = table["age"].map({band: place for place, band in enumerate((*DECADES, UNKNOWN))})
    return table.assign(order=order).sort_values(["group", "sex", "order"]).drop(columns="order").reset_index(drop=True)


def _numbers(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame | None:
    parts = []
    for name in NUMBERS:
        if name not in frame or not frame[name].notna().any():
            continue
        values = pd.to_numeric(frame[name], errors="coerce")
        by_group = (values.clip(upper=OLDEST) if name == "age" else values).groupby(groups)
        table = by_group.quantile([0.25, 0.5, 0.75]).unstack().set_axis(["q1", "median", "q3"], axis=1).round(2)
        table.insert(0, "known", by_group.count())
        table.insert(0, "column", name)
        parts.append(table[table["known"] > 0].reset_index(names="group"))
    return pd.concat(parts, ignore_index=True) if parts else None


def _labels(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame | None:
    names = [name for name in frame if name.startswith("label_")]
    if not names:
        return None
    values = frame[names].apply(pd.to_numeric, errors="coerce")
    known, positive = values.notna().groupby(groups).sum(), (values >= PRESENT).groupby(groups).sum()
    table = pd.DataFrame({"known": known.stack(), "positive": positive.stack()})
    table = table[table["known"] > 0].rename_axis(["group", "label"]).reset_index()
    table["label"] = table["label"].str.removeprefix("label_")
    table["prevalence"] = (table["positive"] / table["known"]).round(5)
    return table


def _missing(frame: pd.DataFrame, groups: pd.Series) -> pd.DataFrame | None:
    names = [name for name in FACTS if name in frame]
    if not names:
        return None
    absent = frame[names].isna() | (frame[names] == "")
    counted = absent.groupby(groups).sum()
    table = counted.stack().rename("missing").rename_axis(["group", "column"]).reset_index()
    table.insert(2, "images", table["group"].map(groups.value_counts()))
    return table


def _greys(grey: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    table = grey[["mean", "std", "entropy"]].groupby(groups.to_numpy()).mean().round(5)
    bins = pd.DataFrame(np.stack(grey["histogram"].tolist())).groupby(groups.to_numpy()).mean().round(6)
    table["histogram"] = bins.to_numpy().tolist()
    return table.reset_index(names="group")
