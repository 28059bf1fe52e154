"""Cleaning rules: what they drop, that they stop, and what they leave alone."""

import random
import unicodedata

import pytest

from raddino.errors import RaddinoError
from raddino.tasks.findings.cleaning import DEFAULT_RULE, RULES, clean, emptied


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("  Two\r\n words\t\u00a0here ", "Two words here"),
        ("FINDINGS:\n The heart is large.", "The heart is large."),
        ("Findings: A. IMPRESSION: B.", "A. B."),
        ("1. No effusion.\n2. 12 mm nodule.\n3) Old scar.", "No effusion. 12 mm nodule. Old scar."),
        ("- No effusion\n* A nodule\n• A scar", "No effusion A nodule A scar"),
        ("___ ___ with XXXX, XXXX XXXXXX and x-XXXX", "___ with ___, ___ and x-___"),
        ("ﬁne ４ mm", "fine 4 mm"),
        (
            "A 1.2 cm nodule of rib 5. The heart is 3 to 4. times",
            "A 1.2 cm nodule of rib 5. The heart is 3 to 4. times",
        ),
        ("Heart SIZE: normal; findings: as before", "Heart SIZE: normal; findings: as before"),
        ("FINDINGS:", ""),
        ("肺野清晰。", "肺野清晰。"),
        ("___", "___"),
    ],
)
def test_default_rule(text, cleaned):
    assert DEFAULT_RULE == "raddino-1"
    assert clean(text) == cleaned


def test_the_rule_none_changes_nothing():
    assert clean(" 1. FINDINGS:\n", "none") == " 1. FINDINGS:\n"


@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_is_idempotent(rule):
    rng = random.Random(0)
    pieces = ["1. ", "2) ", "FINDINGS:", "Impression : ", " ", "\n", "- ", "___", "_", "XXXX", "X", "a", "e\u0301", ".",
              ":", "ﬁ", "Ⅳ", "５", "\u200b", "肺"]  # fmt: skip
    for _ in range(4000):
        once = clean("".join(rng.choices(pieces, k=rng.randint(0, 14))), rule)
        assert clean(once, rule) == once


def test_words_survive_in_order():
    rng = random.Random(1)
    for _ in range(200):
        words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 8))) for _ in range(30)]
        text = "".join(word + rng.choice([" ", "\n", ". ", ", "]) for word in words)
        assert [word.strip(".,") for word in clean(text).split()] == words
        assert unicodedata.is_normalized("NFKC", clean(text))


def test_emptied_texts_are_counted():
    assert emptied(["FINDINGS:", "", "  ", "FINDINGS: IMPRESSION:", "A."]) == 2
    assert emptied(["FINDINGS:"], "none") == 0


def test_unknown_rule():
    with pytest.raises(RaddinoError, match=r"unknown cleaning rule 'radino-1'\. Did you mean 'raddino-1'"):
        clean("a", "radino-1")


def test_long_texts():
    assert clean("1. FINDINGS: " * 20_000 + "x") == "x"
    assert clean("XXXX " * 50_000) == "___"
    for many in ("- ", "-\n", "1. - ", "\n- ", "FINDINGS: - "):
        assert clean(many * 20_000 + "x") == "x"
    assert clean("\n" * 100_000 + "x") == "x"


def test_marks_behind_a_bullet_within_the_text_stay_for_the_rule_is_fixed():
    assert clean("- - 12. FINDINGS: ") == "12."
    assert clean("a\n- - b") == "a - b"
