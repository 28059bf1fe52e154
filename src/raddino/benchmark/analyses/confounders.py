"""Confounders: what features say of how and where images were taken, and what is left of findings without that."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from raddino.benchmark.analyses.base import ANALYSES, Context, Row
from raddino.benchmark.analyses.groups import ACQUIRED, Attribute, attributes
from raddino.benchmark.analyses.rows import (
    counts,
    distribution_on,
    draw_of,
    linear,
    measured,
    only,
    probe_input,
    restrict,
    unmeasured,
)
from raddino.benchmark.analyses.subgroups import suppression
from raddino.benchmark.measure import Draw, Scores, carriers
from raddino.errors import RaddinoError
from raddino.metrics.bootstrap import interval
from raddino.metrics.ranking import Floats, auroc, stratified_auroc
from raddino.tasks.base import MIN_TEST_PATIENTS, SPLITS, Examples, Statistic, TaskConfig
from raddino.tasks.probes import fit_linear_probe

CONFOUNDERS = ("view", "source", "device", *ACQUIRED)
MIN_IMAGES = 10
"""Test images that a group and its complement need for the probe of the confounder itself."""


def confounders(context: Context) -> list[Row]:
    """How much of a finding's AUROC may come from how and where the image was taken.

    For each of view, source, device present and how the image was taken (:data:`~.groups.ACQUIRED`), by ``role``:

    * ``"readable"``: AUROC of a linear probe for the confounder itself; each group against the rest, and their
      unweighted mean (``group`` None; alone where there are two groups, which say the same);
    * ``"alone"``: AUROC for the finding of the confounder and nothing else, each image scored with the finding's
      prevalence among training images of its group (no encoder);
    * ``"crude"``: AUROC of the encoder's probe on all test images whose group is known;
    * ``"stratum"``: the same within one group, suppressed as in :mod:`.subgroups`;
    * ``"stratified"``: share of pairs of a positive and a negative image *of the same group* that the probe ranks
      rightly, the mean of the within-group AUROCs weighted by their numbers of pairs (Janes and Pepe 2008, the
      covariate-adjusted AUC). ``drop`` is crude minus stratified, with its paired interval.

    A confounder with one group only is listed with that as the reason.
    """
    rows: list[Row] = []
    used = np.unique(np.concatenate([one.rows for one in context.examples]))
    for confounder in attributes(context.corpus.manifest, CONFOUNDERS):
        present = {group for group in confounder.groups[used] if group is not None}
        if len(present) < 2:
            reason = f"all images have {confounder.name} {next(iter(present), 'unknown')}"
            rows.append(unmeasured(None, confounder.name, None, reason, confounder=confounder.name, role="constant"))
            continue
        rows += _readable(context, confounder, used)
        for examples in context.examples:
            if examples.config.kind == "binary" and not confounder.is_target_of(examples.config):
                rows += _with_and_without(context, examples, confounder)
    return rows


def _readable(context: Context, confounder: Attribute, used: np.ndarray) -> list[Row]:
    """Probe the confounder with all its groups in one fit."""
    present = {group for group in confounder.groups[used] if group is not None}
    known = used[[group is not None for group in confounder.groups[used]]]
    groups, split = confounder.groups[known], context.corpus.manifest["split"].astype(str).to_numpy()[known]
    test = split == "test"
    tested = [
        name for name in sorted(set(groups)) if all(
            min((groups[split == one] == name).sum(), (groups[split == one] != name).sum())
            >= (MIN_IMAGES if one == "test" else 1) for one in SPLITS
        )
    ]  # fmt: skip
    members = [_ask(context, confounder, known, split, groups, name) for name in tested]
    if not members or len(set(members[0].patients[test])) < MIN_TEST_PATIENTS:
        reason = f"no group with {MIN_IMAGES} test images inside and outside of it"
        return [unmeasured(None, confounder.name, "auroc", reason, confounder=confounder.name, role="readable")]
    rows: list[Row] = []
    draw, at = draw_of(context, members), members[0].at
    y = np.stack([one.target for one in members], axis=1)
    for encoder in context.scores:
        x = probe_input(context.features[encoder].take(known), linear(context))
        train, val = ((x[at[one]], y[at[one]]) for one in ("train", "val"))
        try:
            probe = fit_linear_probe(train, val, "logistic", linear(context), context.seed)
        except RaddinoError as error:
            fields = {"confounder": confounder.name, "role": "readable"}
            rows.append(unmeasured(encoder, confounder.name, "auroc", str(error), **fields))
            continue
        output = probe.predict(x[at["test"]]).mean(0)
        statistics = [Statistic(partial(auroc, y[at["test"], i], output[:, i])) for i in range(len(members))]
        parts: dict[str | None, list[int]] = {None: [0] if len(present) == 2 else list(range(len(tested)))}
        if len(present) > 2:
            parts |= {name: [i] for i, name in enumerate(tested)}
        for group, chosen in parts.items():
            samples = np.mean([draw.bootstrap.distribution(statistics[i].compute) for i in chosen], axis=0)
            value = float(np.mean([statistics[i].compute(None) for i in chosen]))
            size = counts(members[chosen[0]]) | {"effective_n": carriers([members[i] for i in chosen])}
            size |= {} if group else {"positives": None}
            rows.append(measured(
                context, encoder, confounder.name, "auroc", value, samples, **size,
                variant=f"{confounder.name}{f'={group}' if group else ''}",
                confounder=confounder.name, group=group, groups=len(tested), role="readable",
            ))  # fmt: skip
    return rows


def _ask(
    context: Context, confounder: Attribute, rows: np.ndarray, split: np.ndarray, groups: np.ndarray, name: str
) -> Examples:
    """The task "is this image of group ``name``?"."""
    frame = context.corpus.manifest.iloc[rows]
    return Examples(
        config=TaskConfig(name=f"{confounder.name}={name}", target=confounder.columns[0], kind="binary"),
        rows=rows,
        target=(groups == name).astype(np.float64),
        split=split,
        ids=frame["id"].astype(str).to_numpy(),
        patients=frame["patient"].fillna(frame["id"]).astype(str).to_numpy(),
    )


def _with_and_without(context: Context, examples: Examples, confounder: Attribute) -> list[Row]:
    at = examples.at["test"]
    groups = confounder.groups[examples.rows]
    known = np.array([group is not None for group in groups[at]])
    part = only(examples, known)
    target, strata = examples.target[at][known], groups[at][known]
    if len(set(strata)) < 2 or len(set(target)) < 2:
        reason = f"test images with this label and a known {confounder.name} have one {confounder.name} or one value"
        fields = {"confounder": confounder.name, "role": "constant"}
        return [unmeasured(None, examples.config.name, "auroc", reason, **fields)]
    draw = draw_of(context, [examples])
    alone = _prevalence(examples, groups)[known]
    common: dict[str, Any] = {"confounder": confounder.name, "group": None}
    rows = [
        measured(
            context, None, examples.config.name, "auroc", auroc(target, alone),
            distribution_on(draw, known, partial(auroc, target, alone)),
            **counts(part), variant=f"{confounder.name} alone", role="alone", **common,
        )
    ]  # fmt: skip
    for encoder, by_task in context.scores.items():
        if examples.config.name in by_task:
            scores = by_task[examples.config.name]
            for name in sorted(set(strata)):
                rows.append(_stratum(context, encoder, scores, groups[at] == name, confounder.name, name, draw))
            rows += _pooled(context, encoder, restrict(scores, known), strata, confounder.name, known, draw)
    return rows


def _prevalence(examples: Examples, groups: np.ndarray) -> Floats:
    """(N_test,) share of positives among training images of the same group; overall where there are none."""
    train, test = examples.at["train"], examples.at["test"]
    result = np.full(len(test), examples.target[train].mean())
    for name in {group for group in groups[train] if group is not None}:
        result[groups[test] == name] = examples.target[train][groups[train] == name].mean()
    return result


def _pooled(
    context: Context,
    encoder: str,
    scores: Scores,
    strata: np.ndarray,
    confounder: str,
    known: np.ndarray,
    draw: Draw,
) -> list[Row]:
    examples, score = scores.examples, scores.test.mean(0)
    target = examples.target[examples.at["test"]]
    crude, within = partial(auroc, target, score), partial(stratified_auroc, target, score, strata)
    drawn = [distribution_on(draw, known, compute) for compute in (crude, within)]
    values = [float(compute(None)) for compute in (crude, within)]
    common = {**counts(examples), "confounder": confounder, "group": None}
    if not np.isfinite(values[1]):
        fields = {"confounder": confounder, "role": "stratified"}
        reason = f"no {confounder} has positives and negatives"
        return [unmeasured(encoder, examples.config.name, "auroc", reason, **fields)]
    drop = interval(values[0] - values[1], drawn[0] - drawn[1], carriers([examples]))
    name = examples.config.name
    return [
        measured(
            context, encoder, name, "auroc", values[0], drawn[0],
            variant=f"{confounder} known", role="crude", **common,
        ),
        measured(
            context, encoder, name, "auroc", values[1], drawn[1],
            variant=f"within {confounder}", role="stratified", **common,
            drop=values[0] - values[1], drop_low=drop.low, drop_high=drop.high,
        ),
    ]  # fmt: skip


def _stratum(
    context: Context, encoder: str, scores: Scores, inside: np.ndarray, confounder: str, name: str, draw: Draw
) -> Row:
    task, part = scores.examples.config.name, restrict(scores, inside)
    target = part.examples.target[part.examples.at["test"]]
    fields: dict[str, Any] = {"confounder": confounder, "group": name, "role": "stratum"}
    reason = suppression(scores.examples, inside) or ("" if target.min() == 0 else "all images are positive")
    if reason:
        return unmeasured(encoder, task, "auroc", reason, **fields)
    compute = partial(auroc, target, part.test.mean(0))
    return measured(
        context, encoder, task, "auroc", compute(None), distribution_on(draw, inside, compute),
        **counts(part.examples), variant=f"{confounder}={name}", **fields,
    )  # fmt: skip


ANALYSES.register("confounders")(confounders)
