"""What an evaluation is asked for, checked before the work: the suite, the encoders, the examples of each task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from raddino.benchmark import analyses as _analyses  # noqa: F401  (registers them)
from raddino.benchmark.absent import absence, reason_of
from raddino.benchmark.analyses.base import ANALYSES
from raddino.benchmark.cases import is_case_task, with_options
from raddino.benchmark.contamination import Tested
from raddino.benchmark.results import identify, spec_word
from raddino.benchmark.suite import CrossValidation, Suite, derive_suite, load_suite, within
from raddino.encoders.base import ENCODERS, Encoder
from raddino.encoders.load import load_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.base import Examples, select_examples
from raddino.tasks.cases import CASE_TASKS
from raddino.tasks.fine_tuning.settings import FineTuneConfig, parse_fine_tune
from raddino.tasks.probes import ProbeConfig, parse_probe

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus


def plan_suite(
    corpus: Corpus,
    suite: str | Path | None,
    targets: list[str] | None,
    probe: str | Mapping[str, Any] | ProbeConfig | None,
    analyses: Sequence[str] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
    where: str | None = None,
    train_on: Sequence[str] | None = None,
    test_on: Sequence[str] | None = None,
    cross_validation: CrossValidation | None = None,
    fine_tune: Sequence[str | Mapping[str, Any] | FineTuneConfig] | None = None,
    leave_one_site_out: bool = False,
    encoders: int = 2,
) -> Suite:
    """The suite that was asked for, with the probe, analyses, sites and options that stand in for its own.

    ``where`` restricts the images further than the suite does. At other sites the ranking of
    several encoders over sites and calibration there are looked at unless ``analyses`` says otherwise.

    Raises:
        RaddinoError: a suite, target, probe, analysis or option is not known.
    """
    if suite is not None and targets is not None:
        raise ConfigError("give a suite or targets, not both")
    plan = load_suite(suite) if suite is not None else derive_suite(corpus.manifest, targets)
    if probe is not None:
        plan = plan.model_copy(update={"probe": parse_probe(probe)})
    if analyses is not None:
        plan = plan.model_copy(update={"analyses": tuple(analyses)})
    sites = {"train_on": train_on, "test_on": test_on}
    plan = plan.model_copy(update={key: tuple(names) for key, names in sites.items() if names is not None})
    if cross_validation is not None:
        plan = plan.model_copy(update={"cross_validation": cross_validation})
    if leave_one_site_out:
        plan = plan.model_copy(update={"leave_one_site_out": True})
    if analyses is None and (plan.train_on or plan.test_on or plan.leave_one_site_out):
        asked = {"site_ranks": encoders > 1, "calibration": any(task.kind == "binary" for task in plan.tasks)}
        own = [name for name, able in asked.items() if able]
        plan = plan.model_copy(update={"analyses": tuple(dict.fromkeys([*own, *plan.analyses]))})
    if fine_tune is not None:
        plan = plan.model_copy(update={"fine_tune": tuple(map(parse_fine_tune, fine_tune))})
    twice = [one.words for one in plan.fine_tune]
    if len(set(twice)) < len(twice):
        raise ConfigError(f"fine_tune names {max(twice, key=twice.count)!r} twice: name it once")
    if plan.fine_tune and plan.cross_validation:
        raise ConfigError("fine_tune trains one network, and cross-validation one of each fold: leave one of them out")
    plan = within(plan, where)
    for name in plan.analyses:
        ANALYSES[name]
    return with_options(plan, options or {})


def load_encoders(
    tested: Tested,
    encoders: Sequence[str | Path | Encoder],
    names: Sequence[str | None] | None,
    device: str,
) -> tuple[dict[str, Encoder], dict[str, dict[str, Any]], dict[str, dict[str, str]]]:
    """Encoders by display name, the identities of all, and the reasons of those that cannot be loaded.

    Args:
        tested: what they are judged on.
        encoders, names, device: see :func:`~raddino.benchmark.evaluate.evaluate`.

    Raises:
        RaddinoError: no encoder, a name that is not known, two encoders of one name.
    """
    if not encoders:
        raise ConfigError("no encoder to evaluate: give at least one, for example hog")
    names = names or [None] * len(encoders)
    if len(names) != len(encoders):
        raise ConfigError(f"{len(names)} names for {len(encoders)} encoders")
    loaded: dict[str, Encoder] = {}
    identities: dict[str, dict[str, Any]] = {}
    failures: dict[str, dict[str, str]] = {}
    for spec, chosen in zip(encoders, names, strict=True):
        encoder, reason = _open(spec, device)
        name = chosen or (encoder.name if encoder else spec_word(cast(str | Path, spec)))
        if name in identities:
            raise ConfigError(f"two encoders are called {name!r}: give each a name of its own, name=path")
        identities[name] = identify(name, encoder, spec, tested)
        if encoder:
            loaded[name] = encoder
        else:
            failures[name] = {"": reason}
    return loaded, identities, failures


def _open(spec: str | Path | Encoder, device: str) -> tuple[Encoder | None, str]:
    """The encoder, or why a known one cannot be loaded (weights missing, gated, damaged).

    Raises:
        RaddinoError: neither a known name nor a folder.
    """
    if not isinstance(spec, str | Path):
        return spec, ""
    try:
        return load_encoder(spec, device), ""
    except Exception as error:
        if str(spec).partition(":")[0] not in ENCODERS and not os.path.isdir(spec):
            raise
        return None, reason_of(f"encoder {spec_word(spec)}", error)


def select_all(corpus: Corpus, plan: Suite) -> tuple[list[Examples], list[dict[str, Any]]]:
    """Examples of every task that can be measured, and the reasons of those that cannot."""
    examples, absent = [], []
    for task in plan.tasks:
        try:
            select = CASE_TASKS[task.kind].select if is_case_task(task) else select_examples
            examples.append(select(corpus, task))
        except RaddinoError as error:
            absent.append(absence(task.name, None, str(error)))
    if not examples:
        reasons = "; ".join(f"{one['task']}: {one['reason']}" for one in absent)
        raise RaddinoError(f"no task can be measured on this corpus. {reasons}")
    return examples, absent
