"""How near a text comes to a reference in words: ROUGE-L, BLEU-4 and METEOR, each one number or a few a report.

A metric of many reports is a function of sums over them, so that a bootstrap is a product of arrays.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from raddino.errors import RaddinoError
from raddino.metrics.ranking import Floats

ORDERS = 4
BLEU_SUMS = (
    "hypothesis words", "reference words",
    *(f"matched {n}-grams" for n in range(1, ORDERS + 1)), *(f"{n}-grams" for n in range(1, ORDERS + 1)),
)  # fmt: skip
"""What the ten columns of :func:`bleu_statistics` count."""
METEOR_WORDS = 1000


def rouge_l(references: Sequence[str], hypotheses: Sequence[str]) -> Floats:
    """ROUGE-L F1 of each report, without stemmer: ``rouge_score``'s number (Lin 2004, section 3.1).

    Words are runs of a-z and 0-9 after lower-casing; all else separates them. So a text in another script has no
    words and scores 0, even against itself. Linear memory, and time of n * m / 64: 10,000 words take a blink.

    Returns:
        (N,) in 0..1; 0 where either text has no words.

    Raises:
        ValueError: not as many references as hypotheses.
        RaddinoError: ``rouge_score`` is not installed.
    """
    check_pairs(references, hypotheses)
    split, fmeasure = _need("rouge_score.tokenize").tokenize, _need("rouge_score.scoring").fmeasure
    scores = np.zeros(len(references))
    for row, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        wanted, given = split(reference, None), split(hypothesis, None)
        if wanted and given:
            common = longest_common_subsequence(wanted, given)
            scores[row] = fmeasure(common / len(given), common / len(wanted))
    return scores


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table held in the bits of one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        hit = row & places.get(word, 0)
        row = (row + hit | row - hit) & full
    return len(one) - row.bit_count()


def bleu_statistics(references: Sequence[str], hypotheses: Sequence[str]) -> Floats:
    """What BLEU-4 counts in each report, as ``sacrebleu`` does: lower-cased, tokenised by 13a.

    Returns:
        (N, 10) of :data:`BLEU_SUMS`, whose sums over reports :func:`bleu_4` takes.

    Raises:
        ValueError: not as many references as hypotheses.
        RaddinoError: ``sacrebleu`` is not installed.
    """
    check_pairs(references, hypotheses)
    scorer = _need("sacrebleu.metrics").BLEU(lowercase=True, tokenize="13a", effective_order=True)
    rows = np.zeros((len(references), len(BLEU_SUMS)))
    for row, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        found = scorer.sentence_score(hypothesis, [reference])
        rows[row] = [found.sys_len, found.ref_len, *found.counts, *found.totals]
    return rows


def bleu_4(sums: ArrayLike) -> Floats:
    """Corpus BLEU-4 of summed :func:`bleu_statistics`: ``sacrebleu.corpus_bleu`` / 100, smoothing ``exp``.

    The k-th order without any match counts 1 / 2^k matches (Chen and Cherry 2014, method 3).

    Args:
        sums: (..., 10), weighted sums over reports.

    Returns:
        (...) in 0..1; 0 without any match, and where no hypothesis has four words.
    """
    sums = np.asarray(sums, dtype=np.float64)
    given, wanted = sums[..., 0], sums[..., 1]
    matched, total = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    halvings = np.cumsum(matched == 0, axis=-1)
    defined = (matched > 0).any(-1) & (total > 0).all(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(matched > 0, matched, 0.5**halvings) / total
        brevity = np.exp(np.minimum(0, 1 - wanted / given))
        return np.where(defined, brevity * np.exp(np.log(precision).mean(-1)), 0.0)


def meteor(references: Sequence[str], hypotheses: Sequence[str], wordnet: Any) -> Floats:
    """METEOR of each report as ``nltk`` computes it: exact, stem and synonym matches (Lavie and Agarwal 2007).

    Another number than that of the Java program METEOR 1.5, which captioning work quotes. nltk compares every word
    with every other, so texts are cut after :data:`METEOR_WORDS` words.

    Args:
        wordnet: an nltk WordNet reader; what has ``synsets(word)``.

    Returns:
        (N,) in 0..1; 0 where either text has no words.

    Raises:
        ValueError: not as many references as hypotheses.
        RaddinoError: ``nltk`` is not installed.
    """
    check_pairs(references, hypotheses)
    split = _need("nltk.tokenize").wordpunct_tokenize
    score = _need("nltk.translate.meteor_score").single_meteor_score
    pairs = zip(references, hypotheses, strict=True)
    cut = ([split(text)[:METEOR_WORDS] for text in pair] for pair in pairs)
    return np.array([score(wanted, given, wordnet=wordnet) for wanted, given in cut], dtype=np.float64)


def rouge_signature() -> str:
    """The variant of :func:`rouge_l`."""
    return f"rouge_score|rougeL|f1|stemmer:no|tok:a-z0-9|mean over reports|version:{version('rouge_score')}"


def bleu_signature() -> str:
    """The variant of :func:`bleu_4`: ``sacrebleu``'s own signature; values are its score / 100."""
    scorer = _need("sacrebleu.metrics").BLEU(lowercase=True, tokenize="13a")
    scorer.corpus_score(["a"], [["a"]])
    return f"sacrebleu|corpus|{scorer.get_signature()}"


def meteor_signature() -> str:
    """The variant of :func:`meteor`."""
    return (
        f"nltk|meteor|tok:wordpunct|case:lc|alpha:0.9|beta:3|gamma:0.5|cut:{METEOR_WORDS} words|mean over reports"
        f"|version:{version('nltk')}"
    )


def check_pairs(references: Sequence[str], hypotheses: Sequence[str]) -> None:
    """Refuse lists that do not pair up.

    Raises:
        ValueError: lengths differ, or something is not text.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references and {len(hypotheses)} hypotheses do not pair up")
    for name, texts in (("reference", references), ("hypothesis", hypotheses)):
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise ValueError(f"{name} {row} is not text but {type(text).__name__}: give '' for an empty report")


def _need(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        package = module.split(".")[0]
        raise RaddinoError(f"text metrics need {package}: pip install 'raddino[clinical]'") from None
