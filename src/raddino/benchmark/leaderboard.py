"""One leaderboard of result folders from several machines: only what is comparable is ranked together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from raddino.benchmark.results import HEADLINE, LOWER_IS_BETTER, Results, members_text, shown_name
from raddino.errors import RaddinoError
from raddino.files import write_text

BOARD = (
    "task", "metric", "split", "n", "positives", "patients",
    "data_fingerprint", "members", "probe", "interval", "scope",
)  # fmt: skip
"""Rows that agree in all of these were measured alike on the same images, and rank together."""
COLUMNS = (
    "board", "task", "metric", "members", "rank", "encoder", "value", "seed_sd", "seeds", "low", "high",
    "median", "n", "excluded", "positives", "prevalence", "patients", "probe",
    "seen", "synthetic", "folder", "encoder_fingerprint", "data_fingerprint", "signature",
)  # fmt: skip
SHOWN = 8


@dataclass(frozen=True)
class Leaderboard:
    """The merged table.

    Attributes:
        rows: columns ``COLUMNS``; ``board`` counts from 1, ranks hold within a board.
        notes: what was kept apart or measured twice, one sentence each.
        folders: how many were merged.
    """

    rows: pd.DataFrame
    notes: list[str]
    folders: int

    def save(self, path: Path) -> None:
        """Write ``rows`` as CSV."""
        write_text(path, self.rows.to_csv(index=False))


def leaderboard(folders: Sequence[str | Path]) -> Leaderboard:
    """Merge the headline numbers of result folders, in whatever order they are given.

    Numbers rank together when task, metric, split, counts, data fingerprint, members of an aggregate, probe and
    method of the interval agree; otherwise they stand on boards of their own. Where the same weights were measured
    twice on one board, the number with the most resamples stays (then the first by signature and folder). Encoders of
    one name but other weights get the start of their fingerprint as a surname.

    Args:
        folders: of ``evaluate``.

    Raises:
        RaddinoError: no folder, a folder that is no result, or results without a headline number.
    """
    if not folders:
        raise RaddinoError("no result folder to merge: give at least one")
    rows = pd.DataFrame([row for folder in folders for row in _rows(Results.open(folder))])
    if rows.empty:
        raise RaddinoError("the result folders hold no headline number to rank")
    order = ["task", "metric", "board_key", "encoder_fingerprint", "resamples", "signature", "folder", "encoder"]
    rows = rows.sort_values(order, ascending=[name != "resamples" for name in order], kind="stable")
    rows, notes = _without_repeats(rows)
    rows["encoder"] = _surnames(rows)
    better = rows["value"].where(rows["metric"].isin(LOWER_IS_BETTER), -rows["value"])
    rows["rank"] = better.groupby(rows["board_key"]).rank(method="min").astype(int)
    boards = rows.groupby("board_key", sort=False).ngroup()
    rows["board"] = boards + 1
    for count in ("positives", "excluded", "seeds"):
        rows[count] = rows[count].astype("Int64")
    notes += _apart(rows)
    rows = rows.sort_values(["board", "rank", "encoder"], kind="stable")
    return Leaderboard(rows[list(COLUMNS)].reset_index(drop=True), notes, len(folders))


def _rows(results: Results) -> list[dict[str, Any]]:
    """Headline rows with what ranks them together."""
    known = {encoder["name"]: encoder for encoder in results.data["encoders"]}
    probe = _probe(results.data["suite"].get("probe") or {})
    made = []
    for row in results.data["rows"]:
        if row["metric"] not in HEADLINE:
            continue
        if lacking := [field for field in (*BOARD[:6], "resamples", "data_fingerprint") if field not in row]:
            raise RaddinoError(f"{results.path}: a row lacks {lacking[0]!r}; run evaluate again")
        if row["encoder"] not in known:
            raise RaddinoError(f"{results.path}: a row is of an encoder that is not listed; run evaluate again")
        how = "trained" if "model" in row["detail"] else probe
        alike = row | {
            "probe": how, "members": members_text(row), "interval": row.get("interval", ""),
            "scope": row.get("scope", ""),
        }  # fmt: skip
        made.append(
            alike
            | {
                "board_key": "|".join(str(alike[field]) for field in BOARD),
                "excluded": row.get("excluded"),
                "seed_sd": row.get("seed_sd"),
                "seeds": row.get("seeds"),
                "folder": results.path.resolve().name,
                "encoder": shown_name(known[row["encoder"]]),
                "seen": known[row["encoder"]]["seen"],
                "synthetic": str(results.data["synthetic"]).lower(),
            }
        )
    return made


def _probe(settings: dict[str, Any]) -> str:
    """``linear``, ``linear on mean_patch``, ``knn with flips``."""
    words = [str(settings.get("kind", "linear")).replace("_", "-")]
    words += [f"on {settings['features']}"] if settings.get("features", "cls") != "cls" else []
    return " ".join([*words, *(["with flips"] if settings.get("flips") else [])])


def _without_repeats(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """One row for each board and weights, and a note for each folder that holds others and the one they stand in."""
    keys = ["board_key", "encoder_fingerprint"]
    kept = rows.groupby(keys, sort=False)[["folder", "value"]].transform("first")
    again = rows.assign(kept=kept["folder"], apart=(rows["value"] - kept["value"]).abs())[rows.duplicated(keys)]
    notes = []
    for (folder, place), part in again.groupby(["folder", "kept"]):
        count, most = len(part), part["apart"].max()
        numbers = f"{count} number{'' if count == 1 else 's'} of {folder}"
        where = "twice there" if folder == place else f"also in {place}"
        words = "equal" if most == 0 else f"at most {most:.2g} apart"
        notes.append(
            f"{numbers} stand{'s' if count == 1 else ''} {where} (same weights, same images, {words}): shown once."
        )
    return rows[~rows.duplicated(keys)].copy(), notes


def _surnames(rows: pd.DataFrame) -> pd.Series:
    """Display names, with the start of the fingerprint where a name stands for several weights."""
    weights = rows.groupby("encoder")["encoder_fingerprint"].nunique()
    shared = rows["encoder"].map(weights) > 1
    return rows["encoder"].where(~shared, rows["encoder"] + " (" + rows["encoder_fingerprint"].str[:8] + ")")


def _apart(rows: pd.DataFrame) -> list[str]:
    """A note for each task and metric that stands on several boards: in which fields these differ."""
    notes = []
    for (task, metric), part in rows.groupby(["task", "metric"], sort=False):
        if part["board"].nunique() == 1:
            continue
        differing = [field for field in BOARD if part[field].astype(str).nunique() > 1]
        words = ", ".join(field.replace("_", " ") for field in differing)
        notes.append(f"{task}, {metric}: {part['board'].nunique()} boards that must not be ranked together ({words}).")
    more = len(notes) - SHOWN
    return notes if more <= 0 else [*notes[:SHOWN], f"{more} more tasks stand on several boards."]
