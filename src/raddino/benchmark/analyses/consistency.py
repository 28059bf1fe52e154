"""Consistency: are two images of one study, or of one patient, nearer to each other than to a stranger's?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.robustness import cosines
from raddino.benchmark.analyses.rows import measured, unmeasured, weighted_mean
from raddino.metrics.bootstrap import PatientBootstrap
from raddino.metrics.ranking import Floats, auroc

STRANGERS, MOST_PAIRS = 5, 2000
TASK = "features"


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that belong together, each with strangers for its second image.

    Attributes:
        kind: ``"same view"`` or ``"different views"``, of one ``"study"`` or one ``"patient"``.
        first, second: (P,) rows in the corpus.
        strangers: (P, STRANGERS) rows of other patients' images, of the source and view of ``second``.
        patients: (P,) whose pair it is.
    """

    kind: str
    first: np.ndarray
    second: np.ndarray
    strangers: np.ndarray
    patients: np.ndarray


def consistency(context: Context) -> list[Row]:
    """Cosine of CLS features over pairs of test images of one study, against pairs with another patient.

    Where the corpus knows no studies, pairs are of one patient. Each pair (a, b) is set against pairs (a, c) with five
    images c of other patients, drawn from b's source and view, so that neither tells the pairs apart; a pair for
    which there is no such image is left out. ``cosine_same`` and ``cosine_stranger`` are means, ``auroc_same`` is the
    AUROC of the cosine for "belongs together". ``n`` counts pairs; at most 2,000 are drawn. Intervals resample the
    patients of the pairs, the strangers stay.
    """
    groups = find_pairs(context)
    if not groups:
        reason = "no test image has a second one of its study or patient, with a stranger of like source and view"
        return [unmeasured(None, TASK, "auroc_same", reason, pairs=None)]
    rows: list[Row] = []
    for pairs in groups:
        bootstrap = PatientBootstrap(pairs.patients, context.resamples, context.seed)
        for encoder in context.scores:
            rows += _rows(context, encoder, pairs, bootstrap)
    return rows


def find_pairs(context: Context) -> list[Pairs]:
    """Pairs by kind, each pair once; empty where there are none."""
    test = np.unique(np.concatenate([one.rows[one.at["test"]] for one in context.examples]))
    table = context.corpus.manifest.iloc[test]
    patient = table["patient"].fillna(table["id"]).astype(str).to_numpy()
    studies = "study" in table and table["study"].notna().any()
    unit, together = ("study", table["study"]) if studies else ("patient", table["patient"])
    views = table["view"] if "view" in table else table["id"].map(lambda _: None)
    view = views.fillna("unknown").astype(str).to_numpy()
    like = table["source"].astype(str).to_numpy() + "/" + view
    draw = np.random.default_rng(context.seed)
    found: dict[str, list[tuple[int, int, np.ndarray]]] = {}
    members = [np.sort(at) for _, at in sorted(_positions(together.to_numpy()).items())]
    pairs = [pair for at in members for pair in combinations(at.tolist(), 2)]
    for index in np.sort(draw.permutation(len(pairs))[:MOST_PAIRS]):
        a, b = pairs[index]
        strangers = np.flatnonzero((like == like[b]) & (patient != patient[a]))
        if len(strangers):
            kind = f"{'same view' if view[a] == view[b] else 'different views'}, one {unit}"
            found.setdefault(kind, []).append((a, b, draw.choice(strangers, STRANGERS)))
    return [
        Pairs(kind, test[[a for a, _, _ in some]], test[[b for _, b, _ in some]],
              test[np.stack([c for _, _, c in some])], patient[[a for a, _, _ in some]])
        for kind, some in sorted(found.items())
    ]  # fmt: skip


def _positions(names: np.ndarray) -> dict[str, np.ndarray]:
    """Where each name stands, for names that stand twice or more."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if name is not None and name == name:
            found.setdefault(str(name), []).append(place)
    return {name: np.array(places) for name, places in found.items() if len(places) > 1}


def _rows(context: Context, encoder: str, pairs: Pairs, bootstrap: PatientBootstrap) -> list[Row]:
    features = context.features[encoder]
    first, second = features.take(pairs.first).cls, features.take(pairs.second).cls
    stranger = features.take(pairs.strangers.ravel()).cls
    same = cosines(first, second)
    apart = cosines(np.repeat(first, STRANGERS, axis=0), stranger).reshape(-1, STRANGERS)
    computed = {
        "cosine_same": partial(weighted_mean, same),
        "cosine_stranger": partial(weighted_mean, apart.mean(1)),
        "auroc_same": partial(_auroc, same, apart),
    }
    return [
        measured(
            context, encoder, TASK, metric, compute(None), bootstrap.distribution(compute),
            n=len(same), patients=bootstrap.patients, variant=pairs.kind, pairs=pairs.kind,
        )
        for metric, compute in computed.items()
    ]  # fmt: skip


def _auroc(same: Floats, apart: Floats, weights: Floats | None) -> Floats:
    drawn = np.ones(len(same)) if weights is None else weights
    target = np.repeat([1.0, 0.0], [len(same), apart.size])
    spread = np.repeat(drawn, apart.shape[1], axis=-1)
    return auroc(target, np.concatenate([same, apart.ravel()]), np.concatenate([drawn, spread], axis=-1))


ANALYSES.register("consistency")(consistency)
