"""Label noise: labels that out-of-fold probes confidently contradict."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import linear, measured, unmeasured, weighted_mean
from raddino.benchmark.cross_validation import probe_folds
from raddino.benchmark.suite import CrossValidation
from raddino.errors import RaddinoError
from raddino.metrics.bootstrap import PatientBootstrap
from raddino.metrics.label_noise import Suspects, suspect_labels
from raddino.metrics.scales import SHARE
from raddino.progress import track
from raddino.tasks.base import Examples
from raddino.tasks.probes import Request

FOLDS = CrossValidation(folds=5, repeats=1)
LISTED = 100
"""Suspects that are listed of a task and encoder, the largest margin first; all are counted."""


def label_noise(context: Context) -> list[Row]:
    """Suspect labels of every binary and multiclass task, of all its images: training, validation and test.

    Patients are dealt out into five folds; the linear probe that judges a fold saw none of its patients. Rows of
    ``role`` ``"share"``: ``value`` is the share of the labels that are suspect
    (:func:`raddino.metrics.label_noise.suspect_labels`), ``suspects`` their number with ``fewest`` and ``most`` from
    the interval over patients; with ``group`` among the labels of one class. ``"suspect"``: ``value`` is the margin of
    one image, ``id`` its name in the corpus, ``given`` and ``suggested`` the classes, ``agree`` the encoders that doubt
    it.
    """
    tasks = [one for one in context.examples if one.config.kind in ("binary", "multiclass")]
    found: dict[str, dict[str, Suspects]] = {one.config.name: {} for one in tasks}
    rows: list[Row] = []
    for examples in track(tasks, "label noise"):
        task = examples.config.name
        for encoder in context.scores:
            try:
                found[task][encoder] = suspect_labels(examples.target, _out_of_fold(context, encoder, examples))
            except (RaddinoError, ValueError) as error:
                rows.append(unmeasured(encoder, task, "suspect_share", str(error), role="share"))
        for encoder, one in found[task].items():
            rows += _shares(context, encoder, examples, one)
            rows += _listed(context, encoder, examples, one, list(found[task].values()))
    return rows


def _out_of_fold(context: Context, encoder: str, examples: Examples) -> np.ndarray:
    """(N, K) probabilities of probes that saw neither an image nor another of its patient."""
    config = linear(context).model_copy(update={"seeds": 1})
    asked = partial(Request, encoder=context.encoders.get(encoder))
    output = probe_folds(context.features[encoder], examples, config, FOLDS, asked, context.seed).output
    if examples.classes:
        return softmax(output, axis=1)
    positive = expit(output)
    return np.stack([1 - positive, positive], axis=1)


def _shares(context: Context, encoder: str, examples: Examples, one: Suspects) -> list[Row]:
    draw = PatientBootstrap(examples.patients, context.resamples, context.seed)
    rows = []
    for group in (None, *range(len(_classes(examples)))):
        among = np.ones(len(examples.target), bool) if group is None else examples.target == group
        flags = np.where(among, one.suspect.astype(float), np.nan)
        samples = draw.distribution(partial(weighted_mean, flags))
        n, value = int(among.sum()), float(one.suspect[among].mean())
        row = measured(
            context, encoder, examples.config.name, "suspect_share", value, samples, n=n,
            patients=len(set(examples.patients[among])), scale=SHARE, split="all",
            variant="" if group is None else f"label={_classes(examples)[group]}", role="share",
            suspects=int(one.suspect[among].sum()), group=None if group is None else _classes(examples)[group],
        )  # fmt: skip
        rows.append(row | {"fewest": round(row["low"] * n, 1), "most": round(row["high"] * n, 1)})
    return rows


def _listed(context: Context, encoder: str, examples: Examples, one: Suspects, every: list[Suspects]) -> list[Row]:
    names, sources = _classes(examples), context.corpus.manifest["source"].astype(str).to_numpy()
    order = sorted(np.flatnonzero(one.suspect), key=lambda at: (-one.margin[at], examples.ids[at]))
    nothing: dict[str, Any] = dict.fromkeys(("low", "high", "median"))
    return [
        {
            "encoder": encoder, "task": examples.config.name, "metric": "margin", "value": float(one.margin[at]),
            **nothing, "n": 1, "patients": 1, "role": "suspect", "id": str(examples.ids[at]),
            "split": str(examples.split[at]), "source": sources[examples.rows[at]],
            "given": names[int(examples.target[at])], "suggested": names[int(one.suggested[at])],
            "agree": sum(bool(each.suspect[at]) for each in every), "signature": "margin of one image, out of fold",
        }
        for at in order[:LISTED]
    ]  # fmt: skip


def _classes(examples: Examples) -> tuple[str, ...]:
    """Names of the labels; of a text column the positive value, and what it is not."""
    positive = examples.config.positive
    return examples.classes or (("0", "1") if positive is None else (f"not {positive}", str(positive)))


ANALYSES.register("label_noise")(label_noise)
