"""Calibration, inside and at other sites: in the large, Cox's intercept and slope, ECE, Brier, reliability diagrams."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import counts, draw_of, measured, unmeasured
from raddino.benchmark.measure import Draw, Scores
from raddino.metrics.calibration import BINS, apply_temperature, brier, expected_calibration_error
from raddino.metrics.ranking import Floats, ratio
from raddino.metrics.recalibration import (
    Recalibrate,
    calibration_intercept,
    calibration_slope,
    cross_fitted,
    fit_intercept,
    fit_platt,
    in_the_large,
)

SUMMARIES = ("ece", "ece_temperature", "brier", "brier_temperature")


RECALIBRATIONS: dict[str, Recalibrate] = {"intercept": fit_intercept, "platt": fit_platt}
UNDEFINED = "its logits separate the classes, so that no finite slope is the likeliest"


def calibration(context: Context) -> list[Row]:
    """How far the probabilities of every binary task can be taken at their word, inside and at each other site.

    Rows of ``role`` ``"summary"`` are ECE (15 equal bins) and Brier score, plain and with the temperature that
    validation chose; those of ``"cox"`` what :mod:`raddino.metrics.recalibration` makes of the plain probabilities:
    observed minus expected, calibration intercept and slope. At other sites those of ``"recalibrated"`` are all of
    them again, cross-fitted by patient of the site, with the intercept alone and with Platt's two parameters. Rows of
    ``role`` ``"bin"`` are the reliability diagram: ``value`` is the observed share of positives with its interval over
    patients, ``predicted`` the mean probability, ``n`` the images of the bin and ``scaled`` whether the temperature was
    applied.
    """
    rows: list[Row] = []
    for site, there in context.places().items():
        for examples in there.examples:
            if examples.config.kind != "binary":
                continue
            draw = draw_of(there, [examples])
            for encoder, by_task in there.scores.items():
                if examples.config.name in by_task:
                    found = by_task[examples.config.name]
                    made = _summaries(there, encoder, found, draw) + _cox(there, encoder, found, draw)
                    made += _recalibrated(there, encoder, found, draw) if site is not None else []
                    rows += [row | {"site": site} for row in made]
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


def _cox(context: Context, encoder: str, scores: Scores, draw: Draw) -> list[Row]:
    logit = scores.test.mean(0)
    made = {
        "in_the_large": partial(in_the_large, probability=expit(logit)),
        "calibration_intercept": partial(calibration_intercept, logit=logit),
        "calibration_slope": partial(calibration_slope, logit=logit),
    }
    return [_measure(context, encoder, scores, name, metric, draw, role="cox") for name, metric in made.items()]


def _recalibrated(context: Context, encoder: str, scores: Scores, draw: Draw) -> list[Row]:
    examples, at = scores.examples, scores.examples.at["test"]
    rows = []
    for name, fit in RECALIBRATIONS.items():
        logit = cross_fitted(examples.target[at], scores.test.mean(0), examples.patients[at], fit, context.seed)
        probability = expit(logit)
        made = {
            "in_the_large": partial(in_the_large, probability=probability),
            "calibration_slope": partial(calibration_slope, logit=logit),
            "ece": partial(expected_calibration_error, probability=probability),
            "brier": partial(brier, probability=probability),
        }
        rows += [
            _measure(context, encoder, scores, metric, function, draw, role="recalibrated", recalibration=name)
            for metric, function in made.items()
        ]
    return rows


def _measure(context: Context, encoder: str, scores: Scores, name: str, metric: Any, draw: Draw, **fields: Any) -> Row:
    """A row of a ``metric`` that takes targets and weights of the test images."""
    examples, at = scores.examples, scores.examples.at["test"]
    compute = partial(metric, examples.target[at])
    value, how = float(compute(weights=None)), fields.get("recalibration")
    if not np.isfinite(value):
        return unmeasured(encoder, examples.config.name, name, UNDEFINED, **fields)
    samples = draw.bootstrap.distribution(lambda weights: compute(weights=weights[:, draw.places[0]]))
    return measured(
        context, encoder, examples.config.name, name, value, samples, **counts(examples),
        variant=f"recalibrated: {how}" if how else "", **fields,
    )  # fmt: skip


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
