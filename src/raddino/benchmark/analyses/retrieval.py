"""Retrieval: do the nearest images of another patient have the finding of the query?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import (
    averaged,
    batches,
    draw_of,
    measured,
    only,
    parts_of,
    unmeasured,
    weighted_mean,
)
from raddino.metrics.ranking import Floats
from raddino.progress import track
from raddino.tasks.base import Examples, Statistic
from raddino.tasks.retrieval.task import Engine, average_precision_at_k, precision_at_k, search

KS = (1, 5, 10)
GALLERIES = {"train+val": ("train", "val"), "test": ("test",)}
Found = dict[tuple[str, str, int], Floats]
"""Values of the queries (Q,) by task, metric and k."""


def retrieval(
    context: Context,
    *,
    ks: Sequence[int] = KS,
    galleries: Sequence[str] = ("train+val",),
    engine: Engine = "auto",
) -> list[Row]:
    """Precision@k and mAP@k of every binary task, by cosine of CLS embeddings.

    Queries are the test images that have the finding, relevant are the gallery images that have it; images of the
    query's own patient, and images whose value is not known, are not in the gallery. ``n`` counts queries;
    ``chance`` is the precision of a gallery in random order. Intervals resample the queries' patients.

    Args:
        context: what was judged.
        ks: list lengths.
        galleries: ``"train+val"``, ``"test"`` (test images search each other), or both.
        engine: of :func:`~raddino.tasks.retrieval.task.search`.
    """
    rows: list[Row] = []
    for gallery in galleries:
        queries: dict[str, Examples] = {}
        chance: dict[str, float] = {}
        found: dict[str, Found] = {encoder: {} for encoder in context.scores}
        for group in track([group for group in batches(context) if group[0].config.kind == "binary"], "retrieve"):
            for one in group:
                positive = one.target[one.at["test"]] == 1
                queries[one.config.name], chance[one.config.name] = only(one, positive), _chance(one, gallery)
            for encoder in context.scores:
                found[encoder] |= _search(context, encoder, group, gallery, ks, engine)
        rows += _rows(context, gallery, queries, chance, found, ks)
    return rows


def _search(
    context: Context, encoder: str, group: list[Examples], gallery: str, ks: Sequence[int], engine: Engine
) -> Found:
    """One search for all findings of the same images."""
    first = group[0]
    cls = context.features[encoder].take(first.rows).cls
    asked, stored = first.at["test"], _stored(first, gallery)
    ranked = search(cls[asked], cls[stored], max(ks), first.patients[asked], first.patients[stored], engine)
    found: Found = {}
    for one in group:
        queries = one.target[asked] == 1
        target = np.append(one.target[stored] == 1, False)  # position -1, nothing left, is not relevant
        relevant, total = target[ranked[queries]], _relevant(one, gallery)[queries]
        for k in ks:
            found[one.config.name, "precision", k] = precision_at_k(relevant, k)
            found[one.config.name, "map", k] = average_precision_at_k(relevant, total, k)
    return found


def _stored(examples: Examples, gallery: str) -> np.ndarray:
    return np.sort(np.concatenate([examples.at[split] for split in GALLERIES[gallery]]))


def _relevant(examples: Examples, gallery: str) -> np.ndarray:
    """(N_test,) positives in each test image's gallery."""
    return _others(examples, gallery, examples.target)


def _others(examples: Examples, gallery: str, values: Floats) -> np.ndarray:
    """(N_test,) sum of ``values`` over the gallery without the test image's own patient."""
    stored = _stored(examples, gallery)
    _, codes = np.unique(examples.patients, return_inverse=True)
    own = np.bincount(codes[stored], values[stored], minlength=codes.max() + 1)
    return values[stored].sum() - own[codes[examples.at["test"]]]


def _chance(examples: Examples, gallery: str) -> float:
    """Mean share of positives in the queries' galleries."""
    queries = examples.target[examples.at["test"]] == 1
    size = _others(examples, gallery, np.ones(len(examples.rows)))[queries]
    if not queries.any() or not size.any():
        return float("nan")
    return float(np.mean(_relevant(examples, gallery)[queries][size > 0] / size[size > 0]))


def _rows(
    context: Context,
    gallery: str,
    queries: dict[str, Examples],
    chance: dict[str, float],
    found: dict[str, Found],
    ks: Sequence[int],
) -> list[Row]:
    rows: list[Row] = []
    for part in parts_of(context, queries):
        name, tasks = part.name, part.tasks
        members = [queries[task] for task in tasks]
        if not all(len(one.at["test"]) for one in members):
            rows.append(unmeasured(None, name, "precision", "no test image has the finding", gallery=gallery))
            continue
        draw = draw_of(context, members)
        n = len(np.unique(np.concatenate(draw.places)))
        for encoder, values in found.items():
            for metric in ("precision", "map"):
                for k in ks:
                    statistics = [Statistic(partial(weighted_mean, values[task, metric, k])) for task in tasks]
                    value = float(np.mean([one.compute(None) for one in statistics]))
                    if not np.isfinite(value):
                        reason = "no gallery image of another patient has the finding"
                        rows.append(unmeasured(encoder, name, f"{metric}@{k}", reason, gallery=gallery, k=k))
                        continue
                    rows.append(measured(
                        context, encoder, name, f"{metric}@{k}", value, draw.distribution(statistics),
                        n=n, patients=draw.bootstrap.patients, variant=f"gallery={gallery}", k=k, gallery=gallery,
                        chance=float(np.mean([chance[task] for task in tasks])) if metric == "precision" else None,
                        aggregate=len(tasks) > 1, **averaged(part),
                    ))  # fmt: skip
    return rows


ANALYSES.register("retrieval")(retrieval)
