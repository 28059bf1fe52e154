"""The corpora of a study: given ones opened and joined, or a synthetic sample drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from raddino.corpus.combine import combine
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError, RaddinoError
from raddino.files import write_text
from raddino.sample.generate import sample
from raddino.study.settings import Sample, Study


def open_corpora(
    study: Study, out: Path, corpora: Sequence[str] = (), evaluate_on: str | None = None, workers: int | None = None
) -> tuple[Corpus, Corpus]:
    """What is trained on and what is judged on.

    Args:
        study: whose own corpora are taken where none are given.
        out: folder of the study, for a sample that is drawn.
        corpora: folders or URLs instead of the study's.
        evaluate_on: instead of the study's.
        workers: processes that draw and pack.

    Raises:
        ConfigError: no corpus and no sample, or a corpus to judge on beside a sample.
        RaddinoError: a corpus that cannot be read or combined.
    """
    places, judged = list(corpora) or list(study.corpus), evaluate_on or study.evaluate_on
    if places:
        opened = [Corpus.open(place) for place in places]
        trained = opened[0] if len(opened) == 1 else combine(opened)
    elif study.sample is None:
        raise ConfigError("this study trains on your images: give --corpus FOLDER, made by 'raddino prepare'")
    else:
        trained = draw_corpus(study.sample, out / "sample", workers)
    return trained, Corpus.open(judged) if judged else trained


def draw_corpus(wanted: Sample, folder: Path, workers: int | None) -> Corpus:
    """A packed corpus of synthetic radiographs whose patients are dealt out to ``wanted.sources`` sources in turn."""
    dealt = f"{wanted.sources}{'-detectors' if wanted.detectors > 1 else ''}"
    place = folder / f"{wanted.images}x{wanted.side}-{dealt}-seed{wanted.seed}"
    images, packed = place / "images", place / "corpus"
    if (packed / "corpus.json").is_file():
        return Corpus.open(packed)
    sample(images, wanted.images, seed=wanted.seed, size=wanted.side, workers=workers, detectors=wanted.detectors)
    table = pd.read_csv(images / "manifest.csv", dtype=str)
    if wanted.sources > 1:
        turn = pd.factorize(table["patient_id"])[0] % wanted.sources
        table["source"] = [f"synthetic-{ascii_lowercase[one]}" for one in turn]
    write_text(images / "sources.csv", table.to_csv(index=False))
    return prepare(images / "sources.csv", packed, shorter_side=wanted.side, workers=workers)


def largest_sources(corpus: Corpus, count: int) -> list[str]:
    """The ``count`` sources with the most training images, by name among equals; fewer lie within more.

    Raises:
        RaddinoError: the corpus has fewer.
    """
    manifest = corpus.manifest
    images = manifest.loc[manifest["split"] == "train", "source"].astype(str).value_counts()
    names = sorted(images.index, key=lambda name: (-int(images[name]), name))
    if not 1 <= count <= len(names):
        raise RaddinoError(f"{count} sources of a corpus that trains on {len(names)}: {', '.join(names)}")
    return names[:count]


def sources_of(corpus: Corpus) -> list[str]:
    """Names of the sources, sorted."""
    return sorted(str(name) for name in corpus.manifest["source"].unique())
