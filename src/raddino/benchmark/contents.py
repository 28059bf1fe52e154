"""What ``metrics.json`` says beside the numbers: the corpus, what was left out of it, and the tasks."""

from __future__ import annotations

from typing import Any

from raddino.benchmark.analyses.base import Row
from raddino.benchmark.cases import public_suite
from raddino.benchmark.results import environment
from raddino.benchmark.schema import FORMAT
from raddino.benchmark.sites import Population, Visit
from raddino.benchmark.suite import Suite
from raddino.corpus.dataset import Corpus
from raddino.tasks.base import Examples


def contents(
    corpus: Corpus,
    population: Population,
    plan: Suite,
    seed: int,
    identities: dict[str, dict[str, Any]],
    tasks: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    absent: list[dict[str, Any]],
    analyses: dict[str, list[Row]],
) -> dict[str, Any]:
    """Contents of ``metrics.json``."""
    return {
        "format": FORMAT,
        "synthetic": corpus.info["synthetic"],
        "suite": public_suite(plan),
        "corpus": _corpus(corpus, population),
        "environment": environment(),
        "seed": seed,
        "encoders": list(identities.values()),
        "tasks": tasks,
        "rows": rows,
        "absent": absent,
        "analyses": analyses,
    }


def describe_task(corpus: Corpus, one: Examples, visited: list[Visit]) -> dict[str, Any]:
    """What ``metrics.json`` says of a task."""
    for visit in visited:
        if visit.examples is one:
            return one.describe() | visit.describe() | {"by_source": used_by_source(visit.site.corpus, one, "test")}
    return one.describe() | {"by_source": used_by_source(corpus, one)}


def used_by_source(corpus: Corpus, one: Examples, split: str | None = None) -> dict[str, dict[str, int]]:
    """Images that the task used and left out, of each source that it left one out of; of one split, or of all."""
    asked = corpus.rows(split, one.config.where)
    sources = corpus.manifest["source"].astype(str)
    rows = one.rows if split is None else one.rows[one.at[split]]
    used, all_of = sources.iloc[rows].value_counts(), sources.iloc[asked].value_counts()
    counts = {
        name: {"used": int(used.get(name, 0)), "left_out": int(n - used.get(name, 0))} for name, n in all_of.items()
    }
    return {str(name): count for name, count in sorted(counts.items()) if count["left_out"]}


def _corpus(corpus: Corpus, population: Population) -> dict[str, Any]:
    manifest = population.manifest
    sites = {"train_on": list(population.train_on), "sites": [site.name for site in population.sites]}
    return {
        "name": corpus.path.name,
        "fingerprint": corpus.fingerprint,
        "images": len(manifest),
        "patients": int(manifest["patient"].nunique()),
        "sources": {str(source): int(n) for source, n in manifest["source"].value_counts().items()},
        "read": {key: corpus.info[key] for key in ("source", "fraction") if key in corpus.info},
        "left_out": _left_out(corpus.info),
        **(sites if population.sites else {}),
    }


def _left_out(info: dict[str, Any]) -> dict[str, Any]:
    """What ``prepare`` says of the images that are not in the corpus, and of what is not known of those that are."""
    notes = [*((info.get("source") or {}).get("notes") or []), *(info.get("notes") or [])]
    counts = {key: {str(why): int(n) for why, n in (info.get(key) or {}).items()} for key in ("skipped", "warnings")}
    return {**counts, "notes": [str(note) for note in notes]}
