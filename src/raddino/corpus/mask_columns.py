"""Columns of masks in other people's tables: which cells are masks, and what is said of those that are none."""

from __future__ import annotations

import re

import pandas as pd

from raddino.corpus.cells import shown, text
from raddino.images.mask_codes import CELL, EMPTY, split_cell

GOOD = rf"(?:{CELL.pattern})"
NONE = r"-1(?:\.0+)?"
"""SIIM-ACR's and CANDID-PTX's mask known to be empty."""
ODD = {
    r"\d+(?:[ ,]+\d+)+": "run-lengths without a scheme (write gaps:HEIGHTxWIDTH: or runs:HEIGHTxWIDTH: before them)",
    r".*\.(?i:jpe?g)": "JPEG files, which change values at edges (convert them to PNG)",
    r".*\.(?i:npy|npz|nii|nii\.gz|mha|mhd|nrrd|dcm|dicom|bmp|webp|json|svg|mat)": "files of another kind (convert them "
    "to PNG, TIFF or GIF)",
}
NAMED = re.compile(r"(?:^|_)(?:masks?|segmentations?|seg|rle|contours?|encoded_?pixels|polygons?)(?:_|$)")


def is_mask_column(values: pd.Series, column: str) -> bool:
    """Whether at least half of the cells are masks, or there are none."""
    cells = text(values, column).dropna()
    return 2 * int(_masks(cells).sum()) >= len(cells)


def mask_cells(values: pd.Series, column: str, base: str, given: bool) -> tuple[pd.Series, list[str]]:
    """Tuples of locations and codes, None where a cell is empty or no mask; and what a user has to know.

    Args:
        values: of the manifest's column.
        column: its name.
        base: the folder that paths are relative to.
        given: the user named the column, so that any text is a file's name.
    """
    cells = text(values, column)
    cells = cells.mask(cells.str.fullmatch(NONE).fillna(False).astype(bool), EMPTY)
    odd = cells.notna() & ~_masks(cells)
    if given:
        odd &= cells.str.fullmatch(next(iter(ODD))).fillna(False).astype(bool)
    notes = []
    if odd.any():
        kinds = _kinds(cells[odd])
        notes.append(
            f"{int(odd.sum())} of {int(cells.notna().sum())} cells of column {shown(column)} are no masks and count as "
            f"not known: {kinds}"
        )
        cells = cells.mask(odd)
    found = [split_cell(cell, base) if known else None for cell, known in zip(cells, cells.notna(), strict=True)]
    return pd.Series(found, index=values.index, dtype=object), notes


def looks_like_masks(values: pd.Series, column: str, name: str, beside: bool) -> str:
    """Why a column that looks like masks is not taken; empty for any other.

    Args:
        values: of the column.
        column: its name.
        name: the same in snake case.
        beside: it tells of a column of masks.
    """
    cells = text(values, column).dropna()
    if cells.empty:
        return ""
    masks, kinds = int(_masks(cells).sum()), _kinds(cells)
    coded = bool(cells.head(1).str.fullmatch(r"(?:empty|gaps|runs|polygons|union):.*").any())
    if not coded and (beside or not NAMED.search(name)):
        return ""
    if masks == len(cells):
        return "take it with --column mask_NAME=COLUMN"
    return f"{len(cells) - masks} of its {len(cells)} cells are no masks: {kinds}"


def _masks(cells: pd.Series) -> pd.Series:
    return cells.str.fullmatch(rf"(?:{GOOD}|{NONE})").fillna(False).astype(bool)


def _kinds(cells: pd.Series) -> str:
    """What cells that are no masks are, counted, each with its remedy."""
    rest = cells[~_masks(cells)]
    said = []
    for pattern, what in ODD.items():
        like = rest.str.fullmatch(rf"(?:{pattern})").fillna(False).astype(bool)
        if like.any():
            said.append(f"{int(like.sum())} {what}")
            rest = rest[~like]
    if len(rest):
        said.append(f"{len(rest)} other text (name a PNG, TIFF or GIF file)")
    return ", ".join(said)
