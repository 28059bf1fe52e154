"""Rows of the analyses: a value with its interval and signature, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from raddino.benchmark.analyses.base import Context, Row
from raddino.benchmark.cases import CaseScores
from raddino.benchmark.measure import Average, Draw, Scores, averages, carriers
from raddino.corpus.dataset import labelling
from raddino.errors import RaddinoError
from raddino.features.cache import FeatureSet
from raddino.metrics.bootstrap import interval
from raddino.metrics.ranking import Floats, ratio
from raddino.metrics.scales import Scale, method, scale_of
from raddino.metrics.signature import Signature
from raddino.tasks.base import Examples, Statistic
from raddino.tasks.probes import LinearConfig, ProbeConfig
from raddino.tasks.probes.read import pick


@dataclass(frozen=True)
class Given:
    """An interval, NaN where there is none, and how it came about."""

    low: float
    high: float
    median: float
    method: str


Judged = TypeVar("Judged", bound=Scores | CaseScores)
NO_ENCODER = "none"
"""Fingerprint in the signature of what is measured without an encoder."""


def measured(
    context: Context,
    encoder: str | None,
    task: str,
    metric: str,
    value: float | Floats,
    samples: Floats,
    *,
    n: int,
    patients: int,
    effective_n: int | None = None,
    scale: Scale | None = None,
    variant: str = "",
    positives: int | None = None,
    split: str = "test",
    members: tuple[str, ...] = (),
    listed: int = 0,
    protocol: str = "",
    given: Given | None = None,
    **fields: Any,
) -> Row:
    """A row with its 95 % interval.

    Args:
        context: where encoder and data fingerprints, resamples and seed come from.
        encoder: display name; None for what no encoder has a part in.
        task: of the suite, or what stands in its place.
        metric: name without variant, as the main table calls it.
        value: on the images as they are.
        samples: (R,) on resampled patients.
        n: images (or pairs, or queries, where ``fields`` say so); patients: behind them.
        effective_n: patients that carry the number; None for all.
        scale: of the interval; None for the metric's own.
        variant: what sets this number apart from others of the same metric, for example ``"sex=F"``.
        positives: of a binary target.
        split: that was measured.
        members, listed: of an average, see :func:`averaged`.
        protocol: what stands behind the encoder's fingerprint, see :class:`~raddino.benchmark.cases.CaseScores`.
        given: an interval that was made in another way.
        fields: of this analysis.
    """
    scale = scale or scale_of(metric)
    bounds = given or interval(value, samples, patients if effective_n is None else effective_n, scale, n)
    signature = Signature(
        metric=f"{metric}[{variant}]" if variant else metric,
        split=split,
        n=n,
        positives=positives,
        prevalence=None if positives is None else positives / n,
        patients=patients,
        resamples=context.resamples,
        seed=context.seed,
        encoder_fingerprint=NO_ENCODER
        if encoder is None
        else "/".join(filter(None, [context.fingerprints[encoder], protocol])),
        data_fingerprint=context.corpus.fingerprint,
        interval=given.method if given else method(scale),
        labelling=labelling(context.corpus),
        members=members,
        listed=listed,
        scope=context.scope,
    )
    return {
        "encoder": encoder,
        "task": task,
        **signature.to_dict(),
        "metric": metric,
        "variant": variant,
        "value": float(value),
        "low": bounds.low,
        "high": bounds.high,
        "median": bounds.median,
        **fields,
    }


def unmeasured(encoder: str | None, task: str, metric: str | None, reason: str, **fields: Any) -> Row:
    """A row that says why there is no number; counts are left out, they may be of very few patients."""
    nothing = dict.fromkeys(("value", "low", "high", "median", "n", "patients", "positives"))
    words = f"{metric or 'nothing'}|not measured: {reason}"
    return {
        "encoder": encoder,
        "task": task,
        "metric": metric,
        **nothing,
        "reason": reason,
        "signature": words,
    } | fields


def counts(examples: Examples) -> dict[str, Any]:
    """``n``, ``patients``, ``effective_n`` and ``positives`` of the test images, as :func:`measured` takes them."""
    at = examples.at["test"]
    binary = examples.config.kind == "binary"
    return {
        "n": len(at),
        "patients": len(set(examples.patients[at])),
        "effective_n": carriers([examples]),
        "positives": int(examples.target[at].sum()) if binary else None,
    }


def only(examples: Examples, keep: np.ndarray) -> Examples:
    """The examples without the test images that ``keep`` (N_test,) leaves out; train and validation stay."""
    inside = np.ones(len(examples.rows), dtype=bool)
    inside[examples.at["test"]] = keep
    columns = {name: getattr(examples, name)[inside] for name in ("rows", "target", "split", "ids", "patients")}
    return replace(examples, **columns)


def restrict(scores: Judged, keep: np.ndarray) -> Judged:
    """The same predictions, or records, of the kept test images (N_test,) alone; what was chosen stays as it is."""
    if isinstance(scores, CaseScores):
        cases = replace(scores.cases, records=scores.cases.records[keep].reset_index(drop=True))
        return replace(scores, examples=only(scores.examples, keep), cases=cases)
    return replace(scores, examples=only(scores.examples, keep), test=scores.test[:, keep])


def draw_of(context: Context, examples: Sequence[Examples]) -> Draw:
    """The resampled patients of the main table for the test images of these tasks."""
    return Draw.of(examples, context.resamples, context.seed)


def distribution_on(draw: Draw, keep: np.ndarray, compute: Callable[[Floats], Floats]) -> Floats:
    """(R,) of ``compute`` on the weights (R, kept) of some test images of a task, in the resamples of all of them."""
    place = draw.places[0][keep]
    return draw.bootstrap.distribution(lambda weights: compute(weights[:, place]))


def batches(context: Context) -> Iterator[list[Examples]]:
    """Tasks of one kind on the same images, which one probe fit can take together."""
    groups: dict[tuple[str, bytes], list[Examples]] = {}
    for one in context.examples:
        groups.setdefault((one.config.kind, one.rows.tobytes()), []).append(one)
    yield from groups.values()


def linear(context: Context) -> LinearConfig:
    """The suite's linear probe; the default one where the suite probes otherwise."""
    return context.suite.probe if isinstance(context.suite.probe, LinearConfig) else LinearConfig()


def probe_input(features: FeatureSet, config: ProbeConfig) -> np.ndarray:
    """(N, D) that a probe of image embeddings reads.

    Raises:
        RaddinoError: the probe reads single patches, or a mean of patches that the encoder does not have.
    """
    if config.features == "patches":
        raise RaddinoError(f"the {config.kind} probe reads single patches; this analysis has image embeddings only")
    return pick(features.cls, features.mean_patch, config.features)


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """The unweighted mean of statistics of the same images."""

    def compute(weights: Floats | None) -> Floats:
        return np.mean([one.compute(weights) for one in statistics], axis=0)

    return Statistic(compute)


def weighted_mean(values: Floats, weights: Floats | None) -> Floats:
    """Mean of the values (N,) that are not NaN, under weights (..., N) or None for ones; NaN where none is drawn."""
    defined = np.isfinite(values)
    drawn = np.ones(len(values)) if weights is None else weights
    return ratio(drawn[..., defined] @ values[defined], drawn[..., defined].sum(-1))


def parts_of(context: Context, present: Collection[str]) -> list[Average]:
    """The tasks that are ``present``, then the suite's averages over two of them and more."""
    means = [one for one in averages(context.suite.macro, present) if len(one.tasks) > 1]
    return [*(Average(task, [task]) for task in present), *means]


def averaged(part: Average) -> dict[str, Any]:
    """What :func:`measured` takes of an average for the signature; nothing of a single task."""
    return {"members": tuple(part.tasks), "listed": part.listed} if len(part.tasks) > 1 else {}
