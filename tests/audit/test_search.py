"""The search finds what a search string by string finds, wherever it stands, and nothing else."""

import random

import pytest

from raddino.audit import search
from raddino.audit.search import Guard, Index, Pattern


def one_by_one(patterns, data, text):
    found = set()
    for pattern in patterns:
        where = data if pattern.exact else data.lower()
        at = where.find(pattern.data)
        while at >= 0 and (text or len(pattern.data) >= 8):
            found.add((at, pattern.data))
            at = where.find(pattern.data, at + 1)
    return found


@pytest.mark.parametrize("text", [True, False])
def test_it_finds_what_one_by_one_finds(monkeypatch, text):
    monkeypatch.setattr(search, "BLOCK", 64)
    draw = random.Random(0)
    for _ in range(40):
        data = bytes(draw.choices(b"abAB\0", k=draw.randrange(700)))
        cut = [data[at : at + draw.randrange(4, 30)] for at in draw.choices(range(len(data) + 1), k=30)]
        made = [bytes(draw.choices(b"ab", k=draw.randrange(4, 12))) for _ in range(30)]
        exact = [Pattern(one, 0, "", exact=True) for one in cut if len(one) > 3]
        patterns = [Pattern(one.lower(), 0, "") for one in {*cut, *made} if len(one) > 3] + exact
        found = [(at, pattern.data) for at, pattern in Index(patterns).find(data, text)]
        assert set(found) == one_by_one(patterns, data, text)
        assert len(Index([]).patterns) == len(list(Index([]).find(data, text))) == 0


def test_many_patterns_that_begin_alike():
    patterns = [Pattern(b"1.2.826.0.1.3680043.%07d" % n, n, "") for n in range(20_000)]
    data = b"\n".join(one.data for one in patterns[::97])
    assert {pattern.owner for _, pattern in Index(patterns).find(data, False)} == set(range(0, 20_000, 97))


@pytest.mark.parametrize(
    ("guard", "counts", "does_not"),
    [
        (Guard.NONE, [b"x4711y", b"4711"], [b"471"]),
        (Guard.WORD, [b"4711", b"-4711_", b"a 4711.", b"\n4711\n"], [b"x4711", b"47115", b"4711a"]),
        (Guard.NUMBER, [b"4711", b"z4711z", b"4711.", b"(4711)"], [b"a4711", b"4711F", b"0.4711", b"4711,5", b"34711"]),
        (Guard.CELL, [b"4711", b"a\n4711\nb"], [b" 4711", b"4711.", b"a4711"]),
    ],
)
def test_guards(guard, counts, does_not):
    index = Index([Pattern(b"4711", 0, "", guard)])
    assert [data for data in counts if not list(index.find(data, True))] == []
    assert [data for data in does_not if list(index.find(data, True))] == []
