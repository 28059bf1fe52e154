"""What an encoder saw of the test images before it met them, as far as its record and the user tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from raddino.corpus.sources.lineage import Overlap, overlap
from raddino.encoders.base import Provenance
from raddino.encoders.seen_images import SeenImages
from raddino.errors import ConfigError, did_you_mean

CLEAN, HELD_OUT, DECLARED, UNKNOWN = "clean", "held out", "declared held out", "unknown"
MAY_BE, PARTLY, IMAGES, LABELS = "may be seen", "partly seen", "image seen", "label seen"
RECOGNISED = "recognised"
MEANING = {
    CLEAN: "no data set of the pre-training holds these images",
    HELD_OUT: "pre-trained on other splits of this very corpus, known by its fingerprint",
    DECLARED: "whoever ran the evaluation declares that these test images were not pre-trained on; nothing proves it",
    UNKNOWN: "what was pre-trained on is not on record, or not all of it",
    MAY_BE: "a data set of the pre-training may hold some of these images",
    PARTLY: "a part of this data set was pre-trained on",
    RECOGNISED: "some of these very test images were pre-trained on, known by their pixels, whatever the record says",
    IMAGES: "images of this data set were pre-trained on, without labels",
    LABELS: "images of this data set were pre-trained on, with labels or reports",
}
"""What can be said of the test images of a source, the mildest first."""
GRAVITY = tuple(MEANING)
SEEN = frozenset({MAY_BE, PARTLY, RECOGNISED, IMAGES, LABELS})
"""Of these an encoder does not compete on equal terms, or may not."""


@dataclass(frozen=True)
class Tested:
    """What an evaluation tests on.

    Attributes:
        sources: under any of their names (:mod:`raddino.corpus.sources.lineage`).
        fingerprints: of the corpora.
        beyond_test: sources of which images of other splits are tested too: at another site, or in folds.
        images: rows of a manifest, the tested ones.
    """

    sources: Sequence[str]
    fingerprints: Collection[str]
    beyond_test: Collection[str] = ()
    images: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"source": []}))


def recognised(seen: SeenImages | None, tested: Tested) -> dict[str, dict[str, int]] | None:
    """How many test images of each source an encoder was trained on, by their pixels.

    Args:
        seen: the encoder's; None where it does not tell, and so is what is returned.
        tested: what it is judged on.

    Returns:
        by source, ``images`` that are tested and ``seen`` of them.
    """
    if seen is None:
        return None
    held = pd.Series(seen.holds(tested.images)).groupby(tested.images["source"].astype(str).to_numpy())
    return {source: {"images": len(some), "seen": int(some.sum())} for source, some in held}


def contamination(
    provenance: Provenance, tested: Tested, found: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, str]:
    """A word of :data:`MEANING` for the tested images of each source.

    Every training in the record is judged by itself, those of the weights that it started from too, and the gravest
    word counts. A training that saw the tested corpora (by fingerprint) and no other is judged by the splits it saw;
    otherwise a source counts as a whole, because who trained on a part of it may have seen the test images.

    Args:
        provenance: of the encoder.
        tested: what it is judged on.
        found: what :func:`recognised` gives; makes a word graver, never milder.
    """
    words = {}
    for source in tested.sources:
        said = [_word(one, source, tested) for one in provenance.trainings]
        said += [RECOGNISED] if found and found.get(source, {}).get("seen") else []
        words[source] = max(said, key=GRAVITY.index)
    return words


def declare(identities: Mapping[str, dict[str, Any]], held_out: Mapping[str, Sequence[str]]) -> None:
    """Write into the identities what the user declares not to have been trained on.

    Args:
        identities: by display name, with ``contamination``, ``seen`` and what :func:`recognised` gives.
        held_out: by display name of an encoder, sources whose test images were kept from its training.

    Raises:
        ConfigError: no such encoder, no such source in the corpus, or test images that it is known to have seen.
    """
    for name, sources in held_out.items():
        if name not in identities:
            raise ConfigError(f"held_out: no encoder is called {name!r}.{did_you_mean(name, list(identities))}")
        words = identities[name]["contamination"]
        for source in sources:
            if source not in words:
                known = ", ".join(words)
                raise ConfigError(f"held_out: the corpus has no source {source!r}; it has {known}")
            if ((identities[name].get("recognised") or {}).get(source) or {}).get("seen"):
                raise ConfigError(
                    f"held_out: {name} was trained on test images of {source}, known by their pixels: leave it out"
                )
            if words[source] not in (CLEAN, HELD_OUT):
                words[source] = DECLARED
        identities[name]["seen"] = gravest(words)


def gravest(words: Mapping[str, str]) -> str:
    """The gravest word of all sources, ``"unknown"`` where there is none."""
    return max(words.values(), key=GRAVITY.index, default=UNKNOWN)


def _word(training: Provenance, source: str, tested: Tested) -> str:
    """What one training saw of a source."""
    if training.sources is None:
        return UNKNOWN
    most = max((overlap(seen, source) for seen in training.sources), default=Overlap.NONE)
    corpora = training.corpora or {}
    if most == Overlap.NONE:
        return CLEAN
    same = corpora and set(corpora) <= set(tested.fingerprints) and source not in tested.beyond_test
    if same and not any("test" in splits for splits in corpora.values()):
        return HELD_OUT
    whole = LABELS if training.supervision in ("labels", "text") else IMAGES
    return {Overlap.MAY: MAY_BE, Overlap.PART: PARTLY, Overlap.WHOLE: whole}[most]
