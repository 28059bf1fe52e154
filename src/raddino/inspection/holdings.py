"""What an archive holds: counts, sizes, views, people, labels, what is missing and how grey it is, group by group.

Groups are those of the sources, splits, machines and years; nothing in a table is finer than a count of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
CONTRADICTORY = "contradictory"
HASH_SHOWN = 8
MEBIBYTE = 2**20
WIDEST = 2**32
"""Beyond any width."""
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
    counted, grey = _counted(frame), (measures or {}).get("intensity")
    tables: dict[str, list[pd.DataFrame]] = {}
    for by in ("all", *present(frame, GROUPED)):
        codes, names = (np.zeros(len(frame), np.int64), np.array(["all"])) if by == "all" else _grouped(frame, by)
        for name, table in _tables_of(counted, pd.Series(codes, name="group"), grey).items():
            table["group"] = names[table["group"]]
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
    codes, names = _grouped(manifest, by)
    return names[codes]


def patients_of(manifest: pd.DataFrame) -> np.ndarray:
    """(N,) number of each image's patient, in the order of their names; an image without one is its own."""
    whose = manifest["patient"].fillna(manifest["id"]) if "id" in manifest else manifest["patient"]
    return pd.factorize(whose.astype(str), sort=True)[0]


def _grouped(manifest: pd.DataFrame, by: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) number of each image's group by one column, and the groups' names, sorted."""
    codes, values = pd.factorize(manifest[by])
    codes = np.where(codes < 0, len(values), codes)
    named = np.array([*(_named(by, value) for value in values), UNKNOWN], dtype=object)
    sizes: Counter[str] = Counter()
    for name, images in zip(named, np.bincount(codes, minlength=len(named)), strict=True):
        sizes[name] += int(images)
    known = sorted(sizes.keys() - {UNKNOWN}, key=lambda name: (-sizes[name], name))
    if len(known) > MOST_GROUPS:
        kept = {*known[: MOST_GROUPS - 1], UNKNOWN}
        named = np.array([name if name in kept else THE_REST for name in named], dtype=object)
    names, places = np.unique(named.astype(str), return_inverse=True)
    return places[codes], names.astype(object)


def _named(by: str, value: object) -> str:
    if by == "corpus":
        return f"corpus {value + 1}"  # type: ignore[operator]
    if by == "portable":
        return {1: "portable", 0: "not portable"}.get(value, UNKNOWN)  # type: ignore[call-overload]
    if by == "station" and value != "":
        return f"station {str(value)[:HASH_SHOWN]}"
    return str(value) or UNKNOWN


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


@dataclass(frozen=True)
class _Counted:
    """Columns (N,) of a manifest as they are counted: names as numbers, NaN where there is none.

    Attributes:
        sexes: names of ``sex``, then the unknown and the contradictory one.
        numbers: by column, where any is known.
        known, positive: of each label.
        absent: of each fact.
    """

    patients: pd.Series
    studies: pd.Series
    length: pd.Series
    width: pd.Series
    height: pd.Series
    view: pd.Series | None
    sex: pd.Series | None
    sexes: np.ndarray
    age: pd.Series | None
    numbers: dict[str, pd.Series]
    known: pd.DataFrame
    positive: pd.DataFrame
    absent: pd.DataFrame


def _tables_of(frame: _Counted, groups: pd.Series, grey: pd.DataFrame | None) -> Tables:
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


def _counted(frame: pd.DataFrame) -> _Counted:
    """What every grouping counts, looked up once."""
    sexes = np.array([], dtype=object)
    sex = age = None
    if {"sex", "age"} & set(frame):
        codes, sexes = pd.factorize(frame.get("sex", pd.Series(None, frame.index, dtype=object)))
        sex = pd.Series(codes.astype(np.float64)).where(codes >= 0)
        age = pd.to_numeric(frame.get("age", pd.Series(np.nan, frame.index)), errors="coerce").astype(np.float64)
    numbers = {name: pd.to_numeric(frame[name], errors="coerce") for name in NUMBERS if name in frame}
    if "age" in numbers:
        numbers["age"] = numbers["age"].clip(upper=OLDEST)
    labels = frame[[name for name in frame if name.startswith("label_")]].apply(pd.to_numeric, errors="coerce")
    labels.columns = labels.columns.str.removeprefix("label_")
    studies = pd.factorize(frame["study"])[0] if "study" in frame else np.full(len(frame), -1)
    return _Counted(
        patients=pd.Series(patients_of(frame)),
        studies=pd.Series(studies).where(studies >= 0),
        length=frame["length"],
        width=frame["width"],
        height=frame["height"],
        view=frame["view"].astype(object).where(frame["view"].notna(), UNKNOWN) if "view" in frame else None,
        sex=sex,
        sexes=np.array([*sexes, UNKNOWN, CONTRADICTORY], dtype=object),
        age=age,
        numbers={name: values for name, values in numbers.items() if values.notna().any()},
        known=labels.notna(),
        positive=labels >= PRESENT,
        absent=pd.DataFrame({name: frame[name].isna() | (frame[name] == "") for name in FACTS if name in frame}),
    )


def _counts(frame: _Counted, groups: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame({"images": groups.groupby(groups).size()})
    table["patients"] = frame.patients.groupby(groups).nunique()
    studies = frame.studies.groupby(groups).nunique()
    table["studies"] = studies.astype(object).where(studies > 0, None)
    table["mebibytes"] = (frame.length.groupby(groups).sum() / MEBIBYTE).round(2)
    return table.sort_values("images", ascending=False, kind="stable").reset_index(names="group")


def _sizes(frame: _Counted, groups: pd.Series) -> pd.DataFrame:
    table = pd.DataFrame(index=pd.Index(sorted(groups.unique()), name="group"))
    for name, sides in (("width", frame.width), ("height", frame.height)):
        for what in ("min", "median", "max"):
            table[f"{name}_{what}"] = sides.groupby(groups).agg(what)
    table["aspect"] = (frame.width / frame.height).groupby(groups).median().round(4)
    table["shapes"] = (frame.height.astype(np.int64) * WIDEST + frame.width).groupby(groups).nunique()
    return table.reset_index()


def _views(frame: _Counted, groups: pd.Series) -> pd.DataFrame | None:
    if frame.view is None:
        return None
    return groups.groupby([groups, frame.view.rename("view")]).size().rename("images").reset_index()


def _people(frame: _Counted, groups: pd.Series) -> pd.DataFrame | None:
    if frame.sex is None or frame.age is None:
        return None
    keys = [groups, frame.patients.rename("patient")]
    by_sex = frame.sex.groupby(keys)
    least, unknown = by_sex.min(), len(frame.sexes) - 2
    sex = least.where(least == by_sex.max(), unknown + 1).where(least.notna(), unknown).astype(np.int64)
    age = frame.age.groupby(keys).min()
    band = (age.clip(0, OLDEST) // 10).fillna(len(DECADES)).astype(np.int64)
    table = pd.DataFrame({"sex": sex, "order": band}).groupby(["group", "sex", "order"]).size().rename("patients")
    table = table.reset_index()
    table["sex"], table["age"] = frame.sexes[table["sex"]], np.array([*DECADES, UNKNOWN])[table["order"]]
    return table.sort_values(["group", "sex", "order"], ignore_index=True)[["group", "sex", "age", "patients"]]


def _numbers(frame: _Counted, groups: pd.Series) -> pd.DataFrame | None:
    parts = []
    for name, values in frame.numbers.items():
        by_group = values.groupby(groups)
        table = by_group.quantile([0.25, 0.5, 0.75]).unstack().set_axis(["q1", "median", "q3"], axis=1).round(2)
        table.insert(0, "known", by_group.count())
        table.insert(0, "column", name)
        parts.append(table[table["known"] > 0].reset_index(names="group"))
    return pd.concat(parts, ignore_index=True) if parts else None


def _labels(frame: _Counted, groups: pd.Series) -> pd.DataFrame | None:
    if not len(frame.known.columns):
        return None
    known, positive = frame.known.groupby(groups).sum(), frame.positive.groupby(groups).sum()
    table = pd.DataFrame({"known": known.stack(), "positive": positive.stack()})
    table = table[table["known"] > 0].rename_axis(["group", "label"]).reset_index()
    table["prevalence"] = (table["positive"] / table["known"]).round(5)
    return table


def _missing(frame: _Counted, groups: pd.Series) -> pd.DataFrame | None:
    if not len(frame.absent.columns):
        return None
    counts = frame.absent.groupby(groups).sum()
    table = counts.stack().rename("missing").rename_axis(["group", "column"]).reset_index()
    table.insert(2, "images", table["group"].map(groups.value_counts()))
    return table


def _greys(grey: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    table = grey[["mean", "std", "entropy"]].groupby(groups.to_numpy()).mean().round(5)
    bins = pd.DataFrame(np.stack(grey["histogram"].tolist())).groupby(groups.to_numpy()).mean().round(6)
    table["histogram"] = bins.to_numpy().tolist()
    return table.reset_index(names="group")
