"""Every metric of generated reports: one row of numbers a report, and the functions of weighted sums over them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raddino.metrics import clinical, text
from raddino.metrics.clinical import FINDINGS_5, FINDINGS_14, Uncertain
from raddino.metrics.ranking import Floats, ratio
from raddino.tasks.cases import Compute
from raddino.tasks.findings import chexbert, radgraph, writing

Labeler = Callable[[Sequence[str]], Floats]
"""Texts (N,) to labels (N, 14) in the order of ``FINDINGS_14``: 1, 0, -1 uncertain, NaN not mentioned."""
RULES, CHEXBERT = "rules", "chexbert"
MEANS = (
    "rouge_l", "meteor", "radgraph_er", "radgraph_e", "radgraph_er_bar",
    "length", "length_reference", "repetition", "verbatim", "distinct", "empty",
)  # fmt: skip
"""Columns whose mean over reports is the metric of that name."""
BLEU = tuple(f"bleu_4 {counted}" for counted in text.BLEU_SUMS)
NO_WORDNET = "not provided: nltk finds no WordNet here; put it under corpora/wordnet of an nltk_data folder"


@dataclass
class Judges:
    """What judges reports here; :func:`find_judges` finds them.

    Attributes:
        labelers: by the name that their metrics begin with.
        signatures: of the labelers.
        radgraph: None where it is absent.
        wordnet: an nltk reader for METEOR; None where it is absent.
        absent: metrics that cannot be computed here, with the reason that a table prints.
    """

    labelers: dict[str, Labeler]
    signatures: dict[str, str] = field(default_factory=dict)
    radgraph: radgraph.RadGraph | None = None
    wordnet: Any = None
    absent: dict[str, str] = field(default_factory=dict)
    _known: dict[tuple[str, str], Floats] = field(default_factory=dict, repr=False)

    def labels(self, labeler: str, texts: Sequence[str]) -> Floats:
        """(N, 14) labels; each text is read once, however often it comes."""
        new = sorted({one for one in texts if (labeler, one) not in self._known})
        if new:
            self._known.update(zip(((labeler, one) for one in new), self.labelers[labeler](new), strict=True))
        rows = [self._known[labeler, one] for one in texts]
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(FINDINGS_14))


def find_judges(
    chexbert_folder: Path | None = None,
    radgraph_folder: Path | None = None,
    radgraph_python: str | Path | None = None,
    radgraph_model: radgraph.Model = "radgraph",
    device: str = "auto",
    batch_size: int = 32,
) -> Judges:
    """The rule labeler, and what else is given or lies in its place; see the ``find_*`` functions for the arguments.

    Raises:
        RaddinoError: something given is missing or damaged. What is not given is in :attr:`Judges.absent` instead.
    """
    judges = Judges({RULES: rule_labels}, {RULES: "rule labeler of raddino (not CheXbert)"})
    bert = chexbert.find_chexbert(chexbert_folder, device, batch_size)
    if bert is None:
        judges.absent["chexbert_f1_14_micro"] = chexbert.MISSING
    else:
        judges.labelers, judges.signatures = (
            {CHEXBERT: bert, **judges.labelers},
            judges.signatures | {CHEXBERT: bert.signature},
        )
    judges.radgraph = radgraph.find_radgraph(radgraph_python, radgraph_folder, radgraph_model, device)
    if judges.radgraph is None:
        judges.absent["radgraph_er"] = radgraph.missing(radgraph_model)
    judges.wordnet = find_wordnet()
    if judges.wordnet is None:
        judges.absent["meteor"] = NO_WORDNET
    return judges


def rule_labels(texts: Sequence[str]) -> Floats:
    """Labels (N, 14) of raddino's own rules."""
    from raddino.tasks.findings.labeler import label_findings

    return clinical.label_matrix([label_findings(one) for one in texts])


def find_wordnet() -> Any:
    """nltk's WordNet reader where its data is on this machine, else None; never fetched."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError):
        return None
    return wordnet


def text_records(
    references: Sequence[str], hypotheses: Sequence[str], judges: Judges, training: Iterable[str] = ()
) -> pd.DataFrame:
    """Numbers of each report, from which :func:`statistics` computes every metric.

    Args:
        references: (N,) what radiologists wrote; all three sides cleaned by the same rule.
        hypotheses: (N,) what a model wrote.
        judges: of :func:`find_judges`.
        training: texts that the model could have copied.

    Returns:
        N rows of floats; NaN where a number does not exist for a report.

    Raises:
        ValueError: not as many references as hypotheses, or something is not text.
    """
    text.check_pairs(references, hypotheses)
    columns: dict[str, Any] = {"rouge_l": text.rouge_l(references, hypotheses)}
    columns |= dict(zip(BLEU, text.bleu_statistics(references, hypotheses).T, strict=True))
    if judges.wordnet is not None:
        columns["meteor"] = text.meteor(references, hypotheses, judges.wordnet)
    if judges.radgraph is not None:
        columns |= dict(zip(radgraph.REWARDS, judges.radgraph(references, hypotheses).T, strict=True))
    columns |= {
        "length": writing.length(hypotheses),
        "length_reference": writing.length(references),
        "repetition": writing.repetition(hypotheses),
        "verbatim": writing.verbatim(hypotheses, training),
        "distinct": writing.distinct(hypotheses),
        "empty": writing.empty(hypotheses),
    }
    for labeler in judges.labelers:
        for side, texts in (("reference", references), ("hypothesis", hypotheses)):
            labels = judges.labels(labeler, texts)
            columns |= {_column(labeler, side, name): labels[:, at] for at, name in enumerate(FINDINGS_14)}
    return pd.DataFrame(columns, dtype=np.float64)


def statistics(records: pd.DataFrame) -> dict[str, Compute]:
    """Every metric that :func:`text_records` left the numbers for, the primary one first.

    That is micro F1 over 14 findings by CheXbert where its labels are there, else by the rules. F1 of groups counts
    a finding that is nowhere as 0 (``zero_division=0``); F1 of one finding is NaN where no reference has it.
    """
    computed: dict[str, Compute] = {}
    for labeler in labelers_of(records):
        computed |= _label_statistics(records, labeler)
    ordered = {name: _mean(records[name]) for name in MEANS[:1] if name in records}
    if set(BLEU) <= set(records):
        ordered["bleu_4"] = partial(_of_sums, records[list(BLEU)].to_numpy(np.float64), text.bleu_4)
    ordered |= {name: _mean(records[name]) for name in MEANS[1:] if name in records}
    return computed | ordered


def labelers_of(records: pd.DataFrame) -> list[str]:
    """Names of the labelers whose labels the records hold, CheXbert first."""
    pattern = re.compile(re.escape(_column("\0", "reference", FINDINGS_14[0])).replace("\0", "(.+)"))
    found = [match[1] for name in records if (match := pattern.fullmatch(str(name)))]
    return sorted(found, key=lambda name: name != CHEXBERT)


def labels_of(records: pd.DataFrame, labeler: str) -> tuple[Floats, Floats]:
    """Labels (N, 14) of the references and of the hypotheses, in the order of ``FINDINGS_14``."""
    sides = ([_column(labeler, side, name) for name in FINDINGS_14] for side in ("reference", "hypothesis"))
    reference, hypothesis = (records[columns].to_numpy(np.float64) for columns in sides)
    return reference, hypothesis


def table_of(records: pd.DataFrame, labeler: str) -> pd.DataFrame:
    """One row a finding, uncertain counted as negative; see :func:`~raddino.metrics.clinical.finding_table`."""
    counts = clinical.label_counts(*labels_of(records, labeler)).sum(0)
    return pd.DataFrame.from_dict(clinical.finding_table(counts), orient="index")


def signatures(records: pd.DataFrame, judges: Judges, rule: str) -> dict[str, str]:
    """Of every metric in :func:`statistics`: its variant, and the rule that cleaned both sides."""
    variants = {"rouge_l": text.rouge_signature, "bleu_4": text.bleu_signature, "meteor": text.meteor_signature}
    said: dict[str, str] = {}
    for name in statistics(records):
        labeler = name.partition("_f1")[0]
        if name in variants:
            variant = variants[name]()
        elif name.startswith("radgraph") and judges.radgraph is not None:
            level = {"radgraph_e": "simple", "radgraph_er": "partial", "radgraph_er_bar": "complete"}[name]
            variant = f"{judges.radgraph.signature}|reward:{level}"
        elif labeler in judges.signatures:
            uncertain = "positive" if "+" in name else "negative"
            variant = f"{judges.signatures[labeler]}|uncertain:{uncertain}|zero_division:0"
        else:
            variant = "mean over reports"
        said[name] = f"{variant}|cleaning:{rule}"
    return said


def _label_statistics(records: pd.DataFrame, labeler: str) -> dict[str, Compute]:
    reference, hypothesis = labels_of(records, labeler)
    five = [FINDINGS_14.index(name) for name in FINDINGS_5]
    averages = {"micro": clinical.f1_micro, "macro": clinical.f1_macro}
    computed: dict[str, Compute] = {}
    policies: dict[str, Uncertain] = {"": "negative", "+": "positive"}
    for sign, uncertain in policies.items():
        counts = clinical.label_counts(reference, hypothesis, uncertain)
        for group, part in ((f"14{sign}", counts), (f"5{sign}", counts[:, five])):
            for average, combine in averages.items():
                computed[f"{labeler}_f1_{group}_{average}"] = partial(_of_sums, part, combine)
    counts = clinical.label_counts(reference, hypothesis)
    for at, name in enumerate(FINDINGS_14):
        computed[f"{labeler}_f1 ({name})"] = partial(_of_sums, counts[:, [at]], _present)
    return computed


def _present(sums: Floats) -> Floats:
    return clinical.f1_where_present(sums)[..., 0]


def _of_sums(numbers: Floats, combine: Callable[[Floats], Floats], weights: Floats | None) -> Floats:
    """``combine`` of the weighted sums (..., *) of per-report numbers (N, *)."""
    given = np.ones(len(numbers)) if weights is None else np.asarray(weights, dtype=np.float64)
    return combine(np.tensordot(given, numbers, axes=1))


def _mean(values: pd.Series) -> Compute:
    """Weighted mean over the reports that have the number."""
    there = values.notna().to_numpy(np.float64)
    numbers = np.stack([values.fillna(0).to_numpy(np.float64), there], axis=1)
    return partial(_of_sums, numbers, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def _column(labeler: str, side: str, finding: str) -> str:
    return f"{labeler} {side} ({finding})"
