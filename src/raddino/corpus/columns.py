"""Which column of other people's tables says what, and which ones look as if they did and are not taken."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from raddino.corpus.cells import distinct, shown
from raddino.corpus.labels import is_label_cell, label_columns, snake_case, some
from raddino.corpus.mask_columns import is_mask_column, looks_like_masks
from raddino.errors import ConfigError, did_you_mean

COLUMN_NAMES = {
    "path": ("path", "image_path", "file_path", "filepath", "filename", "image", "file", "image_index"),
    "id": ("id", "image_id", "sop_instance_uid"),
    "patient": ("patient_id", "patient", "patientid", "subject_id", "subject"),
    "study": ("study_id", "study", "studyid", "study_instance_uid"),
    "source": ("source", "dataset"),
    "namespace": ("namespace",),
    "split": ("split", "subset"),
    "excluded": ("excluded", "exclude"),
    "view": ("view", "view_position", "viewposition", "projection"),
    "sex": ("sex", "gender", "patient_sex", "patient_gender"),
    "age": ("age", "patient_age"),
    "weight": ("weight", "weight_kg"),
    "bmi": ("bmi",),
    "manufacturer": ("manufacturer",),
    "model": ("manufacturer_model_name", "manufacturermodelname", "model"),
    "station": ("station_name", "stationname", "station"),
    "detector": ("detector_type", "detectortype", "detector"),
    "kvp": ("kvp",),
    "exposure_index": ("exposure_index", "exposureindex"),
    "portable": ("portable",),
    "year_band": ("year_band", "study_year", "study_date", "studydate"),
    "patient_position": ("patient_position", "patientposition"),
    "report": ("report", "findings"),
    "impression": ("impression",),
    "indication": ("indication",),
    "comparison": ("comparison",),
    "study_order": ("study_order",),
    "licence": ("licence", "license"),
    "synthetic": ("synthetic",),
    "labels": ("labels", "finding_labels"),
}
KNOWN = frozenset(name for names in COLUMN_NAMES.values() for name in names)
OWN_NAME = re.compile(r"label_[a-z0-9_]{1,60}|mask_[a-z0-9_]{1,40}")
LIKE_LABELS = frozenset(("label", "target", "class", "diagnosis", "diagnoses", "finding", "pathology", "disease"))
PROBED = 1000


def recognise(columns: Iterable[str], mapping: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Our name to the manifest's column: recognised names, and the user's mapping before them.

    A column left out maps to an empty string.

    Returns:
        the columns; and what a user has to know of those that say the same as another.

    Raises:
        ConfigError: a mapping that fits neither our names nor the manifest's, or two columns of one name.
    """
    columns = list(columns)
    for ours, column in mapping.items():
        if ours not in COLUMN_NAMES and not OWN_NAME.fullmatch(ours):
            known = [*COLUMN_NAMES, "label_…", "mask_…"]
            raise ConfigError(
                f"columns: {ours!r} is not one of ours.{did_you_mean(ours, known)} Ours: {', '.join(known)}"
            )
        if column and column not in columns:
            raise ConfigError(f"the manifest has no column {column!r}.{did_you_mean(column, columns)}")
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(snake_case(column), []).append(column)
    chosen, second = dict(mapping), []
    for ours, names in COLUMN_NAMES.items():
        having = [by_name[name] for name in names if name in by_name]
        if ours in mapping or not having:
            continue
        chosen[ours] = _single(ours, having[0])
        mapped = set(mapping.values())
        second += [f"{shown(column)} ({ours})" for found in having[1:] for column in found if column not in mapped]
    notes = [f"columns not taken, for another one says the same: {some(second)}"] if second else []
    return chosen, notes


def choose(raw: pd.DataFrame, mapping: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """:func:`recognise` with the columns that hold labels or masks, and those that look like them and are not taken."""
    chosen, notes = recognise(raw.columns, mapping)
    sources = raw[chosen["source"]].dropna().astype(str).unique().tolist() if chosen.get("source") else []
    free = [column for column in raw.columns if column not in chosen.values()]
    found = label_columns(free, sources)
    named = {snake_case(column) for column in free}
    masks = [column for column in free if snake_case(column).startswith("mask_") and not _describes(column, named)]
    taken = [column for column in masks if is_mask_column(raw[column], column)]
    for column in taken:
        found.setdefault(snake_case(column), []).append(column)
    for ours, columns in found.items():
        if not OWN_NAME.fullmatch(ours):
            raise ConfigError(
                f"the name of column {shown(columns[0])} is too long for a label or mask; map it to another"
            )
        if ours not in mapping:
            chosen[ours] = _single(ours, columns)
    free = [column for column in free if column not in chosen.values() and not _dropped(column, found, mapping)]
    notes += _not_taken(raw, free, taken)
    return {ours: column for ours, column in chosen.items() if column}, notes


def _describes(column: str, named: set[str]) -> bool:
    """Whether a column tells of the masks in another."""
    name = snake_case(column)
    return any(name.endswith(end) and name.removesuffix(end) in named for end in ("_classes", "_convention"))


def _single(ours: str, columns: list[str]) -> str:
    if len(columns) > 1:
        raise ConfigError(
            f"columns {' and '.join(map(shown, columns[:2]))} both mean {ours}: choose one with --column {ours}=COLUMN"
        )
    return columns[0]


def _dropped(column: str, found: dict[str, list[str]], mapping: dict[str, str]) -> bool:
    """Whether the user's mapping left the column out on purpose."""
    return any(mapping.get(ours) == "" and column in columns for ours, columns in found.items()) or any(
        mapping.get(ours) == "" and snake_case(column) in names for ours, names in COLUMN_NAMES.items()
    )


def _not_taken(raw: pd.DataFrame, free: list[str], masks: list[str]) -> list[str]:
    """Columns without a use that look like labels or masks."""
    nested = [column for column in free if _is_nested(raw[column])]
    free = [column for column in free if column not in nested]
    labels = [shown(column) for column in free if _looks_like_labels(raw[column], column)]
    notes = []
    if nested:
        notes.append(f"columns of lists or records are not taken: {some(map(shown, nested))}")
    if labels:
        notes.append(
            f"columns that look like labels and are not taken: {some(labels)}; take one with --column label_NAME=COLUMN"
        )
    for column in free:
        beside = any(column.startswith(f"{mask}_") for mask in masks)
        if why := looks_like_masks(raw[column], column, snake_case(column), beside):
            notes.append(f"column {shown(column)} looks like masks and is not taken: {why}")
    return notes


def _is_nested(values: pd.Series) -> bool:
    return values.dtype == object and isinstance(next(iter(values.dropna()), None), list | tuple | dict | np.ndarray)


def _looks_like_labels(values: pd.Series, column: str) -> bool:
    if snake_case(column) in LIKE_LABELS:
        return bool(values.notna().any())
    _, first = distinct(values.dropna().head(PROBED), column)
    if not first or not all(map(is_label_cell, first)):
        return False
    return all(map(is_label_cell, distinct(values, column)[1]))
