"""How texts are written, whatever they say: length, repetition, copies. One number a text; means are over texts.

Words are what white space separates; a script without spaces makes one word of a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from raddino.metrics.ranking import Floats

GRAM = 4


def length(texts: Sequence[str]) -> Floats:
    """(N,) words."""
    return np.array([len(text.split()) for text in texts], dtype=np.float64)


def repetition(texts: Sequence[str], n: int = GRAM) -> Floats:
    """(N,) share of n-grams that repeat an earlier one of the same text, 0..1; NaN in fewer than n words.

    One minus the distinct-n of the text (Li et al., NAACL 2016, section 4.3).
    """
    return np.array([_repeated(text.casefold().split(), n) for text in texts], dtype=np.float64)


def verbatim(texts: Sequence[str], training: Iterable[str]) -> Floats:
    """(N,) 1 where a text equals a training text word by word, else 0; an empty text copies nothing."""
    known = {_plain(text) for text in training} - {""}
    return np.array([_plain(text) in known for text in texts], dtype=np.float64)


def distinct(texts: Sequence[str]) -> Floats:
    """(N,) one over how often the text occurs among all; the mean is the number of different texts over N."""
    plain = [_plain(text) for text in texts]
    times = Counter(plain)
    return np.array([1 / times[text] for text in plain], dtype=np.float64)


def empty(texts: Sequence[str]) -> Floats:
    """(N,) 1 where a text has no words, else 0."""
    return (length(texts) == 0).astype(np.float64)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _repeated(words: list[str], n: int) -> float:
    grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else float("nan")
