"""Every source in turn as the other site: trained on all others, tested on it, and the average over sites."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.benchmark.absent import absence, reason_of
from raddino.benchmark.analyses.base import ANALYSES, Context
from raddino.benchmark.cases import is_case_task, slug
from raddino.benchmark.contamination import gravest
from raddino.benchmark.measure import adjust
from raddino.benchmark.results import Results
from raddino.benchmark.sites import NOT_PROBED, Population, populate
from raddino.benchmark.suite import Suite
from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError, RaddinoError
from raddino.files import writing
from raddino.metrics.signature import Signature
from raddino.progress import about

Judge = Callable[[Population, Suite, Path], tuple[Results, Context]]
FOLDER = "left_out"
RANKS = "site_ranks"
INTERVAL = "of the sites' intervals, whose patients are independent"


def leave_one_out(corpus: Corpus, plan: Suite, out: Path, judge: Judge) -> Results:
    """Train and select on all sources but one, test on that one, each in turn.

    Each turn is a whole evaluation in ``out/left_out/SOURCE``. The results gather them: ``TASK at SOURCE`` is the value
    there of probes that never saw it, ``TASK without SOURCE`` that of the same probes inside, and ``TASK over sites``
    the mean over the sources, with an interval for the patients of these sites, and the standard deviation over sites.

    Args:
        corpus: of at least three sources.
        plan: what is asked for, without sites.
        out: the results' folder.
        judge: what evaluates one turn.

    Raises:
        ConfigError: sites or folds are asked for too, or there are fewer than three sources.
        RaddinoError: no turn can be judged.
    """
    if plan.train_on or plan.test_on or plan.cross_validation:
        other = "cross_validation" if plan.cross_validation else "train_on or test_on"
        raise ConfigError(f"leave_one_site_out takes every source in turn: leave {other} out")
    seen = corpus.rows(where=plan.where)
    sources = sorted(corpus.manifest["source"].iloc[seen].astype(str).unique())
    if len(sources) < 3:
        raise ConfigError(f"leaving one site out takes three sources; the corpus holds {', '.join(sources) or 'none'}")
    lost = [absence(task.name, None, NOT_PROBED) for task in plan.tasks if is_case_task(task)]
    plan = plan.model_copy(
        update={"leave_one_site_out": False, "tasks": tuple(one for one in plan.tasks if not is_case_task(one))}
    )
    turns: dict[str, tuple[Results, Context]] = {}
    for source in sources:
        others = tuple(one for one in sources if one != source)
        asked = plan.model_copy(update={"train_on": others, "test_on": (source,)})
        with about(f"without {source}"):
            try:
                turns[source] = judge(populate(corpus, asked), asked, out / FOLDER / slug(source))
            except ConfigError:
                raise
            except RaddinoError as error:
                lost.append(absence(None, None, reason_of(f"site {source}", error)))
    if not turns:
        raise RaddinoError(f"no site can be left out: {lost[-1]['reason']}")
    data = _gather({source: results.data for source, (results, _) in turns.items()}, sources, lost)
    if RANKS in plan.analyses:
        _rank(data, [context for _, context in turns.values()])
    results = Results(out, data, pd.concat(
        [_named(one.predictions, source) for source, (one, _) in turns.items()], ignore_index=True
    ))  # fmt: skip
    results.withdraw()
    with writing(out):
        for folder in ("probes", "cases"):
            shutil.rmtree(out / folder, ignore_errors=True)
    results.save()
    return results


def fresh(encoders: Sequence[Any]) -> list[Any]:
    """The encoders of one turn: what is fitted on the inside has to be fitted anew where the inside is another."""
    return [copy.deepcopy(one) if hasattr(one, "fit") else one for one in encoders]


def without(task: str, source: str) -> str:
    """How results call a task inside, while ``source`` is left out."""
    return f"{task} without {source}"


def _gather(turns: Mapping[str, dict[str, Any]], sources: Sequence[str], lost: list[dict[str, Any]]) -> dict[str, Any]:
    data = copy.deepcopy(next(iter(turns.values())))
    rows: list[dict[str, Any]] = []
    tasks: list[dict[str, Any]] = []
    absent = list(lost)
    analyses: dict[str, list[dict[str, Any]]] = {}
    for source, one in turns.items():
        called = _names(one, source)
        for row in one["rows"]:
            drop = row.get("drop")
            moved = {"drop": {**drop, "from": called.get(drop["from"], drop["from"])}} if drop else {}
            inside = {} if row.get("site") else {"without": source}
            rows.append({**row, "task": called.get(row["task"], row["task"]), **moved, **inside})
        for task in one["tasks"]:
            inside = {"inside": called[task["inside"]]} if "inside" in task else {}
            tasks.append({**task, "name": called.get(task["name"], task["name"]), **inside})
        absent += [gap | {"task": called.get(gap["task"], gap["task"])} for gap in one["absent"]]
        for name, found in one["analyses"].items():
            if name != RANKS:
                kept = [row for row in found if row.get("site")] or found
                analyses.setdefault(name, []).extend(
                    row | {"task": called.get(row["task"], row["task"])} for row in kept
                )
    rows += _over_sites(rows, sources)
    adjust([row for row in rows if row["difference"] and "p" in row["difference"]])
    unique = list({tuple(sorted((key, str(value)) for key, value in gap.items())): gap for gap in absent}.values())
    data |= {"rows": _ordered(rows), "tasks": tasks, "absent": unique, "analyses": analyses}
    data["encoders"] = [_identity([one["encoders"][at] for one in turns.values()], list(turns))
                        for at in range(len(data["encoders"]))]  # fmt: skip
    data["corpus"] |= {"train_on": list(sources), "sites": list(turns), "left_out_in_turn": True}
    data["suite"] |= {"train_on": [], "test_on": [], "leave_one_site_out": True}
    return data


def _names(one: dict[str, Any], source: str) -> dict[str, str]:
    """What the tasks and averages of one turn are called among those of all; those of the site keep their names."""
    at_site = {row["task"] for row in one["rows"] if row.get("site")}
    at_site |= {task["name"] for task in one["tasks"] if task.get("site")}
    known = {row["task"] for row in one["rows"]} | {task["name"] for task in one["tasks"]}
    known |= {gap["task"] for gap in one["absent"] if gap["task"] and not gap["task"].endswith(f" at {source}")}
    return {name: without(name, source) for name in known - at_site}


def _named(predictions: pd.DataFrame, source: str) -> pd.DataFrame:
    inside = ~predictions["task"].str.endswith(f" at {source}")
    return predictions.assign(
        task=predictions["task"].where(~inside, predictions["task"].map(lambda name: without(name, source)))
    )


def _over_sites(rows: list[dict[str, Any]], sources: Sequence[str]) -> list[dict[str, Any]]:
    """The unweighted mean over sites of each number that at least two of them have."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("site"):
            base = row["task"].removesuffix(f" at {row['site']}")
            found.setdefault((base, row["encoder"], row["metric"]), []).append(row)
    complete = {
        (base, metric): max(len(own) for (task, _, key), own in found.items() if (task, key) == (base, metric))
        for base, _, metric in found
    }
    means = []
    for (base, encoder, metric), own in found.items():
        if len(own) < max(2, complete[base, metric]):
            continue
        value = np.array([row["value"] for row in own])
        low, high = (np.array([row[side] for row in own], dtype=float) for side in ("low", "high"))
        below, above = (float(np.sqrt(((value - side) ** 2).sum()) / len(own)) for side in (low, high))
        first, mean = own[0], float(value.mean())
        name = f"{base} over sites" if len(own) == len(sources) else f"{base} over {len(own)} of {len(sources)} sites"
        positives = [row["positives"] for row in own]
        n = sum(row["n"] for row in own)
        total = sum(positives) if None not in positives else None
        signature = Signature(
            metric=metric, split="test", n=n, positives=total, prevalence=None if total is None else total / n,
            patients=sum(row["patients"] for row in own), resamples=first["resamples"], seed=first["seed"],
            encoder_fingerprint=first["encoder_fingerprint"], data_fingerprint=first["data_fingerprint"],
            interval=INTERVAL, labelling=first["labelling"], members=tuple(row["task"] for row in own),
            listed=len(sources), scope="each site left out in turn",
        )  # fmt: skip
        means.append({
            "task": name, "encoder": encoder, "value": mean, "low": mean - below, "high": mean + above,
            "median": mean, "undefined_resamples": 0, "excluded": sum(row["excluded"] or 0 for row in own),
            "seeds": first["seeds"], "seed_mean": float(np.mean([row["seed_mean"] for row in own])), "seed_sd": None,
            "difference": None,
            "detail": {"tasks": [row["task"] for row in own], "site_sd": float(value.std(ddof=1))},
        } | signature.to_dict())  # fmt: skip
    return means


def _ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Averages over sites first, then what they average, then the insides."""
    place = {row["task"]: (2, 1)[bool(row.get("site"))] for row in rows}
    return sorted(rows, key=lambda row: 0 if "site_sd" in row["detail"] else place[row["task"]])


def _identity(turns: list[dict[str, Any]], sources: list[str]) -> dict[str, Any]:
    """One encoder over all turns: of each source, what is said where it was left out."""
    first = turns[0]
    prints = {one["fingerprint"] for one in turns}
    contamination = {
        source: one["contamination"][source]
        for source, one in zip(sources, turns, strict=True)
        if source in one["contamination"]
    }
    recognised = {
        source: one["recognised"][source]
        for source, one in zip(sources, turns, strict=True)
        if source in (one.get("recognised") or {})
    }
    return {**first, "fingerprint": first["fingerprint"] if len(prints) == 1 else None, "contamination": contamination,
            "recognised": recognised, "seen": gravest(contamination)}  # fmt: skip


def _rank(data: dict[str, Any], contexts: list[Context]) -> None:
    """Rank stability over the sites, each under the probes that never saw it."""
    sites = {name: there for context in contexts for name, there in context.sites.items()}
    fingerprints = {name: one for context in reversed(contexts) for name, one in context.fingerprints.items()}
    whole = replace(contexts[0], examples=(), scores={}, sites=sites, fingerprints=fingerprints)
    data["absent"] = [gap for gap in data["absent"] if gap.get("analysis") != RANKS]
    try:
        data["analyses"] = {RANKS: ANALYSES[RANKS](whole), **data["analyses"]}
    except RaddinoError as error:
        data["absent"].append(absence(None, None, reason_of(f"analysis {RANKS}", error)) | {"analysis": RANKS})
