"""What is done to a reference and a hypothesis before they are compared; the rule's name stands in every score."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from raddino.corpus.sections import SECTION_OF
from raddino.registry import Registry

DEFAULT_RULE = "raddino-1"
BLANK = "___"

HEADER = "|".join(re.escape(header).replace(r"\ ", r"[ ]+") for header in sorted(SECTION_OF, key=len, reverse=True))
MARK = rf"(?:{HEADER.upper()}|{HEADER.title()})(?:\(S\))?\s*:\s*|\d{{1,2}}[.)]\s+"
LEADING = re.compile(rf"(?:^|(?<=[.:;?!]\s))\s*(?:{MARK})+")
BULLET = re.compile(r"^[^\S\n]*[-*•]\s+", re.MULTILINE)
OPENING = re.compile(rf"^(?:[-*•]\s+|{MARK})+")
"""Bullets, headers and numbers in any order where a text begins: taken at once, so that many take linear time."""
BLANKS = re.compile(r"(?:_{2,}|(?<![^\W_])X{4,}(?![^\W_]))(?:\s*(?:_{2,}|(?<![^\W_])X{4,}(?![^\W_])))*")

RULES: Registry[Callable[[str], str]] = Registry("cleaning rule")
"""Cleaning rules by name; a rule is never changed, a changed one gets a new name."""


@RULES.register("none")
def untouched(text: str) -> str:
    """The text as it is."""
    return text


@RULES.register("raddino-1")
def raddino_1(text: str) -> str:
    """Layout and de-identification taken out, words and letter case left alone (ROUGE and BLEU lower-case).

    In order: Unicode NFKC; bullets dropped where a line begins; white space collapsed; section headers
    (``"FINDINGS:"``) and list numbers (``"1. "``, ``"2) "``) dropped where a sentence begins; runs of blanks
    (``"___"``, ``"XXXX XXXX"``) joined to one ``"___"``; again until nothing changes, hence idempotent.
    """
    while True:
        plain = " ".join(BULLET.sub("", unicodedata.normalize("NFKC", text)).split())
        plain = OPENING.sub("", BLANKS.sub(BLANK, LEADING.sub("", plain)).strip())
        if plain == text:
            return plain
        text = plain


def clean(text: str, rule: str = DEFAULT_RULE) -> str:
    """``text`` under a named rule, which a score applies to both sides.

    A text that holds nothing but what the rule drops becomes empty; :func:`emptied` counts those.

    Raises:
        RaddinoError: an unknown rule; lists the known ones.
    """
    return RULES[rule](text)


def emptied(texts: Iterable[str], rule: str = DEFAULT_RULE) -> int:
    """How many texts that were not blank the rule leaves empty, which a score must state."""
    return sum(bool(text.strip()) and not clean(text, rule) for text in texts)
