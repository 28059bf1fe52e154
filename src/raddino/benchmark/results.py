"""The result folder: ``predictions.parquet``, ``metrics.json``, ``leaderboard.csv``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.benchmark.contamination import Tested, contamination, gravest, recognised
from raddino.benchmark.schema import check_metrics
from raddino.encoders.base import ENCODERS, Encoder, Provenance
from raddino.encoders.weights import RANDOM
from raddino.errors import RaddinoError
from raddino.files import read_json, write_json, write_text, writing
from raddino.tables import Kind, read_table, write_table
from raddino.tasks.fine_tuning.settings import FineTuneConfig

AGAIN = "run evaluate again"
BUSY = "another process evaluates into {out}: wait for it, or give another --out"
NEEDED = {"rows", "encoders", "suite", "synthetic"}
ROW_FIELDS = {"task", "encoder", "metric", "value", "n", "patients", "positives", "detail", "signature"}
ENCODER_FIELDS = {"name", "seen"}
PREDICTED: dict[str, Kind] = {
    **dict.fromkeys(("task", "encoder", "id", "patient", "split"), "text"),
    **dict.fromkeys(("target", "score"), "number"),
}
HEADLINE = (
    *("auprc", "auroc", "auroc_macro_ovr", "mae", "dice", "rouge_l", "bleu_4"),
    *("rules_f1_14_micro", "chexbert_f1_14_macro", "chexbert_f1_14_micro", "radgraph_er"),
)
LOWER_IS_BETTER = ("mae", "hd95", "false_alarm_rate")
DERIVED = ("metrics.json", "report.html", "table.tex")
_SIGN, _INNER = r"[^\s/\\:,;'\"()]", r"[^/\\:\n]"
ABSOLUTE_PATH = re.compile(
    rf"(?<![\w:/.…])(?:~|[A-Za-z]:)?[/\\](?:{_SIGN}(?:{_INNER}*[^\s/\\:])?[/\\])*({_SIGN}+)[/\\]?"
)
"""A folder's name may hold spaces; where a path ends in a sentence, its last name is taken to have none."""
PACKAGES = ("raddino", "torch", "numpy", "scipy", "scikit-learn", "scikit-image", "pandas")


@dataclass(frozen=True)
class Results:
    """A finished evaluation.

    Attributes:
        path: the result folder.
        data: contents of ``metrics.json``.
        predictions: task, encoder, id, patient, split (val, test), target, score.
    """

    path: Path
    data: dict[str, Any]
    predictions: pd.DataFrame

    @classmethod
    def open(cls, path: str | Path) -> Results:
        """Read a result folder.

        Raises:
            RaddinoError: missing, unfinished or of another format version.
        """
        path = Path(path)
        if not (path / "metrics.json").is_file():
            raise RaddinoError(f"{path} holds no results (no metrics.json); make some with: raddino evaluate")
        file = path / "metrics.json"
        data = read_json(file, AGAIN)
        check_metrics(data, str(file), AGAIN)
        listed = [*((row, ROW_FIELDS) for row in data["rows"]), *((one, ENCODER_FIELDS) for one in data["encoders"])]
        if not data.keys() >= NEEDED or not all(one.keys() >= fields for one, fields in listed):
            raise RaddinoError(f"{file} is damaged; {AGAIN}")
        data = {"tasks": [], "seed": None} | data
        return cls(path, data, read_predictions(path / "predictions.parquet"))

    def save(self) -> None:
        """Write the folder; ``metrics.json`` last, so that a folder that has it is whole.

        A report on earlier results in the folder is removed.
        """
        self.withdraw()
        write_table(self.path / "predictions.parquet", self.predictions)
        write_text(self.path / "leaderboard.csv", self.leaderboard().to_csv(index=False))
        write_json(self.path / "metrics.json", _plain(self.data))

    def withdraw(self) -> None:
        """Remove what makes the folder a result, and the report on it: other files in it are about to change."""
        with writing(self.path):
            for name in DERIVED:
                (self.path / name).unlink(missing_ok=True)

    def rows(self) -> pd.DataFrame:
        """All measured rows, one metric of one encoder on one task each."""
        return pd.DataFrame(self.data["rows"])

    def leaderboard(self) -> pd.DataFrame:
        """Headline rows, best encoder first within task and metric, each with its interval and signature."""
        rows = self.rows()
        rows = rows[rows["metric"].isin(HEADLINE)].copy()
        seen = {encoder["name"]: encoder["seen"] for encoder in self.data["encoders"]}
        shown = {encoder["name"]: shown_name(encoder) for encoder in self.data["encoders"]}
        better = rows["value"].where(rows["metric"].isin(LOWER_IS_BETTER), -rows["value"])
        rows["rank"] = better.groupby([rows["task"], rows["metric"]]).rank(method="min").astype(int)
        rows["seen"] = rows["encoder"].map(seen)
        rows["encoder"] = rows["encoder"].map(shown)
        rows["members"] = [members_text(self.data["rows"][place]) for place in rows.index]
        for count in ("positives", "excluded", "seeds"):
            rows[count] = rows[count].astype("Int64") if count in rows else None
        rows["seed_sd"] = rows["seed_sd"].astype(float) if "seed_sd" in rows else None
        rows["synthetic"] = str(self.data["synthetic"]).lower()
        order = {task: position for position, task in enumerate(dict.fromkeys(rows["task"]))}
        rows = rows.sort_values(["task", "metric", "rank"], key=lambda c: c.map(order) if c.name == "task" else c)
        columns = "task metric members rank encoder value seed_sd seeds low high median n excluded positives prevalence"
        columns += " patients seen synthetic"
        if "site" in rows:
            columns += " site drop drop_low drop_high"
            drops = rows["drop"].map(lambda drop: drop if isinstance(drop, dict) else {})
            for name, key in (("drop", "value"), ("drop_low", "low"), ("drop_high", "high")):
                rows[name] = drops.map(lambda drop, key=key: drop.get(key))
        return rows[[*columns.split(), "signature"]].reset_index(drop=True)


def read_predictions(file: Path) -> pd.DataFrame:
    """The predictions, with finite numbers in ``target`` and ``score``."""
    table = read_table(file, AGAIN, PREDICTED)
    if not np.isfinite(table[["target", "score"]].to_numpy(dtype=float)).all():
        raise RaddinoError(f"{file} is damaged (a target or score is no number): {AGAIN}")
    return table


def spec_word(spec: str | Path) -> str:
    """A spec without the folders in it: ``NAME``, ``NAME:LAST_PART`` or the folder's own name."""
    family, colon, place = str(spec).partition(":")
    return f"{family}:{Path(place).name}" if colon and family in ENCODERS else Path(spec).name


def identify(name: str, encoder: Encoder | None, spec: str | Path | Encoder, tested: Tested) -> dict[str, Any]:
    """What ``metrics.json`` says of an encoder, apart from its own fingerprint.

    Args:
        name: display name.
        encoder: None when it could not be loaded; its family's provenance stands in.
        spec: as it was asked for.
        tested: what it is judged on.

    Returns:
        among others ``contamination`` by source, ``seen``, the gravest of it, and ``recognised``, counts by source.
    """
    word = spec_word(spec) if isinstance(spec, str | Path) else spec.name
    family = word.partition(":")[0]
    provenance = ENCODERS[family].provenance if family in ENCODERS else Provenance(sources=None)
    provenance = encoder.provenance if encoder else provenance
    found = recognised(getattr(encoder, "seen_images", None), tested)
    by_source = contamination(provenance, tested, found)
    return {
        "name": name,
        "spec": word,
        "fingerprint": None,
        "dim": encoder.dim if encoder else None,
        "grid": encoder.grid if encoder else None,
        "provenance": provenance.to_dict(),
        "contamination": by_source,
        "recognised": found,
        "seen": gravest(by_source),
    }


def identify_variant(name: str, encoder: dict[str, Any], alone: bool) -> dict[str, Any]:
    """As :func:`identify`, of a variant of an encoder's row; ``alone`` where no encoder is in it."""
    if not alone:
        return {**encoder, "name": name}
    nothing = {"contamination": {}, "provenance": Provenance(note="no encoder").to_dict(), "seen": "clean"}
    return {**nothing, "name": name, "spec": name, "fingerprint": name, "dim": None, "grid": None}


def identify_tuned(name: str, encoder: dict[str, Any], loaded: Encoder, config: FineTuneConfig) -> dict[str, Any]:
    """As :func:`identify`, of an encoder that was trained further on the labels."""
    said = json.dumps([loaded.fingerprint, config.model_dump(mode="json")])
    return {**encoder, "name": name, "fingerprint": hashlib.sha256(said.encode()).hexdigest()[:16]}


def shown_name(encoder: dict[str, Any]) -> str:
    """An encoder's display name, with "(random weights)" behind it where it has learned nothing.

    Args:
        encoder: what :func:`identify` says of it.
    """
    name, note = str(encoder["name"]), (encoder.get("provenance") or {}).get("note")
    return f"{name} ({RANDOM})" if note == RANDOM and "random" not in name.lower() else name


def members_of(row: dict[str, Any]) -> list[str]:
    """What a number averages: tasks, classes or thresholds; none for other numbers."""
    return [str(one) for one in row.get("members") or (row.get("detail") or {}).get("tasks") or ()]


def members_text(row: dict[str, Any]) -> str:
    """``2 of 3: effusion, nodule`` of an average, empty for other numbers."""
    members = members_of(row)
    return f"{len(members)} of {row.get('listed') or len(members)}: {', '.join(members)}" if members else ""


def public(text: str) -> str:
    """``text`` with every absolute path cut down to its last part, fit for a report that travels."""
    return ABSOLUTE_PATH.sub(r"…/\1", text)


def environment() -> dict[str, str]:
    """Versions and processor behind the numbers."""
    import torch

    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        **versions,
    }


def _plain(value: Any) -> Any:
    """JSON-ready copy: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
