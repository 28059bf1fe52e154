"""What is to be packed: a folder, a glob or a manifest, read to one table of canonical columns."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from raddino.corpus.cells import objects, shown, spread, strings, text
from raddino.corpus.columns import KNOWN, choose, recognise
from raddino.corpus.identifiers import WHOLE, clean_ids
from raddino.corpus.labels import listed_labels, numeric_labels, unlisted_notes
from raddino.corpus.listing import find, said
from raddino.corpus.manifest_file import read_manifest
from raddino.corpus.mask_columns import mask_cells
from raddino.corpus.splits import parse_splits
from raddino.corpus.where import query
from raddino.errors import ConfigError, RaddinoError, counted
from raddino.images.acquisition import (
    ACQUISITION,
    DETECTORS,
    EXPOSURE_INDEX_LIMITS,
    KVP_LIMITS,
    POSITIONS,
    parse_detector,
    parse_exposure_index,
    parse_kvp,
    parse_manufacturer,
    parse_position,
    parse_year_band,
)
from raddino.images.facts import parse_age, parse_sex, parse_view, plausible
from raddino.images.location import exists
from raddino.storage import download, is_url, join, localised, shown_url

CONTEXT = ("impression", "indication", "comparison", "study_order")
"""What is known around a report; the number counts a patient's studies from 0."""
TEXTS = ("report", *CONTEXT[:-1])
FACTS = ("view", "sex", "age", "weight", "bmi", *ACQUISITION, "report", *CONTEXT, "licence")
IDENTIFIERS = ("path", "id", "patient", "study", "namespace")
TRUTHS = {**dict.fromkeys(("true", "1", "1.0"), True), **dict.fromkeys(("false", "0", "0.0"), False)}
MARKS = {**TRUTHS, **dict.fromkeys(("yes", "y", "x"), True), **dict.fromkeys(("no", "n"), False)}
MARKED = {word: float(mark) for word, mark in MARKS.items()}
PARSED: dict[str, tuple[Callable[[str], Any], str]] = {
    "view": (parse_view, "PA, AP, LATERAL or OBLIQUE"),
    "sex": (parse_sex, "M or F"),
    "age": (lambda word: parse_age(word.replace(",", ".")), "years up to 120, or 011M"),
    "weight": (lambda word: plausible(word.replace(",", "."), 0.3, 400), "kg from 0.3 to 400"),
    "bmi": (lambda word: plausible(word.replace(",", "."), 5, 120), "kg/m² from 5 to 120"),
    "manufacturer": (parse_manufacturer, "a name"),
    "detector": (parse_detector, ", ".join(DETECTORS)),
    "kvp": (lambda word: parse_kvp(word.replace(",", ".")), "kV from {} to {}".format(*KVP_LIMITS)),
    "exposure_index": (
        lambda word: parse_exposure_index(word.replace(",", ".")),
        "a number from {} to {}".format(*EXPOSURE_INDEX_LIMITS),
    ),
    "portable": (lambda word: MARKED.get(word.lower()), "true, yes, y, x, false, no or n"),
    "year_band": (parse_year_band, "a date or year from 1960 on"),
    "patient_position": (parse_position, ", ".join(POSITIONS)),
    "study_order": (lambda word: plausible(word, 0, 10_000), "0 to 10000"),
    "synthetic": (lambda word: TRUTHS.get(word.lower()), "true or false"),
    "excluded": (lambda word: MARKS.get(word.lower()), "true, yes, y, x, false, no or n"),
}
"""What understands the words of a fact, giving None for others, and what it understands."""
SET_ASIDE = frozenset(("exclude", "excluded", "ignore", "ignored", "unused"))
"""Words in a split column for images that are in no split."""
DEFAULT_SOURCE = "local"
PROBED, PROBED_REMOTE = 100, 5
MANIFEST = "manifest.csv"


def read_items(
    images: str | Path,
    columns: dict[str, str] | None = None,
    source: str | None = None,
    where: str | None = None,
    exclude: Path | None = None,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """List what is to be packed.

    Args:
        images: a folder, a glob, an archive, a DICOMDIR, or a ``.csv`` / ``.parquet`` manifest (a folder with
            ``manifest.csv`` is one); or the URL of a folder, an archive or a manifest.
        columns: ours to the manifest's column, e.g. ``{"patient": "PatientID", "label_covid": "covid19"}``;
            an empty value leaves a recognised column out.
        source: name of the data set for rows that have none.
        where: pandas query on the manifest's columns.
        exclude: folder not to look into (the output).

    Returns:
        A table with ``file`` (an absolute location, see :mod:`raddino.images.location`), ``name`` (what the image's
        hash is made of), raw ``patient``, ``study`` and ``namespace``, ``source``, ``split``, facts, ``synthetic``,
        ``label_*``, ``mask_*`` (tuples of locations and codes, see :mod:`raddino.images.mask_codes`); text that is
        absent is None, names that are not UTF-8 stand as :func:`os.fsdecode` gives them. ``attrs["notes"]`` says, a
        sentence each and without an id, what was left out and how to mend it; ``attrs["unlisted"]``, where there are
        any, by source and label on how many images a label is not known because their source never lists it. And the
        classes of each mask where the manifest has a ``mask_<name>_classes`` column.

    Raises:
        RaddinoError: nothing there, paths that lead nowhere, or a table that is none.
        ConfigError: a mapping or query that does not fit the manifest, or cells that are no labels.
    """
    place = str(localised(os.fspath(images)))
    if exists(within := join(place.rstrip("/"), MANIFEST)):
        place = within
    if place.lower().endswith((".csv", ".parquet")) and (os.path.isfile(place) or not glob.has_magic(place)):
        columns = {ours: " ".join(column.split()) for ours, column in (columns or {}).items()}
        return _canonical(
            _where(_read(place, KNOWN.union(columns.values())), columns, where, place), place, columns, source
        )
    if columns or where is not None:
        raise ConfigError("columns and where speak of a manifest; give a .csv or .parquet file")
    passed: Counter[str] = Counter()
    files = list(find(place, passed, exclude))
    if not files:
        odd = "".join(f" ({note})" for note in said(passed))
        raise RaddinoError(
            f"no file in {shown_url(place)}{odd}; give a folder, a glob like 'xrays/**/*.dcm', an archive, or a "
            "manifest"
        )
    table = pd.DataFrame({"file": strings([file for file, _ in files]), "name": strings([name for _, name in files])})
    table = table.assign(source=source or DEFAULT_SOURCE, synthetic=False)
    table = table.assign(**dict.fromkeys(("patient", "study", "namespace", "split", *FACTS)))
    table.attrs = {"notes": said(passed)}
    return table, {}


def canonical_items(
    raw: pd.DataFrame, root: Path, columns: dict[str, str] | None = None, where: str | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    """As :func:`read_items`, from a table in hand whose paths are relative to ``root``.

    Raises:
        RaddinoError: no row satisfies ``where``.
        ConfigError: a mapping or query that does not fit.
    """
    raw = raw.set_axis(raw.columns.astype(str), axis=1)
    raw.attrs = {"notes": []}
    columns = columns or {}
    return _canonical(_where(raw, columns, where, root), root, columns, None, str(root.resolve()))


def _read(place: str, known: Collection[str]) -> pd.DataFrame:
    """The manifest at a path or URL."""
    if not is_url(place):
        return read_manifest(Path(place), known)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / os.path.basename(place)
        try:
            with copy.open("wb") as stream:
                download(place, stream)
        except FileNotFoundError:
            raise RaddinoError(f"manifest {shown_url(place)} does not exist") from None
        except OSError as error:
            raise RaddinoError(f"manifest {shown_url(place)} cannot be fetched ({error})") from None
        try:
            return read_manifest(copy, known)
        except RaddinoError as error:
            raise RaddinoError(str(error).replace(str(copy), shown_url(place))) from None


def _where(raw: pd.DataFrame, mapping: dict[str, str], where: str | None, path: str | Path) -> pd.DataFrame:
    """The rows that satisfy ``where``, in which cells of a CSV count as the numbers and truths that they write."""
    if where is None:
        return raw
    chosen, _ = recognise(raw.columns, mapping)
    ids = {chosen.get(name) for name in IDENTIFIERS}
    typed = {
        name: _typed(raw[name])
        for name in raw
        if name in where and name not in ids and isinstance(raw[name].dtype, pd.StringDtype)
    }
    kept = query(raw.assign(**typed), where)
    if not kept.any():
        raise RaddinoError(f"no row of {path} satisfies where={where!r}")
    return _keep(raw, kept, "left out by where")


def _typed(cells: pd.Series) -> pd.Series:
    """Numbers, or truths, where every cell writes one."""
    numbers = pd.to_numeric(cells, errors="coerce")
    if (numbers.notna() == cells.notna()).all():
        return numbers
    words = cells.str.lower()
    if words.isin(["true", "false"]).all():
        return words == "true"
    return cells


def _keep(raw: pd.DataFrame, kept: np.ndarray | pd.Series, what: str) -> pd.DataFrame:
    """The kept rows; how many are not is noted."""
    lost = len(raw) - int(kept.sum())
    if not lost:
        return raw
    rest = raw[kept].reset_index(drop=True)
    rest.attrs = {"notes": [*raw.attrs["notes"], f"{counted(lost, 'row')} {what}"]}
    return rest


def _canonical(
    raw: pd.DataFrame, path: str | Path, mapping: dict[str, str], source: str | None, base: str | None = None
) -> tuple[pd.DataFrame, dict[str, str]]:
    chosen, notes = choose(raw, mapping)
    if "path" not in chosen:
        has = ", ".join(map(shown, raw.columns[:30]))
        raise ConfigError(
            f"manifest {path} has no column of image paths; map one with columns={{'path': …}}. It has: {has}"
        )
    raw = _rows(raw, chosen, path)
    notes = [*raw.attrs["notes"], *notes]
    masks = {name: column for name, column in chosen.items() if name.startswith("mask_")}
    classes, said = _mask_classes(raw, masks), _said_conventions(raw, masks)
    raw, uses = raw[list(dict.fromkeys(chosen.values()))], Counter(chosen.values())

    def cells(name: str) -> pd.Series:
        """A column of the manifest, which is let go after its last use: a large one counts in hundreds of MB."""
        uses[chosen[name]] -= 1
        return raw[chosen[name]] if uses[chosen[name]] else raw.pop(chosen[name])

    def words(name: str) -> pd.Series:
        found = text(cells(name), chosen[name], "surrogateescape" if name == "path" else "backslashreplace")
        if name in IDENTIFIERS and (broken := int(found.str.contains("[\r\n]").fillna(False).sum())):
            raise RaddinoError(
                f"{counted(broken, 'cell')} of column {shown(chosen[name])} in {path} with a line break: close a "
                "quotation mark"
            )
        return found

    def noted(found: tuple[pd.Series, list[str]]) -> pd.Series:
        notes.extend(found[1])
        return found[0]

    paths = words("path")
    base = base or _base_folder(paths, path)
    empty = spread([], np.full(len(raw), -1), raw.index)
    columns = {"file": _below(base, paths)}
    columns["name"] = noted(clean_ids(words("id"), "id", chosen["id"])).fillna(paths) if "id" in chosen else paths
    for name in ("patient", "study"):
        columns[name] = objects(noted(clean_ids(words(name), name, chosen[name]))) if name in chosen else empty
    for name in ("namespace", "source"):
        columns[name] = objects(words(name).str.replace(WHOLE, r"\1", regex=True)) if name in chosen else empty
    columns["source"] = columns["source"].fillna(source or DEFAULT_SOURCE)
    columns["split"] = _splits(words("split")) if "split" in chosen else empty
    for name in FACTS:
        if name in PARSED and name in chosen:
            columns[name] = noted(_parsed(cells(name), name, chosen[name]))
        else:
            columns[name] = objects(words(name)) if name in chosen else empty
    marked = noted(_parsed(cells("synthetic"), "synthetic", chosen["synthetic"])) if "synthetic" in chosen else empty
    columns["synthetic"] = marked.eq(True)
    for name, column in masks.items():
        columns[name] = noted(mask_cells(cells(name), column, base, name in mapping))
    numeric = [name for name in chosen if name.startswith("label_")]
    labels = pd.DataFrame({name: numeric_labels(cells(name), chosen[name]) for name in numeric}, index=raw.index)
    unlisted: dict[str, dict[str, int]] = {}
    if "labels" in chosen:
        labels, unlisted = listed_labels(cells("labels"), columns["source"], chosen["labels"], labels)
    table = pd.DataFrame({**columns, **labels}, copy=False)
    table.attrs = {"notes": [*notes, *unlisted_notes(unlisted)], **({"unlisted": unlisted} if unlisted else {})}
    if drawn := {name: _by_source(words, columns["source"]) for name, words in said.items()}:
        table.attrs["conventions"] = drawn
    return table, classes


def _rows(raw: pd.DataFrame, chosen: dict[str, str], path: str | Path) -> pd.DataFrame:
    """Rows that name an image and are not marked as left out."""
    column = chosen["path"]
    raw = _keep(raw, text(raw[column], column, "surrogateescape").notna(), "without a path left out")
    if "split" in chosen:
        words = text(raw[chosen["split"]], chosen["split"]).str.lower()
        raw = _keep(raw, ~words.isin(SET_ASIDE), "left out, for their split says so (exclude, unused)")
    if "excluded" in chosen:
        marked, unclear = _parsed(raw[chosen["excluded"]], "excluded", chosen["excluded"])
        raw.attrs = {"notes": [*raw.attrs["notes"], *unclear]}
        raw = _keep(
            raw,
            ~marked.eq(True),
            f"marked in column {shown(chosen['excluded'])} left out; keep them with --column excluded=",
        )
    if raw.empty:
        raise RaddinoError(f"no row of {path} is left: {'; '.join(raw.attrs['notes'])}")
    return raw


def _parsed(values: pd.Series, name: str, column: str) -> tuple[pd.Series, list[str]]:
    """A fact as :data:`PARSED` understands it, None where it does not or there is none."""
    codes, different = pd.factorize(text(values, column))
    parse, form = PARSED[name]
    known = [parse(word) for word in different]
    lost = int(np.bincount(codes[codes >= 0], minlength=len(known))[[value is None for value in known]].sum())
    notes = [f"{counted(lost, 'cell')} of column {shown(column)} taken as empty: not {form}"] if lost else []
    return spread(known, codes, values.index), notes


def _splits(words: pd.Series) -> pd.Series:
    codes, different = pd.factorize(words)
    return spread(parse_splits(pd.Series(different, dtype=object)).tolist(), codes, words.index)


def _below(base: str, paths: pd.Series) -> pd.Series:
    """Absolute locations."""
    if not base.isascii() and strings([base]).dtype == object:
        paths = paths.astype(object)
    below = f"{base}/" + paths
    absolute = (paths.str.startswith("/") | paths.str.contains("://", regex=False)).astype(bool)
    return below.mask(absolute, paths[absolute].map(lambda path: join(base, path))) if absolute.any() else below


def _base_folder(paths: pd.Series, manifest: str | Path) -> str:
    """The folder that paths are relative to: the manifest's own, its parent, or its parent's parent."""
    folder = str(manifest) if is_url(str(manifest)) else str(Path(manifest).resolve())
    candidates = [folder := os.path.dirname(folder) or folder for _ in range(3)]
    first = paths.head(PROBED_REMOTE if is_url(folder) else PROBED).tolist()
    found = {base: sum(exists(join(base, name)) for name in first) for base in candidates}
    best = max(candidates, key=lambda base: found[base])
    if not found[best]:
        raise RaddinoError(
            f"none of the first {len(first)} paths of {shown_url(manifest)} leads to a file (the first is like "
            f"{re.sub(r'[^/.:]+', '…', os.path.dirname(first[0]))}/…{_suffix(first[0])}); tried as they are and "
            f"relative to {', '.join(map(shown_url, candidates))}"
            + ("; write / in place of the backslashes" if "\\" in first[0] else "")
        )
    return best


def _suffix(name: str) -> str:
    suffix = os.path.splitext(name)[1]
    return suffix if re.fullmatch(r"\.[A-Za-z]{2,5}", suffix) else ""


def _mask_classes(raw: pd.DataFrame, masks: dict[str, str]) -> dict[str, str]:
    """What ``mask_<name>_classes`` says (for example a bit field's order), where it says one thing."""
    classes = {}
    for name, column in masks.items():
        values = raw[f"{column}_classes"].dropna().unique() if f"{column}_classes" in raw else []
        if len(values) == 1:
            classes[name.removeprefix("mask_")] = str(values[0])
    return classes


def _said_conventions(raw: pd.DataFrame, masks: dict[str, str]) -> dict[str, pd.Series]:
    """What ``mask_<name>_convention`` says of each row, by mask, where it says anything."""
    columns = {name.removeprefix("mask_"): f"{column}_convention" for name, column in masks.items()}
    said = {name: text(raw[column], column) for name, column in columns.items() if column in raw}
    return {name: words for name, words in said.items() if words.notna().any()}


def _by_source(words: pd.Series, sources: pd.Series) -> dict[str, list[str]]:
    """The conventions of one mask, by source."""
    found = words.groupby(sources.astype(str)).unique()
    return {str(source): sorted(str(one) for one in some if not pd.isna(one)) for source, some in found.items()}
