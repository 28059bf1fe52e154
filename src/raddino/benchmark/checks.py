"""What an evaluation refuses or says before and after the work: images that count twice, probes that do not fit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from raddino.errors import RaddinoError, counted
from raddino.progress import subject
from raddino.tasks.base import SPLITS

if TYPE_CHECKING:
    from raddino.encoders.base import Encoder
    from raddino.tasks.probes import ProbeConfig

SHOWN = 5


def check_images(manifest: pd.DataFrame) -> None:
    """Refuse a manifest in which two images share an id, or the same pixels stand in two splits.

    Args:
        manifest: of a corpus; without a column ``sha256`` (of the pixels) only the ids are checked.

    Raises:
        RaddinoError: names the images by their ids, which are keyed hashes.
    """
    remedy = "prepare the corpus again from a manifest that lists each image once"
    twice = sorted(manifest.loc[manifest["id"].duplicated(), "id"].astype(str).unique())
    if twice:
        raise RaddinoError(f"{counted(len(twice), 'id', 'stand')} for several images: {some(twice)}; {remedy}")
    if "sha256" not in manifest:
        return
    known = manifest[manifest["split"].isin(SPLITS) & manifest["sha256"].notna()]
    torn = known.groupby("sha256")["split"].transform("nunique") > 1
    if torn.any():
        images = sorted(known.loc[torn, "id"].astype(str))
        raise RaddinoError(
            f"{counted(len(images), 'image', 'have')} pixels that stand in two splits: {some(images)}; {remedy}, "
            "or that gives all copies one patient"
        )


def misfit(encoder: Encoder, probe: ProbeConfig) -> str:
    """Why a probe cannot read an encoder at all, known before anything is computed; empty when it can."""
    if getattr(encoder, "supervised", False):
        return f"{subject(encoder.name)} is trained on masks and has no features to probe"
    if probe.kind == "zero_shot" and not hasattr(encoder, "encode_text"):
        return f"{subject(encoder.name)} has no text encoder, which zero_shot asks: use another probe"
    if probe.features == "grid" and getattr(encoder, "laid_out", False):
        return ""
    if probe.features != "cls" and encoder.grid is None:
        remedy = "use another probe" if probe.features == "patches" else "let the probe read features: cls"
        return f"{subject(encoder.name)} has no patch features: {remedy}"
    return ""


def without_differences(rows: Sequence[dict[str, Any]], measured: Collection[str], asked: Collection[str]) -> list[str]:
    """Why differences are missing, or are to another encoder than the first that was asked for.

    Args:
        rows: of the results.
        measured: display names of the encoders that have values; the first is the reference.
        asked: those of all encoders.
    """
    said = []
    first, reference = next(iter(asked)), next(iter(measured))
    if first != reference and len(measured) > 1:
        said.append(f"{first} has no value at all, so all differences are to {reference}")
    has: dict[str, set[str]] = {}
    for row in rows:
        has.setdefault(row["task"], set()).add(row["encoder"])
    lacking = [task for task, encoders in has.items() if reference not in encoders]
    if lacking:
        said.append(f"none on {some(lacking)}: {reference}, to which they are taken, has no value there")
    return said


def some(words: Sequence[str]) -> str:
    """The first few of many words, and how many more there are."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
