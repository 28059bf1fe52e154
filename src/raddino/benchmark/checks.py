"""What would make an evaluation wrong before it starts: images that count twice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from raddino.errors import RaddinoError
from raddino.tasks.base import SPLITS

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
        raise RaddinoError(f"{len(twice)} id(s) stand for several images: {some(twice)}; {remedy}")
    if "sha256" not in manifest:
        return
    known = manifest[manifest["split"].isin(SPLITS) & manifest["sha256"].notna()]
    torn = known.groupby("sha256")["split"].transform("nunique") > 1
    if torn.any():
        images = sorted(known.loc[torn, "id"].astype(str))
        raise RaddinoError(
            f"{len(images)} images have pixels that stand in two splits: {some(images)}; {remedy}, or that gives "
            "all copies one patient"
        )


def some(words: Sequence[str]) -> str:
    """The first few of many words, and how many more there are."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
