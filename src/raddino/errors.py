"""Errors meant for a person: one line that names the thing, the rule and the remedy."""

import difflib
from collections import Counter
from collections.abc import Iterable


class RaddinoError(Exception):
    """Base of every error that raddino raises on purpose; the command line prints it as one line."""


class ConfigError(RaddinoError):
    """A configuration key or value that is not accepted."""


class UnwritableError(RaddinoError, OSError):
    """A place that cannot be written: it ends the run, also where other failures cost their own part alone."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the known word closest to ``word``, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def commonest(reasons: Counter[str]) -> str:
    """The three most frequent reasons with their counts."""
    return "; ".join(f"{n} x {reason}" for reason, n in reasons.most_common(3))


def counted(n: int, noun: str, verb: str = "") -> str:
    """``"1 image stands"``, ``"2 images stand"``: a number, what it counts, and a regular verb or ``have``."""
    if n == 1:
        return f"1 {noun}" + (f" {'has' if verb == 'have' else f'{verb}s'}" if verb else "")
    return f"{n} {noun}s" + (f" {verb}" if verb else "")
