"""What is to be packed: a folder, a glob or a manifest, read to one table of canonical columns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from raddino.corpus.labels import label_columns, listed_labels, numeric_labels, snake_case
from raddino.corpus.splits import parse_splits
from raddino.corpus.where import query
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.images.facts import parse_age, parse_sex, parse_view, plausible
from raddino.images.mask_codes import CELL, split_cell

COLUMN_NAMES = {
    "path": ("path", "image_path", "file_path", "filepath", "filename", "image", "file", "image_index"),
    "id": ("id", "image_id", "sop_instance_uid"),
    "patient": ("patient_id", "patient", "patientid", "subject_id", "subject"),
    "study": ("study_id", "study", "studyid", "study_instance_uid"),
    "source": ("source", "dataset"),
    "namespace": ("namespace",),
    "split": ("split", "subset"),
    "view": ("view", "view_position", "viewposition", "projection"),
    "sex": ("sex", "gender", "patient_sex", "patient_gender"),
    "age": ("age", "patient_age"),
    "weight": ("weight", "weight_kg"),
    "bmi": ("bmi",),
    "report": ("report", "findings"),
    "impression": ("impression",),
    "indication": ("indication",),
    "comparison": ("comparison",),
    "study_order": ("study_order",),
    "licence": ("licence", "license"),
    "synthetic": ("synthetic",),
    "labels": ("labels", "finding_labels"),
}
CONTEXT = ("impression", "indication", "comparison", "study_order")
"""What is known around a report; the number counts a patient's studies from 0."""
TEXTS = ("report", *CONTEXT[:-1])
FACTS = ("view", "sex", "age", "weight", "bmi", "report", *CONTEXT, "licence")
WHOLE = re.compile(r"\d+\.0")
OWN_NAME = re.compile(r"label_[a-z0-9_]{1,60}|mask_[a-z0-9_]{1,40}")
IDENTIFIERS = ("path", "id", "patient", "study", "namespace")
DEFAULT_SOURCE = "local"
PROBED = 100


def read_items(
    images: str | Path,
    columns: dict[str, str] | None = None,
    source: str | None = None,
    where: str | None = None,
    exclude: Path | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """List what is to be packed.

    Args:
        images: a folder, a glob, or a ``.csv`` / ``.parquet`` manifest (a folder with ``manifest.csv`` is
            one).
        columns: ours to the manifest's column, e.g. ``{"patient": "PatientID", "label_covid": "covid19"}``;
            an empty value leaves a recognised column out.
        source: name of the data set for rows that have none.
        where: pandas query on the manifest's columns.
        exclude: folder not to look into (the output).

    Returns:
        A table with ``file`` (absolute path), ``name`` (what the image's hash is made of), raw ``patient``
        and ``study``, ``source``, ``namespace`` (None where not given), ``split``, facts, ``synthetic``,
        ``label_*``, ``mask_*`` (tuples of absolute paths and codes, see :mod:`raddino.images.mask_codes`); and the
        classes of each mask where the manifest has a ``mask_<name>_classes`` column.

    Raises:
        RaddinoError: nothing there, or paths that lead nowhere.
        ConfigError: a mapping or query that does not fit the manifest.
    """
    path = Path(images)
    if path.is_dir() and (path / "manifest.csv").is_file():
        path = path / "manifest.csv"
    if path.suffix.lower() in (".csv", ".parquet") and (path.is_file() or not glob.has_magic(str(images))):
        raw = _read_table(path, columns or {})
        if where is not None:
            raw = raw[query(raw, where)].reset_index(drop=True)
            if raw.empty:
                raise RaddinoError(f"no row of {path} satisfies where={where!r}")
        return _canonical(raw, path, columns or {}, source)
    if columns or where is not None:
        raise ConfigError("columns and where speak of a manifest; give a .csv or .parquet file")
    files = list(_find(str(images), exclude))
    if not files:
        raise RaddinoError(f"no file in {images}; give a folder, a glob like 'xrays/**/*.dcm', or a manifest")
    table = pd.DataFrame(files, columns=["file", "name"])
    table = table.assign(source=source or DEFAULT_SOURCE, synthetic=False)
    return table.assign(**dict.fromkeys(("patient", "study", "namespace", "split", *FACTS))), {}


def canonical_items(
    raw: pd.DataFrame, root: Path, columns: dict[str, str] | None = None, where: str | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """As :func:`read_items`, from a table in hand whose paths are relative to ``root``.

    Raises:
        RaddinoError: no row satisfies ``where``.
        ConfigError: a mapping or query that does not fit.
    """
    if where is not None:
        raw = raw[query(raw, where)].reset_index(drop=True)
        if raw.empty:
            raise RaddinoError(f"no row of {root} satisfies where={where!r}")
    return _canonical(raw, root, columns or {}, None, root.resolve())


def _find(images: str, exclude: Path | None) -> Iterator[tuple[str, str]]:
    """(absolute path, path below the root) of every regular file that is not hidden, in a fixed order."""
    if not os.path.isdir(images):
        parts = Path(images).parts
        magic = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        root = Path(*parts[:magic])
        for name in sorted(glob.glob(images, recursive=True)):
            if os.path.isfile(name):
                yield os.path.abspath(name), Path(name).relative_to(root).as_posix()
        return
    excluded = exclude.resolve() if exclude is not None else None
    for folder, below, names in os.walk(images):
        below[:] = sorted(name for name in below if name[0] != "." and Path(folder, name).resolve() != excluded)
        for name in sorted(names):
            path = Path(folder, name)
            if name[0] != "." and path.is_file():
                yield os.path.abspath(path), path.relative_to(images).as_posix()


def _read_table(path: Path, mapping: dict[str, str]) -> pd.DataFrame:
    """The manifest as it is, but identifiers as text: ``007`` and 18-digit numbers stay what they are."""
    if not path.is_file():
        raise RaddinoError(f"manifest {path} does not exist")
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            chosen = _recognise(pd.read_csv(path, nrows=0).columns, mapping)
            text = {chosen[name]: str for name in IDENTIFIERS if chosen.get(name)}
            table = pd.read_csv(path, low_memory=False, dtype=text)
    except ConfigError:
        raise
    except UnicodeDecodeError:
        raise RaddinoError(f"manifest {path} is not text in UTF-8: save it again in that encoding") from None
    except Exception as error:
        raise RaddinoError(f"manifest {path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if table.empty:
        raise RaddinoError(f"manifest {path} has no rows")
    return table.reset_index(drop=True)


def _canonical(
    raw: pd.DataFrame, path: Path, mapping: dict[str, str], source: str | None, base: Path | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    chosen = _choose(raw, mapping)
    if "path" not in chosen:
        raise ConfigError(
            f"manifest {path} has no column of image paths; map one with columns={{'path': …}}. "
            f"It has: {', '.join(map(str, raw.columns))}"
        )
    text = {name: _text(raw[column]) for name, column in chosen.items() if not name.startswith("label_")}
    empty = pd.Series(None, index=raw.index, dtype=object)
    base = base or _base_folder(text["path"], path)
    source_names = text.get("source", empty).fillna(source or DEFAULT_SOURCE)
    masks = {name: column for name, column in chosen.items() if name.startswith("mask_")}
    table = pd.DataFrame(
        {
            "file": _map(lambda name: str(base / name), text["path"].fillna("")),
            "name": text["id"].fillna(text["path"]) if "id" in text else text["path"],
            "patient": text.get("patient", empty),
            "study": text.get("study", empty),
            "source": source_names,
            "namespace": text.get("namespace", empty),
            "split": parse_splits(text["split"]) if "split" in text else empty,
            "view": _map(parse_view, text.get("view", empty)),
            "sex": _map(parse_sex, text.get("sex", empty)),
            "age": _map(parse_age, text.get("age", empty)),
            "weight": _map(lambda value: plausible(value, 0.3, 400), text.get("weight", empty)),
            "bmi": _map(lambda value: plausible(value, 5, 120), text.get("bmi", empty)),
            **{name: text.get(name, empty) for name in ("report", *CONTEXT[:-1])},
            "study_order": _map(lambda value: plausible(value, 0, 10_000), text.get("study_order", empty)),
            "licence": text.get("licence", empty),
            "synthetic": text.get("synthetic", empty).isin(["True", "true", "1"]),
            **{name: _map(lambda cell: cell and split_cell(cell, base), text[name]) for name in masks},
        }
    )
    return pd.concat([table, _labels(raw, chosen, source_names)], axis=1), _mask_classes(raw, masks)


def _recognise(columns: pd.Index, mapping: dict[str, str]) -> dict[str, str]:
    """Our name to the manifest's column: recognised names first, then the user's mapping over them.

    A column left out maps to an empty string.
    """
    by_name = {snake_case(str(column)): str(column) for column in reversed(columns)}
    chosen = {
        ours: by_name[known] for ours, names in COLUMN_NAMES.items() for known in reversed(names) if known in by_name
    }
    for ours, column in mapping.items():
        if ours not in COLUMN_NAMES and not OWN_NAME.fullmatch(ours):
            known = [*COLUMN_NAMES, "label_…", "mask_…"]
            hint = did_you_mean(ours, known)
            raise ConfigError(f"columns: {ours!r} is not one of ours.{hint} Ours: {', '.join(known)}")
        if column and column not in columns:
            raise ConfigError(f"the manifest has no column {column!r}.{did_you_mean(column, columns)}")
    return {**chosen, **mapping}


def _choose(raw: pd.DataFrame, mapping: dict[str, str]) -> dict[str, str]:
    """:func:`_recognise` with the columns that hold labels or masks."""
    chosen = _recognise(raw.columns, mapping)
    sources = raw[chosen["source"]].dropna().astype(str).unique().tolist() if chosen.get("source") else []
    columns = [str(column) for column in raw.columns]
    found = label_columns(columns, sources)
    for column in (name for name in columns if name.lower().startswith("mask_")):
        if raw[column].dropna().astype(str).str.fullmatch(CELL).all():
            found[snake_case(column)] = column
    for ours, column in found.items():
        if not OWN_NAME.fullmatch(ours):
            raise ConfigError(f"the name of column {column!r} is too long for a label or mask; map it to another")
    return {ours: column for ours, column in {**found, **chosen}.items() if column}


def _text(values: pd.Series) -> pd.Series:
    """Strings with None for what is empty; whole numbers without the ``.0`` that tables put behind them."""

    def clean(value: Any) -> str | None:
        text = "" if pd.isna(value) else str(value).strip()
        return (text[:-2] if WHOLE.fullmatch(text) else text) or None

    return _map(clean, values)


def _map(function: Callable[[Any], Any], values: pd.Series) -> pd.Series:
    """``values.map`` that keeps None as None."""
    return pd.Series([function(value) for value in values], index=values.index, dtype=object)


def _base_folder(paths: pd.Series, manifest: Path) -> Path:
    """The folder that paths are relative to: the manifest's own, its parent, or its parent's parent."""
    folder = manifest.resolve().parent
    candidates = [folder, folder.parent, folder.parent.parent]
    first = paths.dropna().head(PROBED).tolist()
    found = {base: sum(os.path.isfile(base / name) for name in first) for base in candidates}
    best = max(candidates, key=lambda base: found[base])
    if not found[best]:
        example = first[0] if first else "(empty)"
        raise RaddinoError(
            f"none of the first {len(first)} paths of {manifest} leads to a file (the first: {example}); "
            f"tried as they are and relative to {', '.join(map(str, candidates))}"
        )
    return best


def _labels(raw: pd.DataFrame, chosen: dict[str, str], sources: pd.Series) -> pd.DataFrame:
    """Numeric label columns, completed by the listed ones; a number given for a row wins over the list."""
    numeric = {
        name: numeric_labels(raw[column], column) for name, column in chosen.items() if name.startswith("label_")
    }
    table = pd.DataFrame(numeric, index=raw.index)
    if "labels" in chosen:
        for name, values in listed_labels(raw[chosen["labels"]], sources).items():
            table[name] = table[name].fillna(values) if name in table else values
    return table


def _mask_classes(raw: pd.DataFrame, masks: dict[str, str]) -> dict[str, str]:
    """What ``mask_<name>_classes`` says (for example a bit field's order), where it says one thing."""
    classes = {}
    for name, column in masks.items():
        values = raw[f"{column}_classes"].dropna().unique() if f"{column}_classes" in raw else []
        if len(values) == 1:
            classes[name.removeprefix("mask_")] = str(values[0])
    return classes
