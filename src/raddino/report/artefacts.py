"""What a report is made from: a results folder and, where there is one, a run folder."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raddino.errors import RaddinoError
from raddino.files import read_json

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "evaluate again"
LONGEST_LINE = 2**20
_PRIVATE_KEYS = re.compile(
    r"(?<!drop_)path|dir$|folder|root|host|user|home|cwd|argv|command|corpus$|^out$|url|key|init$", re.I
)
_PATH = re.compile(r"(^|[\s=:'\"])(~|\.{1,2})?/\S|[A-Za-z]:\\|\\\\")


@dataclass(frozen=True)
class Results:
    """One evaluation: ``metrics.json`` as a dictionary and ``predictions.parquet`` as a table, or None."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame | None


@dataclass(frozen=True)
class Run:
    """One pre-training run.

    Attributes:
        steps: a row a step, increasing ``step``; the last line wins where a resume wrote a step twice.
        monitors: the same for the monitor lines.
        config, environment: flat ``dotted.key`` to value, without paths or names of machines and people.
        synthetic: True, False, ``"mixed"``, or None when the run does not say.
        unreadable: lines of ``metrics.jsonl`` that are not JSON (a killed writer leaves one).
    """

    steps: pd.DataFrame
    monitors: pd.DataFrame
    config: dict[str, str]
    environment: dict[str, str]
    synthetic: bool | str | None
    unreadable: int


def read_results(folder: Path) -> Results:
    """The results that ``evaluate`` wrote, encoders of random weights :func:`tagged` as such.

    Raises:
        RaddinoError: no ``metrics.json``, one of another format, or a damaged file.
    """
    from raddino.benchmark.schema import check_metrics
    from raddino.tables import read_table

    path = folder / "metrics.json"
    if not path.is_file():
        raise RaddinoError(f"no metrics.json in {folder}: give a folder that 'raddino evaluate' wrote")
    metrics = read_json(path, AGAIN)
    check_metrics(metrics, str(path), AGAIN)
    table = folder / "predictions.parquet"
    predictions = read_table(table, AGAIN) if table.is_file() else None
    marked = tagged(metrics)
    if predictions is not None and "encoder" in predictions:
        pairs = zip(metrics.get("encoders", []), marked.get("encoders", []), strict=True)
        predictions["encoder"] = predictions["encoder"].replace({old["name"]: new["name"] for old, new in pairs})
    return Results(marked, predictions)


def tagged(metrics: dict[str, Any]) -> dict[str, Any]:
    """``metrics`` in which encoders of random weights say so in their names, wherever these stand."""
    from raddino.benchmark.results import shown_name

    shown = {one["name"]: shown_name(one) for one in metrics.get("encoders", []) if "provenance" in one}
    if all(name == old for old, name in shown.items()):
        return metrics

    def renamed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: renamed(one, inner) for inner, one in value.items()}
        if isinstance(value, list):
            return [renamed(one, key) for one in value]
        return shown.get(value, value) if key in ("encoder", "to") else value

    named = renamed(metrics)
    for one in named["encoders"]:
        one["name"] = shown.get(one["name"], one["name"])
    return named


def read_run(folder: Path) -> Run:
    """The log and settings of a pre-training run.

    Raises:
        RaddinoError: no ``metrics.jsonl``, or no step in it.
    """
    import pandas as pd

    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise RaddinoError(f"no metrics.jsonl in {folder}: give a folder that 'raddino pretrain' wrote")
    lines, unreadable = [], 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text) if len(text) <= LONGEST_LINE else None
            lines.append(line | {"step": int(line["step"])})  # type: ignore[operator,index]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            unreadable += bool(text.strip())
    steps = [line for line in lines if not line.get("monitor")]
    if not lines:
        raise RaddinoError(f"{path} holds no step yet")
    config = _yaml(folder / "config.yaml")
    environment = _json(folder / "environment.json")
    return Run(
        steps=_by_step(pd.DataFrame(steps)),
        monitors=_by_step(pd.DataFrame([line for line in lines if line.get("monitor")])),
        config=public(config),
        environment=public(environment),
        synthetic=_synthetic(environment, _json(folder / "encoder" / "raddino.json")),
        unreadable=unreadable,
    )


def public(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Flat ``dotted.key`` to text, without what names a place, a machine or a person."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= public(value, f"{prefix}{key}.")
        elif not _PRIVATE_KEYS.search(str(key)) and value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if not _PATH.search(text):
                flat[f"{prefix}{key}"] = text
    return flat


def _by_step(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    return table.drop_duplicates("step", keep="last").sort_values("step", ignore_index=True)


def _synthetic(*said: dict[str, Any]) -> bool | str | None:
    for words in said:
        for place in (words, words.get("provenance") or {}, words.get("corpus") or {}):
            if isinstance(place, dict) and place.get("synthetic") is not None:
                return place["synthetic"]
    return None


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, "take it out, or give another run") if path.is_file() else {}


def _yaml(path: Path) -> dict[str, Any]:
    from raddino.config import read_yaml

    return read_yaml(path) if path.is_file() else {}
