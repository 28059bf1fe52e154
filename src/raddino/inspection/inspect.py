"""``inspect``: every check over one corpus or several, and ``inspect.csv``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from raddino.corpus.dataset import Corpus
from raddino.errors import ConfigError, RaddinoError, counted
from raddino.files import draft_of
from raddino.inspection.base import CHECKS, SEVERITIES, Check, Finding, Severity
from raddino.inspection.measures import measure
from raddino.inspection.text import STROKES
from raddino.inspection.text_check import Text

SHOWN_FACTS = ("source", "split", "view")


@dataclass(frozen=True)
class Inspection:
    """What was found in one corpus or several.

    Attributes:
        corpora: that were looked at.
        manifest: theirs, one below the other; ``corpus`` is the corpus' number and ``row`` the row in it.
        checks: that were made.
        findings: by severity, then reason, then falling probability.
        measures: by check, what it measured, row by row beside the manifest.
    """

    corpora: list[Corpus]
    manifest: pd.DataFrame
    checks: list[Check]
    findings: list[Finding]
    measures: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, tuple[Severity, str]]:
        """Every reason of the checks, the gravest first, to its severity and title."""
        all_of_them = {reason: told for check in self.checks for reason, told in check.reasons.items()}
        return dict(sorted(all_of_them.items(), key=lambda item: SEVERITIES.index(item[1][0])))

    @property
    def worst(self) -> Severity | None:
        """Severity of the gravest finding."""
        return self.reasons[self.findings[0].reason][0] if self.findings else None

    def of(self, reason: str) -> list[Finding]:
        """The findings of one reason."""
        return [finding for finding in self.findings if finding.reason == reason]


def inspect(
    corpora: Sequence[Corpus],
    *,
    checks: Sequence[str] | None = None,
    text_engine: str = STROKES,
    spare: Path | None = None,
    workers: int | None = None,
) -> Inspection:
    """Look at every image of packed corpora, and judge them together.

    Args:
        corpora: at least one, each folder once.
        checks: names; None for all.
        text_engine: what the check ``text`` looks with, of :data:`raddino.inspection.text.ENGINES`.
        spare: see :func:`raddino.inspection.measures.measure`.
        workers: processes; None for one a core. The result does not depend on it.

    Raises:
        ConfigError: a corpus twice, or none; an unknown engine, or one without the check ``text``.
        RaddinoError: an unknown check, or what :func:`~raddino.inspection.measures.measure` raises.
    """
    if not corpora:
        raise ConfigError("nothing to inspect: give at least one corpus")
    if len({corpus.path.resolve() for corpus in corpora}) < len(corpora):
        raise ConfigError("a corpus is given twice: give each once")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    chosen = [CHECKS[name] for name in dict.fromkeys(checks if checks is not None else CHECKS)]
    if text_engine != STROKES:
        chosen = _with_engine(chosen, text_engine)
    measured = [measure(corpus, chosen, spare, workers) for corpus in corpora]
    manifest = pd.concat(
        [corpus.manifest.assign(corpus=number, row=range(len(corpus))) for number, corpus in enumerate(corpora)],
        ignore_index=True,
    )
    joined = {check.name: pd.concat([tables[check.name] for tables in measured], ignore_index=True) for check in chosen}
    findings = []
    for check in chosen:
        for finding in check.judge(manifest, joined[check.name]):
            if finding.reason not in check.reasons:
                raise RaddinoError(f"check {check.name!r} found {finding.reason!r}, which is none of its reasons")
            findings.append(finding)
    inspection = Inspection(list(corpora), manifest, chosen, findings, joined)
    order = list(inspection.reasons)
    findings.sort(key=lambda one: (order.index(one.reason), -(one.probability or 0), one.row))
    return inspection


def _with_engine(chosen: list[Check], engine: str) -> list[Check]:
    looking = Text(engine)
    if all(check.name != Text.name for check in chosen):
        raise ConfigError(f"the text engine {engine!r} has nothing to do: give --check text too")
    return [looking if check.name == Text.name else check for check in chosen]


def write_csv(inspection: Inspection, path: Path) -> Path:
    """Write a row an image: corpus, id, source, split, view, and what was found.

    ``reasons``, ``probabilities``, ``partners`` (ids) and ``notes`` hold one part a finding, separated by ``;``, in one
    order.
    """
    names = [corpus.path.name for corpus in inspection.corpora]
    table = pd.DataFrame({"corpus": [names[number] for number in inspection.manifest["corpus"]]})
    ids = inspection.manifest["id"]
    table["id"] = ids
    for name in SHOWN_FACTS:
        table[name] = inspection.manifest.get(name)
    parts: dict[str, list[list[str]]] = {
        name: [[] for _ in range(len(table))] for name in ("reasons", "probabilities", "partners", "notes")
    }
    for finding in inspection.findings:
        parts["reasons"][finding.row].append(finding.reason)
        parts["probabilities"][finding.row].append("" if finding.probability is None else f"{finding.probability:.4f}")
        parts["partners"][finding.row].append("" if finding.partner is None else str(ids[finding.partner]))
        parts["notes"][finding.row].append(finding.said.replace(";", ","))
    for name, cells in parts.items():
        table[name] = [";".join(cell) for cell in cells]
    with draft_of(path) as draft:
        table.to_csv(draft, index=False)
    return path


def summary(inspection: Inspection) -> str:
    """What a person wants to know: by reason, the gravest first, how many images."""
    total = len(inspection.manifest)
    counts = Counter(reason for reason, _ in {(one.reason, one.row) for one in inspection.findings})
    found = len({one.row for one in inspection.findings})
    lines = [f"{counted(total, 'image')}, {counted(found, 'image')} with a finding"]
    for reason, (severity, title) in inspection.reasons.items():
        if counts[reason]:
            lines.append(f"  {severity:<8}{counts[reason]:>8}  {counts[reason] / total:>7.2%}  {reason:<24}{title}")
    clean = [reason for reason in inspection.reasons if not counts[reason]]
    return "\n".join([*lines, *([f"  not found: {', '.join(clean)}"] if clean else [])])
