"""Copies of one picture stand on one side of the split, or are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from raddino.corpus.dataset import Corpus
from raddino.corpus.splits import split_of
from raddino.errors import RaddinoError, counted
from raddino.images.likeness import SIDE, find_copies, from_text, thumbnail
from raddino.progress import bar

Policy = Literal["ignore", "report", "together", "refuse"]
"""What ``prepare`` does with copies: looks for none, counts them, draws their patients' split together, or stops."""
UNSETTLED = ("thumbnail", "drawn")
"""What a shard's record holds until splits are settled: a thumbnail, and whether the split was drawn."""


def settle(rows: Sequence[dict[str, Any]], policy: Policy, splits: Sequence[float], seed: int) -> list[str]:
    """Look for copies in the rows of a corpus, as the policy says.

    Args:
        rows: with ``patient``, ``split`` and :data:`UNSETTLED`, which are taken out; ``split`` may change.
        policy: see :data:`Policy`.
        splits: proportions, see :func:`~raddino.corpus.splits.split_of`.
        seed: of the draw.

    Returns:
        notes for a reader.

    Raises:
        RaddinoError: copies stand in two splits: as given under ``"together"``, at all under ``"refuse"``.
    """
    if policy == "ignore":
        return []
    first = copies_among(np.stack([from_text(row.pop("thumbnail")) for row in rows]))
    drawn = np.array([row.pop("drawn") for row in rows])
    if policy == "together":
        _unite(rows, first, drawn, splits, seed)
    table = pd.DataFrame({"split": [row["split"] for row in rows], "patient": [row["patient"] for row in rows]})
    return said(first, table, refuse=policy != "report")


def leave_out(parts: Sequence[Corpus], rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Rows of each corpus without the train images of which a copy stands in another split.

    Args:
        parts: packed; every chosen image is read.
        rows: chosen of each.
    """
    first, tables = _looked_through(parts, rows)
    splits = pd.concat([table["split"] for table in tables]).to_numpy()
    held = np.zeros(len(first), bool)
    held[first[splits != "train"]] = True
    kept = ~(held[first] & (splits == "train"))
    ends = np.cumsum([len(chosen) for chosen in rows])
    return [chosen[keep] for chosen, keep in zip(rows, np.split(kept, ends[:-1]), strict=True)]


def refuse_torn(parts: Sequence[Corpus], rows: Sequence[np.ndarray]) -> None:
    """Read the chosen rows of each corpus and stop where copies stand in two splits.

    Raises:
        RaddinoError: they do.
    """
    first, tables = _looked_through(parts, rows)
    torn = pd.concat([table["split"] for table in tables], ignore_index=True).groupby(first).transform("nunique") > 1
    if torn.any():
        raise RaddinoError(
            f"{counted(int(torn.sum()), 'image', 'have')} a copy in another split, so results would be too good: "
            "raddino inspect shows which they are, and 'leave-out' trains without them"
        )


def _looked_through(parts: Sequence[Corpus], rows: Sequence[np.ndarray]) -> tuple[np.ndarray, list[pd.DataFrame]]:
    small = []
    with bar("look for copies", total=sum(map(len, rows))) as shown:
        for part, chosen in zip(parts, rows, strict=True):
            for row in chosen.tolist():
                small.append(thumbnail(part.read(row)))
                shown.advance()
    tables = [part.manifest.iloc[chosen] for part, chosen in zip(parts, rows, strict=True)]
    return copies_among(np.array(small, np.uint8).reshape(-1, SIDE, SIDE)), tables


def copies_among(thumbnails: np.ndarray) -> np.ndarray:
    """(N,) first member of each one's cluster, of (N, S, S) thumbnails; with a progress bar."""
    with bar("compare", total=len(thumbnails)) as shown:
        return find_copies(thumbnails, advance=shown.advance)[0]


def said(first: np.ndarray, table: pd.DataFrame, refuse: bool) -> list[str]:
    """How many copies there are.

    Args:
        first: (N,) first member of each one's cluster.
        table: N rows with ``split`` and ``patient``.
        refuse: those that stand in two splits.

    Raises:
        RaddinoError: there are such.
    """
    copies = int((first != np.arange(len(first))).sum())
    torn, shared = (int((table.groupby(first)[name].transform("nunique") > 1).sum()) for name in ("split", "patient"))
    if torn and refuse:
        raise RaddinoError(
            f"{counted(torn, 'image', 'have')} a copy in another split, so results would be too good: 'report' packs "
            "them and raddino inspect shows which they are; leave them out, give them one split, or have it drawn by "
            "'together'"
        )
    if not copies:
        return []
    return [
        f"{counted(copies, 'image')} too many: copies of others ({counted(torn, 'image', 'have')} one in another "
        f"split, {counted(shared, 'image', 'have')} one under another patient)"
    ]


def _unite(
    rows: Sequence[dict[str, Any]], first: np.ndarray, drawn: np.ndarray, splits: Sequence[float], seed: int
) -> None:
    """Give patients who share copies the split that one of them was given, or else draw one for all of them."""
    codes, patients = pd.factorize(np.array([row["patient"] for row in rows], dtype=object))
    links = coo_matrix((np.ones(len(rows), bool), (codes, codes[first])), (len(patients), len(patients)))
    _, group_of = connected_components(links, directed=False)
    groups = pd.Series(np.arange(len(rows))).groupby(group_of[codes])
    several = np.bincount(group_of) > 1
    for group, places in groups:
        if several[group]:
            given = {rows[place]["split"] for place in places if not drawn[place]}
            names = (rows[place]["patient"] for place in places)
            split = given.pop() if len(given) == 1 else split_of(min(names), splits, seed)
            for place in places[drawn[places.to_numpy()]]:
                rows[place]["split"] = split
