"""Whether the ranking of the encoders holds at other sites."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.rows import Given, counts, draw_of, measured
from raddino.benchmark.results import LOWER_IS_BETTER
from raddino.errors import RaddinoError
from raddino.metrics.ranking import Floats
from raddino.metrics.stability import first_share, kendall_tau, rank_bounds, ranks
from raddino.tasks.base import Examples

INSIDE, EVERYWHERE = "inside", "all places"
METRIC = {"binary": "auroc", "multiclass": "auroc_macro_ovr", "regression": "mae"}
NO_SITE = "the ranking is of one place: give --train-on or --test-on, or --leave-one-site-out"
NO_RANKING = "a ranking takes two encoders that were measured on one task at two places"
SIMULTANEOUS = "all pairs together, largest studentised difference in resampled patients"
PERCENTILES = "percentiles of resampled patients, those of each place by themselves"
SHARE = "share of resamples"


@dataclass(frozen=True)
class Place:
    """One task at one place.

    Attributes:
        name: of the site, or :data:`INSIDE`.
        context: of the place.
        examples: of the task there.
        values: (E,) of the encoders that have a value at all places.
        samples: (R, E) in shared resamples of the patients of the place.
    """

    name: str
    context: Context
    examples: Examples
    values: Floats
    samples: Floats


def site_ranks(context: Context) -> list[Row]:
    """Each encoder's rank at each place, agreement of places, and how sure it is that the leader stays the leader.

    Rows of ``role`` ``"rank"``: an encoder's rank (1 is best) by the first metric of the kind, ``of``, whose value
    there is ``reached``; the intervals of all ranks of a place hold together
    (:func:`raddino.metrics.stability.rank_bounds`).
    ``"agreement"``: Kendall's tau-b of the rankings at ``site`` and ``other``. ``"leader"``: of the encoder that leads
    inside (where there is no inside, on average over the sites), the share of resampled patients of ``site`` in which
    it leads there, and of all together in which it leads everywhere; ``leads`` says whether it does as measured.

    Raises:
        RaddinoError: no other site, or no two encoders at two places.
    """
    if not context.sites:
        raise RaddinoError(NO_SITE)
    rows: list[Row] = []
    for task in _tasks(context):
        encoders, places = _places(context, task)
        if len(encoders) > 1 and len(places) > 1:
            rows += _ranks(task, encoders, places) + _agreement(task, places) + _leader(task, encoders, places)
    if not rows:
        raise RaddinoError(NO_RANKING)
    return rows


def _tasks(context: Context) -> list[str]:
    """Tasks as they are called inside."""
    away = [examples.config.name.removesuffix(f" at {site}") for site, there in context.sites.items()
            for examples in there.examples]  # fmt: skip
    return list(dict.fromkeys([*(one.config.name for one in context.examples), *away]))


def _places(context: Context, task: str) -> tuple[list[str], list[Place]]:
    found = []
    for site, there in context.places().items():
        called = task if site is None else f"{task} at {site}"
        found += [(site or INSIDE, there, one) for one in there.examples if one.config.name == called]
    encoders = [
        name for name in context.fingerprints
        if all(one.config.name in there.scores.get(name, {}) for _, there, one in found)
    ]  # fmt: skip
    places = []
    for name, there, one in found if len(encoders) > 1 else ():
        draw, metric = draw_of(there, [one]), METRIC[one.config.kind]
        statistics = [there.scores[encoder][one.config.name].statistics()[metric] for encoder in encoders]
        values = np.array([float(each.compute(None)) for each in statistics])
        if np.isfinite(values).all():
            samples = np.stack([draw.distribution([each]) for each in statistics], axis=1)
            places.append(Place(name, there, one, values, samples))
    return encoders, places


def _ranks(task: str, encoders: list[str], places: list[Place]) -> list[Row]:
    rows = []
    for place in places:
        metric = METRIC[place.examples.config.kind]
        better = metric not in LOWER_IS_BETTER
        found, drawn = ranks(place.values, better), ranks(place.samples, better)
        low, high = rank_bounds(place.values, place.samples, better)
        for at, encoder in enumerate(encoders):
            rows.append(measured(
                place.context, encoder, task, "rank", found[at], drawn[:, at], **counts(place.examples),
                given=Given(low[at], high[at], float(np.median(drawn[:, at])), SIMULTANEOUS),
                variant=f"{metric} at {place.name}", role="rank", site=place.name, of=metric,
                reached=float(place.values[at]), encoders=len(encoders),
            ))  # fmt: skip
    return rows


def _agreement(task: str, places: list[Place]) -> list[Row]:
    rows = []
    for one, other in combinations(places, 2):
        drawn = kendall_tau(one.samples, other.samples)
        drawn = drawn[np.isfinite(drawn)]
        tau = float(kendall_tau(one.values, other.values))
        if not np.isfinite(tau) or not len(drawn):
            continue
        low, median, high = np.quantile(drawn, [0.025, 0.5, 0.975])
        rows.append(measured(
            other.context, None, task, "kendall_tau", tau, drawn, **counts(other.examples),
            given=Given(min(low, tau), max(high, tau), median, PERCENTILES),
            variant=f"{one.name} and {other.name}", role="agreement", site=other.name, other=one.name,
        ))  # fmt: skip
    return rows


def _leader(task: str, encoders: list[str], places: list[Place]) -> list[Row]:
    better = METRIC[places[0].examples.config.kind] not in LOWER_IS_BETTER
    judged = places[0].values if places[0].name == INSIDE else np.mean([place.values for place in places], axis=0)
    best = int(np.argmax(judged if better else -judged))
    shares = {place.name: first_share(place.samples, best, better) for place in places}
    ahead = {one.name: bool(one.values[best] == (max if better else min)(one.values)) for one in places}
    shares[EVERYWHERE], ahead[EVERYWHERE] = np.prod(list(shares.values()), axis=0), all(ahead.values())
    return [
        measured(
            place.context, encoders[best], task, "leads", float(np.nanmean(share)), share, **counts(place.examples),
            given=Given(np.nan, np.nan, np.nan, SHARE), variant=name, role="leader", site=name, leads=ahead[name],
        )
        for name, share in shares.items()
        if np.isfinite(share).any()
        for place in [next((one for one in places if one.name == name), places[0])]
    ]  # fmt: skip


ANALYSES.register("site_ranks")(site_ranks)
