"""The end of packing: the shards' records become manifest, skipped list and, last of all, ``corpus.json``."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd

from raddino import __version__
from raddino.corpus.copies import settle
from raddino.corpus.dataset import FORMAT, Corpus
from raddino.corpus.identifiers import dominant_patient
from raddino.corpus.manifest import CONTEXT, FACTS, TEXTS
from raddino.corpus.pack import Record, ShardTask
from raddino.corpus.splits import check_patient_splits
from raddino.errors import RaddinoError, commonest, counted
from raddino.files import draft_of, read_json, sha256, write_json, write_text
from raddino.images.acquisition import ACQUISITION
from raddino.images.phi import key_name

PLACES = ("shard", "offset", "length")
COLUMNS = (
    *("id", *PLACES, "height", "width", "source", "patient", "study", "split", *FACTS),
    *("synthetic", "warnings", "mended", "sha256", "sha256_source", "sha256_masks"),
)
YOUNGER = (*CONTEXT, *ACQUISITION, "mended")
"""Columns that count in the fingerprint only where an image has them, as corpora made before them have."""
NUMBERS = {
    **dict.fromkeys(("age", "weight", "bmi", "kvp", "exposure_index", "portable", "study_order"), "float64"),
    "synthetic": "bool",
}


def seal(out: Path, tasks: list[ShardTask], skipped: list[Record], classes: dict[str, str], made_by: Record) -> None:
    """Join the records of packed shards; ``corpus.json`` is written last of all.

    Args:
        out: the corpus folder.
        tasks: all of the corpus, every one of them packed.
        skipped: ``hash`` and ``reason`` of images left out before packing.
        classes: what the values of each mask mean, by mask name.
        made_by: entries on settings, kept as they are.

    Raises:
        RaddinoError: no image was packed, a patient stands in two splits, copies do and are refused, or a record is
            damaged.
    """
    records = [read_json(task.record, f"delete {task.out} and run prepare again", sealed=True) for task in tasks]
    rows = [row for record in records for row in record["rows"]]
    skipped = [*skipped, *(entry for record in records for entry in record["skipped"])]
    reasons = Counter(entry["reason"] for entry in skipped)
    write_text(out / "skipped.csv", pd.DataFrame(skipped, columns=["hash", "reason"]).to_csv(index=False))
    if not rows:
        raise RaddinoError(f"no image could be packed: {commonest(reasons)}. See {out / 'skipped.csv'}")
    spaces = [row.pop("namespace") for row in rows]
    known = sorted(
        {space for row, space in zip(rows, spaces, strict=True) if space is not None and not row["synthetic"]}
    )
    recipe = tasks[0].recipe
    copies = settle(rows, recipe.duplicates, recipe.splits, recipe.seed)
    manifest = _manifest(rows)
    notes = [*_notes(manifest, spaces.count(None)), *copies]
    check_patient_splits(manifest)
    with draft_of(out / "manifest.parquet") as draft:
        manifest.to_parquet(draft, index=False)
    info = {
        "format": FORMAT,
        "raddino": __version__,
        **made_by,
        **_contents(manifest, classes),
        "namespaces": dict.fromkeys(known, key_name(tasks[0].key)),
        "skipped": dict(reasons.most_common()),
        "notes": [*made_by.get("notes", ()), *notes],
        "shards": {task.name: record["size"] for task, record in zip(tasks, records, strict=True)},
        "manifest_bytes": (out / "manifest.parquet").stat().st_size,
        "manifest_sha256": sha256(out / "manifest.parquet"),
        "fingerprint": fingerprint(manifest),
    }
    write_json(out / "corpus.json", info)


def fingerprint(manifest: pd.DataFrame) -> str:
    """16 hex digits over every fact, label and pixel digest, whatever the order and place of the images.

    Those of :data:`YOUNGER` count where an image has them.
    """
    unsaid = {column for column in YOUNGER if column in manifest and manifest[column].isna().all()}
    left_out = unsaid.union(PLACES, ("sha256_source",))
    content = [column for column in manifest if column not in left_out and not column.startswith("mask_")]
    text = manifest[sorted(content)].sort_values("id").to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def summary(corpus: Corpus) -> str:
    """What a person wants to know after ``prepare``: counts, reasons for what is missing, and notes."""
    info = corpus.info
    kind = {True: "synthetic ", False: "", "mixed": "real and synthetic "}[info["synthetic"]]
    counts = ", ".join(f"{name} {n}" for name, n in info["splits"].items())
    lines = [
        f"{counted(info['images'], f'{kind}image')} of {counted(info['patients'], 'patient')} ({counts})",
        f"  fingerprint {info['fingerprint']}",
        *(f"  left out {n}: {reason}" for reason, n in info["skipped"].items()),
        *_empty_splits(info["splits"]),
        *(f"  note on {n}: {text}" for text, n in info["warnings"].items()),
        *(f"  {note}" for note in [*info.get("source", {}).get("notes", []), *info["notes"], *_rights(corpus)]),
    ]
    return "\n".join(lines)


def _rights(corpus: Corpus) -> list[str]:
    """Who may read report texts."""
    if not corpus.info.get("texts"):
        return []
    if corpus.path.stat().st_mode & 0o077:
        return ["warning: it holds report texts, and other users may read its folder"]
    return ["it holds report texts: its folder is open to you alone (chmod -R g+rX shares it with your group)"]


def _empty_splits(splits: dict[str, int]) -> list[str]:
    needs = {"train": "pretrain and evaluate need", "val": "evaluate needs", "test": "evaluate needs"}
    return [
        f"  warning: no image in the {split} split, which {needs[split]}" for split in needs if not splits.get(split)
    ]


def _manifest(rows: list[Record]) -> pd.DataFrame:
    """Rows to a table with fixed column order and types."""
    table = pd.DataFrame(rows)
    labels = [column for column in table if column.startswith("label_")]
    masks = sorted(column for column in table if column.startswith("mask_"))
    return table[[*COLUMNS, *labels, *masks]].astype({**NUMBERS, **dict.fromkeys(labels, "float32")})


def _notes(manifest: pd.DataFrame, unknown: int) -> list[str]:
    """What a user of the corpus has to know; ``unknown`` images have no patient."""
    notes = []
    if unknown:
        notes.append(
            f"{counted(unknown, 'image')} without a patient: each counts as one of its own, so splits may leak"
        )
        warnings.warn(notes[-1], stacklevel=4)
    notes += dominant_patient(manifest.loc[~manifest["synthetic"], "patient"])
    if manifest["synthetic"].nunique() > 1:
        notes.append("real and synthetic images are mixed")
    pairs = manifest.loc[~manifest["synthetic"], ["patient", "source"]].drop_duplicates()
    if shared := pairs.loc[pairs["patient"].duplicated(), "patient"].nunique():
        notes.append(
            f"{counted(shared, 'patient', 'stand')} in more than one source, each as one person; where different "
            "people have one number, name their hospitals in a column namespace"
        )
    return notes


def _contents(manifest: pd.DataFrame, classes: dict[str, str]) -> Record:
    """Counts of what a manifest holds."""
    masks = [column.removeprefix("mask_") for column in manifest if column.startswith("mask_")]
    kinds = manifest["synthetic"].unique().tolist()
    return {
        "images": len(manifest),
        "patients": int(manifest["patient"].nunique()),
        "sources": _counts(manifest["source"]),
        "splits": _counts(manifest["split"]),
        "views": _counts(manifest["view"]),
        "licences": _counts(manifest["licence"]),
        "acquisition": {name: int(n) for name in ACQUISITION if (n := manifest[name].notna().sum())},
        "masks": {
            name: {"images": int(manifest[f"mask_{name}"].notna().sum()), "classes": classes.get(name)}
            for name in masks
        },
        "texts": {name: int(n) for name in TEXTS if (n := manifest[name].notna().sum())},
        "synthetic": kinds[0] if len(kinds) == 1 else "mixed",
        "warnings": _counts(manifest["warnings"].dropna().str.split("; ").explode()),
    }


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in values.value_counts().items()}
