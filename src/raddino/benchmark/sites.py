"""External validation: which images an evaluation sees, trains on, and meets again at other sites; and the drop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.benchmark.absent import absence
from raddino.benchmark.cases import is_case_task
from raddino.benchmark.contamination import Tested
from raddino.benchmark.measure import Measured
from raddino.benchmark.suite import Suite
from raddino.corpus.combine import combine
from raddino.corpus.dataset import Corpus
from raddino.corpus.view import CorpusView
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.metrics.comparison import unpaired_interval
from raddino.tasks.base import Examples, select_examples

SHARED_TRAIN = "patients that training or selection saw"
SHARED_TEST = "patients that stand in the inside test split"
SAME_PIXELS = "pixels that training or selection saw"
NOT_PROBED = "only probes are measured at other sites; this task trains more than a probe"


@dataclass(frozen=True)
class Site:
    """Images that nothing was trained or selected on.

    Attributes:
        name: a source of the corpus, or the name of another corpus's folder.
        corpus: training and validation images are those of the inside, test images those of the site.
        left_out: images of the site that are not measured, by reason.
        beyond_test: sources of the measured images that stand in other splits than test of their corpus.
    """

    name: str
    corpus: Corpus
    left_out: dict[str, int] = field(default_factory=dict)
    beyond_test: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Population:
    """What an evaluation sees.

    Attributes:
        inside: the corpus that probes are trained, selected and first tested on.
        sites: where they are tested again.
        manifest: rows of the inside and of all sites.
        scope: what sets this apart from the corpus as a whole, for signatures; empty for the whole.
        train_on: sources of the inside; empty for all.
    """

    inside: Corpus
    sites: tuple[Site, ...]
    manifest: pd.DataFrame
    scope: str = ""
    train_on: tuple[str, ...] = ()

    def tested(self, all_splits: bool = False) -> Tested:
        """What an encoder is judged on; ``all_splits`` where every image is tested, in folds."""
        sources = sorted(self.manifest["source"].astype(str).unique())
        beyond = sources if all_splits else sorted(set().union(*(site.beyond_test for site in self.sites)))
        seen = [self.inside, *(site.corpus for site in self.sites)]
        tables = [one.manifest.iloc[one.rows(split=None if all_splits else "test")] for one in seen]
        return Tested(sources, self.inside.fingerprints, beyond, pd.concat(tables, ignore_index=True))

    def scope_at(self, site: str) -> str:
        """The scope of numbers of a site."""
        return f"{self.scope},test:{site}"


def populate(corpus: Corpus, plan: Suite) -> Population:
    """Which images the plan's ``where``, ``train_on`` and ``test_on`` let the evaluation see.

    A source of ``corpus`` is a site; so is the folder of another corpus, whole. All images of a site are tested, of
    all splits, unless one of its patients stands in training or validation: then its test split alone. Patients of
    the inside test split, and images whose pixels training or validation holds, are left out of it and counted.

    Raises:
        ConfigError: a name that is neither a source nor a corpus, one that is both trained and tested on, or nothing
            left to train on or to see.
        RaddinoError: corpora that cannot be combined, see :func:`~raddino.corpus.combine.combine`.
    """
    if not (plan.where or plan.train_on or plan.test_on):
        return Population(corpus, (), corpus.manifest)
    sources = corpus.manifest["source"].astype(str).to_numpy()
    known = list(dict.fromkeys(sources))
    folders = {name: Path(name) for name in plan.test_on if name not in known}
    for name, folder in folders.items():
        if not os.path.isfile(folder / "corpus.json"):
            hint = did_you_mean(name, known)
            raise ConfigError(
                f"test_on {name!r} is no source of the corpus and no corpus folder.{hint} Sources: {', '.join(known)}."
            )
    others = [Corpus.open(folder) for folder in folders.values()]
    whole = combine([corpus, *others]) if others else corpus
    seen = np.zeros(len(whole), bool)
    seen[whole.rows(where=plan.where)] = True
    if not seen.any():
        raise ConfigError("no image satisfies where: nothing to evaluate")
    if not (plan.train_on or plan.test_on):
        rows = np.flatnonzero(seen)
        return Population(CorpusView(whole, rows), (), whole.manifest.iloc[rows], f"where:{plan.where}")

    trained = plan.train_on or tuple(name for name in known if name not in plan.test_on)
    tested = plan.test_on or tuple(name for name in known if name not in trained)
    _check_names(trained, tested, known)
    part = np.repeat(np.arange(1 + len(others)), [len(corpus), *map(len, others)])
    own = part == 0
    inside = own & np.isin(np.concatenate([sources, *([""] * len(one) for one in others)]), trained) & seen
    at = {name: seen & (part == number) for number, name in enumerate(folders, start=1)}
    at |= {name: seen & own & (whole.manifest["source"] == name).to_numpy() for name in tested if name not in folders}
    view = CorpusView(whole, np.flatnonzero(inside))
    scope = f"train:{'+'.join(trained)}" + (f",where:{plan.where}" if plan.where else "")
    sites = tuple(_site(whole, inside, at[name], Path(name).resolve().name if name in folders else name)
                  for name in tested)  # fmt: skip
    names = [site.name for site in sites]
    if len(set(names)) < len(names):
        raise ConfigError(f"two sites are called {max(names, key=names.count)!r}: rename a folder")
    visible = np.flatnonzero(inside | np.any(list(at.values()), axis=0))
    return Population(view, sites, whole.manifest.iloc[visible], scope, trained)


def _check_names(trained: Sequence[str], tested: Sequence[str], known: Sequence[str]) -> None:
    for name in trained:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ConfigError(f"train_on {name!r} is no source of the corpus.{hint} Sources: {', '.join(known)}.")
    for option, listed in (("train_on", trained), ("test_on", tested)):
        if again := [name for name in listed if listed.count(name) > 1]:
            raise ConfigError(f"{again[0]!r} stands twice in {option}: name it once")
    if both := sorted(set(trained) & set(tested)):
        raise ConfigError(f"{both[0]!r} stands in train_on and in test_on: a site is one that nothing was trained on")
    if not trained or not tested:
        what = "train" if not trained else "test"
        raise ConfigError(f"no source is left to {what} on: the corpus holds {', '.join(known)}")


def _site(whole: Corpus, inside: np.ndarray, at: np.ndarray, name: str) -> Site:
    """The site of the rows ``at`` (N,) bool, without what the ``inside`` (N,) bool shares with it."""
    manifest = whole.manifest
    patient = manifest["patient"].fillna(manifest["id"]).astype(str)
    split = manifest["split"].astype(object).to_numpy(copy=True)
    fitted = inside & np.isin(split, ("train", "val"))
    kept, left_out = at.copy(), {}

    def leave_out(which: np.ndarray, reason: str) -> None:
        if count := int((kept & which).sum()):
            left_out[reason] = count
            kept[which] = False

    if patient[at].isin(patient[fitted]).any():
        leave_out(split != "test", SHARED_TRAIN + ": of this site the test split alone")
    leave_out(patient.isin(patient[fitted]).to_numpy(), SHARED_TRAIN)
    leave_out(patient.isin(patient[inside & ~fitted]).to_numpy(), SHARED_TEST)
    if "sha256" in manifest:
        leave_out(manifest["sha256"].isin(manifest.loc[fitted, "sha256"].dropna()).to_numpy(), SAME_PIXELS)
    beyond = frozenset(manifest["source"][kept & (split != "test")].astype(str))
    split[kept] = "test"
    return Site(name, CorpusView(whole, np.flatnonzero(fitted | kept), split), left_out, beyond)


def name_at(task: str, site: str) -> str:
    """How results call a task, or an aggregate, at a site."""
    return f"{task} at {site}"


@dataclass(frozen=True)
class Visit:
    """A task at a site.

    Attributes:
        inside: name of the task where it was trained.
        site: where it is tested.
        examples: those of the inside to train and select, those of the site to test.
    """

    inside: str
    site: Site
    examples: Examples

    def describe(self) -> dict[str, Any]:
        """What ``metrics.json`` says of the task beside what it says of every task."""
        left_out = {"left_out_at_site": self.site.left_out} if self.site.left_out else {}
        return {"site": self.site.name, "inside": self.inside, **left_out}


def visits(population: Population, examples: Iterable[Examples]) -> tuple[list[Visit], list[dict[str, Any]]]:
    """Every task at every site, and the reasons of those that cannot be measured there."""
    found: list[Visit] = []
    absent: list[dict[str, Any]] = []
    examples = list(examples)
    taken = {one.config.name for one in examples}
    for one in examples:
        for site in population.sites:
            name = name_at(one.config.name, site.name)
            if name in taken:
                raise ConfigError(f"a task is called {name!r}, as another is at a site: rename it")
            try:
                if is_case_task(one.config):
                    raise RaddinoError(NOT_PROBED)
                found.append(Visit(one.config.name, site, _examples_at(site, one, name)))
            except RaddinoError as error:
                absent.append(absence(name, None, f"site {site.name}: {error}"))
    return found, absent


def with_sites(examples: list[Examples], visited: list[Visit]) -> list[Examples]:
    """Every task inside, each followed by itself at the sites."""
    found = []
    for one in examples:
        found += [one, *(visit.examples for visit in visited if visit.inside == one.config.name)]
    return found


def _examples_at(site: Site, inside: Examples, name: str) -> Examples:
    config = inside.config.model_copy(update={"name": name})
    found = select_examples(site.corpus, config, whole=True)
    asked = len(site.corpus.rows(split="test", where=config.where))
    lacking = asked - len(found.at["test"])
    return replace(found, excluded={"no usable value": lacking} if lacking else {})


def add_drops(measured: Mapping[str, Mapping[str, Sequence[Measured]]], sites: Mapping[str, tuple[str, str]]) -> None:
    """Fill in ``site`` and ``drop`` of the rows of sites: value inside minus value there, other patients.

    Args:
        measured: by encoder and by task or aggregate.
        sites: by name of a task or aggregate at a site, its name inside and the site.
    """
    for by_task in measured.values():
        for name, (inside, site) in sites.items():
            at_home = {one.row["metric"]: one for one in by_task.get(inside, ())}
            for one in by_task.get(name, ()):
                one.row["site"], one.row["drop"] = site, None
                home = at_home.get(one.row["metric"])
                if home is not None and _tasks(home, site) == _tasks(one, None):
                    value = home.row["value"] - one.row["value"]
                    sides = [(row["value"], (row["low"], row["high"])) for row in (home.row, one.row)]
                    low, high = unpaired_interval(*sides[0], *sides[1])
                    one.row["drop"] = {"from": inside, "value": value, "low": low, "high": high}


def _tasks(one: Measured, site: str | None) -> list[str]:
    """Tasks that an aggregate averages, as they are called at ``site``."""
    tasks = one.row["detail"].get("tasks", [])
    return tasks if site is None else [name_at(task, site) for task in tasks]
