"""Robustness: the same fitted probes on damaged test images, and how far the features move."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.corruptions import CORRUPTIONS, CorruptedCorpus
from raddino.benchmark.analyses.rows import (
    averaged,
    batches,
    counts,
    draw_of,
    measured,
    only,
    parts_of,
    probe_input,
    unmeasured,
    weighted_mean,
)
from raddino.benchmark.checks import some
from raddino.benchmark.measure import Average, Draw, carriers
from raddino.errors import RaddinoError, UnwritableError
from raddino.features.cache import FeatureSet
from raddino.features.extract import embed
from raddino.metrics.bootstrap import PatientBootstrap, interval
from raddino.metrics.ranking import Floats
from raddino.progress import track
from raddino.tasks.base import TASKS, Examples, Statistic
from raddino.tasks.probes import PROBES, Probe, Request

log = logging.getLogger(__name__)
IMAGES, MIN_CLASS = 200, 10
METRICS = {"binary": "auroc", "regression": "mae"}
MACRO, FEATURES = "binary tasks (macro)", "features"
Outputs = dict[str, tuple[Floats, Floats]]
"""Validation and test outputs (N,) by task, averaged over seeds."""


def robustness(context: Context, *, images: int = IMAGES, kinds: Sequence[str] | None = None) -> list[Row]:
    """AUROC or MAE under graded damage, and the cosine of damaged to clean CLS features.

    Test patients are drawn until ``images`` test images are together; only these are damaged and encoded again.
    The probe is that of the main table, fitted on clean training images. ``drop`` is how much worse than clean
    (``severity`` 0) the value is, positive = worse, with the paired interval over patients. Tasks with fewer than
    10 positives or negatives among those images are left out and listed. Rows with ``aggregate`` are unweighted means
    over the tasks in ``members``: the suite's macro averages, whose names say where they lack a task, or
    ``"binary tasks (macro)"`` of a suite that has none. The task ``"features"`` is the cosine.

    Args:
        context: what was judged.
        images: most test images to encode again, for each of 15 kinds and severities and each encoder.
        kinds: names of :data:`~.corruptions.CORRUPTIONS`; None for all.
    """
    kinds = tuple(CORRUPTIONS) if kinds is None else kinds
    chosen = drawn_images(context, images)
    parts = {one.config.name: only(one, np.isin(one.rows[one.at["test"]], chosen)) for one in context.examples}
    rows: list[Row] = []
    usable: dict[str, Examples] = {}
    for name, part in parts.items():
        if part.config.kind not in METRICS:
            continue
        if reason := _too_few(part):
            rows.append(unmeasured(None, name, METRICS[part.config.kind], reason, corruption=None, severity=None))
        else:
            usable[name] = part
    for encoder in context.scores:
        try:
            rows += _one(context, encoder, chosen, usable, kinds)
        except UnwritableError:
            raise
        except Exception as error:  # foreign code: whatever an encoder raises costs its own rows only
            log.warning("encoder %s failed on damaged images", encoder, exc_info=not isinstance(error, RaddinoError))
            reason = str(error) if isinstance(error, RaddinoError) else f"failed with {type(error).__name__}"
            rows.append(unmeasured(encoder, FEATURES, None, reason, corruption=None, severity=None))
    return rows


def drawn_images(context: Context, images: int) -> np.ndarray:
    """Rows of the test images of patients in random order, ascending, at most ``images`` (at least one patient's)."""
    test = np.unique(np.concatenate([one.rows[one.at["test"]] for one in context.examples]))
    manifest = context.corpus.manifest.iloc[test]
    patients = manifest["patient"].fillna(manifest["id"]).astype(str).to_numpy()
    names = np.random.default_rng(context.seed).permutation(np.unique(patients))
    place = {name: i for i, name in enumerate(names)}
    order = np.argsort([place[name] for name in patients], kind="stable")
    upto = np.searchsorted(np.sort([place[name] for name in patients]), range(len(names)), side="right")
    fitting = upto[upto <= images]
    return np.sort(test[order[: fitting[-1] if len(fitting) else upto[0]]])


def _too_few(part: Examples) -> str:
    target = part.target[part.at["test"]]
    if not len(target):
        return "none of the drawn test images has a value"
    if part.config.kind == "binary" and min(target.sum(), (1 - target).sum()) < MIN_CLASS:
        return f"fewer than {MIN_CLASS} positives or negatives among the drawn test images"
    return ""


def _one(
    context: Context, encoder: str, chosen: np.ndarray, drawn: dict[str, Examples], kinds: Sequence[str]
) -> list[Row]:
    usable = {name: part for name, part in drawn.items() if name in context.scores[encoder]}
    parts = [part for part in _parts(context, drawn) if usable.keys() >= set(part.tasks)]
    lost = [
        unmeasured(encoder, part.name, METRICS["binary"], reason, corruption=None, severity=None)
        for part in _parts(context, drawn)
        if len(part.tasks) > 1 and part not in parts
        and (reason := f"no value for {some([task for task in part.tasks if task not in usable])}")
    ]  # fmt: skip
    clean, judged = context.features[encoder].take(chosen), context.encoders[encoder]
    probes = _fit(context, encoder, usable)
    before = _outputs(context, encoder, clean, usable, probes)
    rows = lost + _rows(
        context, encoder, parts, usable, before, before, {"corruption": "clean", "severity": 0, "level": None}
    )
    damages = [(kind, *one) for kind in kinds for one in enumerate(CORRUPTIONS[kind].levels, start=1)]
    for kind, severity, level in track(damages, f"robustness {encoder}"):
        damaged = embed(
            cast(Any, CorruptedCorpus(context.corpus, kind, severity, context.seed)), judged,
            rows=chosen, batch_size=context.batch_size, precision=context.precision, cache=context.cache,
        )  # fmt: skip
        fields = {"corruption": kind, "severity": severity, "level": level, "unit": CORRUPTIONS[kind].unit}
        after = _outputs(context, encoder, damaged, usable, probes)
        rows += _rows(context, encoder, parts, usable, before, after, fields)
        rows.append(_cosine(context, encoder, clean, damaged, fields))
    return rows


def _fit(context: Context, encoder: str, usable: dict[str, Examples]) -> dict[str, tuple[Probe, int]]:
    """The probes of the main table again (the same data and seed give the same weights), and each task's label."""
    probes: dict[str, tuple[Probe, int]] = {}
    for group in batches(context):
        members = [one for one in group if one.config.name in usable]
        if not members:
            continue
        at = members[0].at
        x = probe_input(context.features[encoder].take(members[0].rows), context.suite.probe)
        y = np.stack([one.target for one in members], axis=1)
        train, val = ((x[at[split]], y[at[split]]) for split in ("train", "val"))
        labels = tuple(one.config.name for one in members)
        request = Request(TASKS[members[0].config.kind].loss, labels, context.seed, encoder=context.encoders[encoder])
        probe = PROBES[context.suite.probe.kind].fit(train, val, context.suite.probe, request)
        probes |= {one.config.name: (probe, label) for label, one in enumerate(members)}
    return probes


def _outputs(
    context: Context,
    encoder: str,
    features: FeatureSet,
    usable: dict[str, Examples],
    probes: dict[str, tuple[Probe, int]],
) -> Outputs:
    outputs: Outputs = {}
    for name, part in usable.items():
        probe, label = probes[name]
        x = probe_input(features.take(part.rows[part.at["test"]]), context.suite.probe)
        val = context.scores[encoder][name].val.mean(0)
        outputs[name] = val, probe.predict(x)[..., label].mean(0)
    return outputs


def _rows(
    context: Context,
    encoder: str,
    parts: Sequence[Average],
    usable: dict[str, Examples],
    before: Outputs,
    after: Outputs,
    fields: dict[str, Any],
) -> list[Row]:
    rows: list[Row] = []
    for part in parts:
        members = [usable[task] for task in part.tasks]
        draw, metric = draw_of(context, members), METRICS[members[0].config.kind]
        clean, damaged = (
            [TASKS[one.config.kind].statistics(one, *outputs[one.config.name])[metric] for one in members]
            for outputs in (before, after)
        )
        sizes = counts(members[0]) if len(members) == 1 else _sizes(draw, members)
        value, samples = _value(damaged), draw.distribution(damaged)
        sign = 1 if metric == "mae" else -1
        drop, drawn = sign * (value - _value(clean)), sign * (samples - draw.distribution(clean))
        drops = interval(drop, drawn, carriers(members))
        rows.append(measured(
            context, encoder, part.name, metric, value, samples, **sizes, **averaged(part),
            variant=_variant(fields), aggregate=len(members) > 1, **fields,
            drop=drop, drop_low=drops.low, drop_high=drops.high,
        ))  # fmt: skip
    return rows


def _parts(context: Context, drawn: dict[str, Examples]) -> list[Average]:
    """The tasks, and the averages over them."""
    parts = parts_of(context, drawn)
    binary = [name for name, part in drawn.items() if part.config.kind == "binary"]
    return parts if context.suite.macro or len(binary) < 2 else [*parts, Average(MACRO, binary, len(binary))]


def _cosine(context: Context, encoder: str, clean: FeatureSet, damaged: FeatureSet, fields: dict[str, Any]) -> Row:
    cosine = cosines(clean.cls, damaged.cls)
    manifest = context.corpus.manifest.iloc[clean.rows]
    patients = manifest["patient"].fillna(manifest["id"]).astype(str).to_numpy()
    draw = PatientBootstrap(patients, context.resamples, context.seed)
    return measured(
        context, encoder, FEATURES, "cosine", float(cosine.mean()), draw.distribution(partial(weighted_mean, cosine)),
        n=len(cosine), patients=draw.patients, variant=_variant(fields), aggregate=False, **fields,
    )  # fmt: skip


def _value(statistics: Sequence[Statistic]) -> float:
    return float(np.mean([one.compute(None) for one in statistics]))


def _sizes(draw: Draw, members: Sequence[Examples]) -> dict[str, Any]:
    n = len(np.unique(np.concatenate(draw.places)))
    return {"n": n, "patients": draw.bootstrap.patients, "effective_n": carriers(members)}


def _variant(fields: dict[str, Any]) -> str:
    return f"{fields['corruption']} {fields['level']:g}" if fields["severity"] else "clean, drawn images"


def cosines(a: np.ndarray, b: np.ndarray) -> Floats:
    """(N,) cosine of the rows of two (N, D) arrays; 0 where either is a zero vector."""
    a, b = (np.asarray(x, dtype=np.float64) for x in (a, b))
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.maximum(length, 1e-12)


ANALYSES.register("robustness")(robustness)
