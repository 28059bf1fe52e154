"""Label columns of a manifest, of whatever kind, to ``label_<name>`` with 1, 0 and NaN (not known)."""

import re

import numpy as np
import pandas as pd

from raddino.errors import ConfigError

LISTED = re.compile(r"[|,;]")
UNLABELLED = {"", "todo", "unknown"}


def snake_case(name: str) -> str:
    """``"Pleural_Thickening"`` or ``"COVID-19"`` to ``pleural_thickening``, ``covid_19``."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")


def label_columns(columns: list[str], sources: list[str]) -> dict[str, str]:
    """Manifest columns that hold labels: ``label_x``, and ``<source>_x`` for a source of this manifest.

    Returns:
        our name ``label_x`` to the manifest's column.
    """
    prefixes = ["label_", *(f"{snake_case(source)}_" for source in sources)]
    found: dict[str, str] = {}
    for column in columns:
        for prefix in prefixes:
            if column.lower().startswith(prefix) and len(column) > len(prefix):
                found.setdefault(f"label_{snake_case(column[len(prefix) :])}", column)
    return found


def numeric_labels(values: pd.Series, name: str) -> pd.Series:
    """One 0/1 column as float32; -1 (CheXpert's "uncertain") becomes NaN, soft labels between 0 and 1 stay.

    Raises:
        ConfigError: a value that is not a label.
    """
    numbers = pd.to_numeric(values.replace({True: 1, False: 0}), errors="coerce").astype("float32")
    wrong = values.notna() & (numbers.isna() | (numbers > 1) | ((numbers < 0) & (numbers != -1)))
    if wrong.any():
        raise ConfigError(f"column {name!r} is taken for a label, but holds more than 0, 1, -1 and empty")
    return numbers.where(numbers != -1)


def listed_labels(values: pd.Series, sources: pd.Series) -> pd.DataFrame:
    """``"Edema|Pneumonia"`` strings (also with commas or semicolons) to one column a label.

    A label a row does not list is 0 where its source uses that label at all, and NaN where the source never
    does; a row without any entry (or ``todo``, ``unknown``) is NaN throughout.
    """
    names = values.fillna("").astype(str).map(lambda text: {snake_case(part) for part in LISTED.split(text)})
    labelled = ~names.map(lambda row: row <= UNLABELLED).to_numpy(bool)
    pairs = names.explode()
    pairs = pairs[~pairs.isin(list(UNLABELLED))]
    columns = {}
    for name, rows in pairs.groupby(pairs).groups.items():
        positive = np.isin(np.arange(len(values)), values.index.get_indexer(rows))
        using = set(sources[positive])
        known = labelled & sources.isin(using).to_numpy(bool)
        columns[f"label_{name}"] = np.where(known, positive, np.nan).astype(np.float32)
    return pd.DataFrame(columns, index=values.index)
