"""Decision curves, and operating points at chosen sensitivities; inside and at other sites."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import counts, draw_of, measured, unmeasured
from raddino.benchmark.measure import Draw, Scores
from raddino.metrics import ranking
from raddino.metrics.bootstrap import interval
from raddino.metrics.calibration import apply_temperature
from raddino.metrics.decision import net_benefit
from raddino.metrics.ranking import Floats

THRESHOLDS = tuple(np.round(np.arange(1, 20) / 20, 2).tolist())
NOBODY = "no test image is called {called} at this threshold"
Metric = Callable[..., Floats]


def decision_curves(context: Context) -> list[Row]:
    """Net benefit of every binary task over the threshold probability (Vickers and Elkin 2006).

    Rows of ``role`` ``"model"``: ``value`` is the net benefit of acting on the probability, with the temperature that
    validation chose, at ``threshold``; ``gain`` what it is better by than the better of treating all and treating none,
    with the interval of that difference. ``"all"``: the net benefit of treating everybody, of no encoder; that of
    treating nobody is 0.
    """
    rows: list[Row] = []
    for site, there in context.places().items():
        for examples in there.examples:
            if examples.config.kind != "binary":
                continue
            draw, target = draw_of(there, [examples]), examples.target[examples.at["test"]]
            treat_all = np.ones(len(target))
            for threshold in THRESHOLDS:
                metric = partial(net_benefit, target, treat_all, threshold)
                rows.append(_row(there, None, draw, examples.config.name, metric, counts(examples), role="all",
                                 threshold=threshold, site=site, variant=f"all, {threshold:g}"))  # fmt: skip
            for encoder, by_task in there.scores.items():
                if examples.config.name in by_task:
                    rows += _curve(there, encoder, by_task[examples.config.name], draw, site)
    return rows


def _curve(context: Context, encoder: str, scores: Scores, draw: Draw, site: str | None) -> list[Row]:
    examples, target = scores.examples, scores.examples.target[scores.examples.at["test"]]
    temperature = scores.statistics()["brier_temperature"].detail["temperature"]
    probability, treat_all = apply_temperature(scores.test.mean(0), temperature), np.ones(len(target))
    held = counts(examples)
    rows = []
    for threshold in THRESHOLDS:
        ours, everybody = (partial(net_benefit, target, one, threshold) for one in (probability, treat_all))

        def gain(weights: Floats | None, a: Metric = ours, b: Metric = everybody) -> Floats:
            return a(weights=weights) - np.maximum(b(weights=weights), 0)

        row = _row(context, encoder, draw, examples.config.name, ours, held, role="model", threshold=threshold,
                   site=site, variant=f"{threshold:g}")  # fmt: skip
        bounds = interval(float(gain(None)), _drawn(draw, gain), held["effective_n"])
        rows.append(row | {"gain": float(gain(None)), "gain_low": bounds.low, "gain_high": bounds.high})
    return rows


def operating_points(context: Context) -> list[Row]:
    """Sensitivity, specificity and predictive values at the sensitivities that the suite names (``sensitivities``).

    The threshold is the highest at which the validation images have that sensitivity; ``threshold`` is the probability
    before temperature scaling. What test images, and those of other sites, have there stands in one row a metric.
    """
    rows: list[Row] = []
    for site, there in context.places().items():
        for examples in there.examples:
            if examples.config.kind == "binary":
                draw = draw_of(there, [examples])
                for encoder, by_task in there.scores.items():
                    if examples.config.name in by_task:
                        rows += _points(there, encoder, by_task[examples.config.name], draw, site)
    return rows


def _points(context: Context, encoder: str, scores: Scores, draw: Draw, site: str | None) -> list[Row]:
    examples = scores.examples
    (y_val, y), val, test = (
        [examples.target[examples.at[split]] for split in ("val", "test")], expit(scores.val.mean(0)),
        expit(scores.test.mean(0)),
    )  # fmt: skip
    rows = []
    for level in context.suite.sensitivities:
        threshold = ranking.threshold_at_sensitivity(y_val, val, level)
        made: dict[str, Metric] = {
            "sensitivity": partial(ranking.sensitivity, y, test, threshold),
            "specificity": partial(ranking.specificity, y, test, threshold),
            "ppv": partial(ranking.predictive_value, y, test, threshold),
            "npv": partial(ranking.predictive_value, y, test, threshold, positive=False),
        }
        for name, metric in made.items():
            fields = {"role": "point", "level": level, "threshold": threshold, "site": site}
            if not np.isfinite(metric(weights=None)):
                reason = NOBODY.format(called="positive" if name == "ppv" else "negative")
                rows.append(unmeasured(encoder, examples.config.name, name, reason, **fields))
                continue
            held = counts(examples) | {"effective_n": _behind(name, scores, test >= threshold)}
            rows.append(_row(context, encoder, draw, examples.config.name, metric, held, **fields, name=name,
                             variant=f"at sensitivity {level:g} of validation"))  # fmt: skip
    return rows


def _behind(metric: str, scores: Scores, positive: np.ndarray) -> int:
    """Patients whose images a share is of."""
    at = scores.examples.at["test"]
    target, patients = scores.examples.target[at], scores.examples.patients[at]
    of = {"sensitivity": target == 1, "specificity": target == 0, "ppv": positive, "npv": ~positive}
    return len(set(patients[of[metric]]))


def _row(
    context: Context, encoder: str | None, draw: Draw, task: str, metric: Metric, held: dict[str, Any],
    name: str = "net_benefit", **fields: Any,
) -> Row:  # fmt: skip
    samples = _drawn(draw, lambda weights: metric(weights=weights))
    return measured(context, encoder, task, name, metric(weights=None), samples, **held, **fields)


def _drawn(draw: Draw, metric: Callable[[Floats], Floats]) -> Floats:
    return draw.bootstrap.distribution(lambda weights: metric(weights[:, draw.places[0]]))


ANALYSES.register("decision_curves")(decision_curves)
ANALYSES.register("operating_points")(operating_points)
