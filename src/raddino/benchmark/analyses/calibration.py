"""Calibration: ECE and Brier score before and after temperature scaling, and the points of reliability diagrams."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.special import expit

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import counts, draw_of, measured
from raddino.benchmark.measure import Draw, Scores
from raddino.metrics.calibration import BINS, apply_temperature
from raddino.metrics.ranking import Floats, ratio

SUMMARIES = ("ece", "ece_temperature", "brier", "brier_temperature")


def calibration(context: Context) -> list[Row]:
    """How far the probabilities of every binary task can be taken at their word (evaluation.md, "Classification").

    Rows of ``role`` ``"summary"`` are ECE (15 equal bins) and Brier score, plain and with the temperature that
    validation chose. Rows of ``role`` ``"bin"`` are the reliability diagram: ``value`` is the observed share of
    positives with its interval over patients, ``predicted`` the mean probability, ``n`` the images of the bin and
    ``scaled`` whether the temperature was applied.
    """
    rows: list[Row] = []
    for examples in context.examples:
        if examples.config.kind != "binary":
            continue
        draw = draw_of(context, [examples])
        for encoder, by_task in context.scores.items():
            if examples.config.name in by_task:
                rows += _summaries(context, encoder, by_task[examples.config.name], draw)
    return rows


def _summaries(context: Context, encoder: str, scores: Scores, draw: Draw) -> list[Row]:
    statistics, examples = scores.statistics(), scores.examples
    temperature = statistics["ece_temperature"].detail["temperature"]
    rows = [
        measured(
            context, encoder, examples.config.name, metric, statistics[metric].compute(None),
            draw.distribution([statistics[metric]]), **counts(examples), role="summary", temperature=temperature,
        )
        for metric in SUMMARIES
    ]  # fmt: skip
    logit = scores.test.mean(0)
    for scaled, probability in ((False, expit(logit)), (True, apply_temperature(logit, temperature))):
        rows += _bins(context, encoder, scores, probability, scaled, draw)
    return rows


def _bins(context: Context, encoder: str, scores: Scores, probability: Floats, scaled: bool, draw: Draw) -> list[Row]:
    examples, at = scores.examples, scores.examples.at["test"]
    target, patients = examples.target[at], examples.patients[at]
    index = np.digitize(probability, np.arange(1, BINS) / BINS, right=True)  # bins (low, high], the first with 0
    rows = []
    for number in np.unique(index):
        inside = index == number
        share = partial(_share, target[inside], draw.places[0][inside])
        rows.append(measured(
            context, encoder, examples.config.name, "reliability", float(target[inside].mean()),
            draw.bootstrap.distribution(share), n=int(inside.sum()), patients=len(set(patients[inside])),
            positives=int(target[inside].sum()), variant=f"bin {number + 1} of {BINS}{', scaled' if scaled else ''}",
            role="bin", scaled=scaled, bin=int(number), predicted=float(probability[inside].mean()),
        ))  # fmt: skip
    return rows


def _share(target: Floats, place: np.ndarray, weights: Floats) -> Floats:
    drawn = weights[:, place]
    return ratio(drawn @ target, drawn.sum(-1))


ANALYSES.register("calibration")(calibration)
