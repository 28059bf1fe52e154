"""What a public data set is to this project: what to obtain, how it lies on disk, and how it becomes a manifest."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.config import Config, validate
from raddino.corpus.listing import is_utf8, walk
from raddino.corpus.splits import patient_fraction
from raddino.errors import ConfigError, RaddinoError
from raddino.registry import Registry
from raddino.storage import is_url

PHYSIONET = "PhysioNet Credentialed Health Data License 1.5.0"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
VALIDATION_SHARE, VALIDATION_SEED = 0.1, 518
PROBED = 100
WITHOUT_HEART = "without what lies behind the heart"
"""How lungs are drawn: as the field that neither heart nor mediastinum covers."""
LIKE_A_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]+")


class Incomplete(Exception):
    """What a copy of a data set lacks, in words; :meth:`Source.read` adds where to get it."""


@dataclass(frozen=True)
class Source:
    """One public data set.

    Attributes:
        name: as in the corpus column ``source`` and in ``NAME:FOLDER``.
        title: as its publishers call it.
        home: where it is published.
        licence: under which terms.
        credentialed: access is granted to a person who signed an agreement that forbids passing images on; such
            images are never shown in a report.
        obtain: what the user has to get, and where.
        layout: files and folders below the data set's folder; alternatives are separated by ``|``.
        documented: where that layout is described.
        build: from the folder and the options to a manifest with paths relative to the folder; may leave ``notes``
            (list of sentences) in ``attrs``, and may name another ``source`` where the images are another one's.
        options: what can be chosen.
        record: name in the ``source`` column, where several releases hold the same images.
        namespace: whose patients they are; one name for data sets with patients in common, empty for the user's own.
            None for ``record`` or ``name``.
        secondary_capture: whether its DICOM files were published as Secondary Capture, and are taken as such.
        conventions: by mask (without ``mask_``), how it is drawn where data sets differ, as far as that is documented.
    """

    name: str
    title: str
    home: str
    licence: str
    credentialed: bool
    obtain: str
    layout: tuple[str, ...]
    documented: str
    build: Callable[[Path, Any], pd.DataFrame]
    options: type[Config] = Config
    record: str = ""
    namespace: str | None = None
    secondary_capture: bool = False
    conventions: Mapping[str, str] = field(default_factory=dict)

    def read(self, root: Path | str, **options: Any) -> pd.DataFrame:
        """The manifest of a copy, in the columns that ``prepare`` takes.

        Returns:
            a row an image: ``path`` (relative to ``root``), ``id``, ``patient_id``, ``study_id``, ``source``,
            ``namespace``, ``split``, ``view``, ``sex``, ``age``, ``weight``, ``bmi``, ``licence``, how it was taken
            (:data:`raddino.images.acquisition.ACQUISITION`),
            ``label_<finding>`` (1, 0, NaN for not known), ``mask_<name>`` (see :mod:`raddino.images.mask_codes`) with
            ``mask_<name>_convention`` where that is documented,
            ``report`` and what is known around it, as far as the data set has them; ``attrs["options"]`` holds every
            option (folders only as ``"given"``), ``attrs["notes"]`` what a user has to know.

        Raises:
            ConfigError: an unknown option or value.
            RaddinoError: the folder lacks files or columns; names all of them and says where to get them.
        """
        root, chosen = Path(root), validate(self.options, options)
        if not root.is_dir():
            raise RaddinoError(f"{self.name}: {root} is no folder. {self.obtain}")
        try:
            table = self.build(root, chosen)
            _check_images(root, table)
        except Incomplete as error:
            raise RaddinoError(f"{self.name} in {root}: {error}. {self.obtain}") from None
        notes = table.attrs.get("notes", [])
        table = table.reset_index(drop=True)
        name = self.record or self.name
        table = table if "source" in table else table.assign(source=name)
        if "namespace" not in table:
            table = table.assign(namespace=name if self.namespace is None else self.namespace)
        licence = table["licence"].fillna(self.licence) if "licence" in table else self.licence
        drawn = {name: words for name, words in self.conventions.items() if f"mask_{name}" in table}
        table = table.assign(licence=licence, **{f"mask_{name}_convention": words for name, words in drawn.items()})
        values = chosen.model_dump()
        table.attrs = {
            "options": {key: "given" if isinstance(value, Path) else value for key, value in values.items()},
            "notes": notes,
        }
        return table


SOURCES: Registry[Source] = Registry("source")


def register(source: Source) -> Source:
    """File ``source`` under its name."""
    return SOURCES.register(source.name)(source)


def variant(source: Source, **changes: Any) -> Source:
    """Register another release of ``source``."""
    return register(replace(source, **changes))


def missing(root: Path, layout: Iterable[str]) -> list[str]:
    """Entries of ``layout`` of which no alternative exists below ``root``."""
    return [entry.replace("|", " or ") for entry in layout if find(root, entry) is None]


def require(root: Path, layout: Iterable[str]) -> None:
    """Raise :class:`Incomplete` with all of ``layout`` that is not there."""
    if absent := missing(root, layout):
        raise Incomplete(f"not found: {', '.join(absent)}")


def find(root: Path, entry: str) -> Path | None:
    """The first alternative of a layout entry that exists; a ``.csv`` may also be there as ``.csv.gz``."""
    for name in entry.split("|"):
        for spelled in (name, f"{name}.gz") if name.endswith(".csv") else (name,):
            if (root / spelled).exists():
                return root / spelled
    return None


def locate(root: Path, entry: str) -> Path:
    """:func:`find`, or :class:`Incomplete`."""
    path = find(root, entry)
    if path is None:
        raise Incomplete(f"not found: {entry.replace('|', ' or ')}")
    return path


def read_table(root: Path, entry: str, columns: Iterable[str], optional: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV file as text, checked for its columns.

    Args:
        root: the data set's folder.
        entry: of the layout.
        columns: needed ones; of the alternatives ``A|B`` the first that is there is renamed to ``A``.
        optional: columns that some copies lack.

    Returns:
        the columns, every value a stripped string or None; optional ones that are not there hold None.

    Raises:
        Incomplete: the file is missing, cannot be read, or lacks columns; names all of them.
    """
    path = locate(root, entry)
    optional = list(optional)
    chosen = _columns(path, columns, optional)
    try:
        table = pd.read_csv(path, dtype=str, skipinitialspace=True, usecols=list(chosen.values()))
    except (ValueError, OSError) as error:
        raise Incomplete(f"{path.name} cannot be read ({type(error).__name__})") from None
    if table.empty:
        raise Incomplete(f"{path.name} has no rows")
    table = table.rename(columns={theirs: ours for ours, theirs in chosen.items()})[list(chosen)]
    stripped = table.apply(lambda values: values.str.strip()).astype(object)
    cells = stripped.where(stripped.notna() & (stripped != ""), None)
    return cells.assign(**dict.fromkeys(name for name in optional if name not in cells))


def _columns(path: Path, columns: Iterable[str], optional: Iterable[str]) -> dict[str, str]:
    """Our name to the file's header for each needed column, and those of the optional ones that are there."""
    try:
        header = [str(name) for name in pd.read_csv(path, nrows=0, skipinitialspace=True).columns]
    except (ValueError, OSError) as error:
        raise Incomplete(f"{path.name} cannot be read ({type(error).__name__})") from None
    known = {name.strip(): name for name in header}
    chosen, absent = {}, []
    for column in columns:
        names = column.split("|")
        found = next((known[name] for name in names if name in known), None)
        if found is None:
            absent.append(" or ".join(names))
        else:
            chosen[names[0]] = found
    if absent:
        raise Incomplete(f"{path.name} lacks the column(s) {', '.join(absent)}")
    return chosen | {name: known[name] for name in optional if name in known}


def index_images(root: Path) -> dict[str, str]:
    """Image name without its suffix to path relative to ``root``, for every image below ``root``.

    Of two files of one name the first in alphabetical order of folders counts.
    """
    found: dict[str, str] = {}
    for below, names in walk(root, Counter()):
        for name in names:
            stem, suffix = os.path.splitext(name)
            key = stem if suffix.lower() in IMAGE_SUFFIXES else name
            if is_utf8(below + name):  # no data set lists others
                found.setdefault(key, below + name)
    return found


def cut_validation(split: pd.Series, patients: pd.Series) -> pd.Series:
    """Splits in which a tenth of the train patients became validation.

    The patients follow from a hash of their number with seed 518 alone: every copy gets the same ones.
    """
    train = (split == "train").to_numpy()
    chosen = np.zeros(len(split), dtype=bool)
    if train.any():
        chosen[train] = patient_fraction(patients[train].to_numpy(), VALIDATION_SHARE, VALIDATION_SEED)
    return split.mask(pd.Series(chosen, index=split.index), "val")


def numbers(values: pd.Series) -> pd.Series:
    """Text to float64, NaN where it is none."""
    return pd.to_numeric(values, errors="coerce").astype(float)


def _check_images(root: Path, table: pd.DataFrame) -> None:
    first = table["path"].head(PROBED).tolist()
    if not any((root / path).is_file() for path in first):
        example = first[0] if first else "none listed"
        raise Incomplete(f"none of the first {len(first)} listed images is there, for example {example}")


def split_spec(spec: str | Path) -> tuple[Source, Path] | None:
    """``"vindr-cxr:/data/vindr"`` to its source and folder; None for anything that is no such spec.

    Raises:
        ConfigError: a source's name without a folder.
        RaddinoError: what stands before the colon looks like a source's name and is none.
    """
    name, colon, place = str(spec).partition(":")
    if is_url(spec) or os.path.exists(spec) or (glob.has_magic(str(spec)) and name not in SOURCES):
        return None
    if name not in SOURCES and not (colon and LIKE_A_NAME.fullmatch(name)):
        return None
    SOURCES[name]
    if not place:
        raise ConfigError(f"say where {name} lies: {name}:FOLDER")
    return SOURCES[name], Path(place)
