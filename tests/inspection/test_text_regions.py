"""Which words are markers, and when one belongs to what stands beside it."""

from dataclasses import replace

import pytest

from raddino.inspection.text_regions import Region, beside, joined, kind_of


@pytest.mark.parametrize(
    "word",
    [
        "L",
        "r",
        "AP",
        "A.P.",
        "PORTABLE",
        "Supine",
        "PA ERECT",
        "(L)",
        "AP/SUPINE",
        "SEMI-ERECT",
        "R-",
        "L DECUB",
        "A-P",
        "p-a erect",
    ],
)
def test_markers(word):
    assert kind_of(word) == "marker"


@pytest.mark.parametrize(
    "word",
    [
        "",
        " ",
        "-",
        "L1",
        "LR",
        "Lee",
        "10:32",
        "AP 10:32",
        "PAUL",
        "R. Smith",
        "1",
        "12/03/2020",
        "ERECTOR",
        "Ł",
        "A-1",
        "A P",
        "-P",
    ],
)
def test_all_else_is_an_identifier(word):
    assert kind_of(word) == "identifier"


def region(top: int, left: int, width: int, kind: str, word: str | None = None, height: int = 10) -> Region:
    return Region(top, left, height, width, kind, 1.0, word)


@pytest.mark.parametrize(("gap", "near"), [(2, True), (8, True), (9, False), (40, False)])
@pytest.mark.parametrize("word", ["R", "AP", "LEFT", "R mirrored"])
def test_a_short_marker_on_the_line_of_an_identifier_is_part_of_it(gap, near, word):
    marker, name = region(50, 10, 8, "marker", word), region(50, 18 + gap, 60, "identifier")
    assert beside(marker, name, 0.8) == beside(name, marker, 0.8) == near
    found = joined([marker, name])
    assert len(found) == (1 if near else 2)
    assert {r.kind for r in found} == ({"identifier"} if near else {"identifier", "marker"})
    if near:
        assert (found[0].left, found[0].right, found[0].word) == (10, 78 + gap, None)


def test_long_sure_markers_and_other_lines_stay():
    name = region(50, 60, 60, "identifier")
    marker = region(50, 10, 48, "marker", "ERECT")
    assert marker in joined([marker, name])
    assert [r.kind for r in joined([replace(marker, score=0.98), name])] == ["identifier"]
    above = region(20, 50, 8, "marker", "R")
    assert above in joined([above, name])


def test_a_chain_of_markers_beside_an_identifier():
    chain = [region(50, 70, 8, "marker", "L"), region(50, 82, 8, "marker", "R"), region(50, 10, 56, "identifier")]
    assert [(r.left, r.right, r.kind) for r in joined(chain)] == [(10, 90, "identifier")]


def test_sideways_lines():
    marker = Region(100, 50, 8, 10, "marker", 1.0, "R")
    (one,) = joined([marker, Region(112, 50, 60, 10, "identifier", 1.0)])
    assert (one.top, one.height, one.kind) == (100, 72, "identifier")


def test_words_of_one_line_become_one_box():
    first, second = region(50, 10, 30, "identifier", "ANNA"), region(52, 46, 30, "identifier", "SMITH")
    (one,) = joined([first, second])
    assert (one.top, one.left, one.height, one.width) == (50, 10, 12, 66)
    assert {*one.word.split()} == {"ANNA", "SMITH"}
    assert len(joined([first, region(80, 46, 30, "identifier")])) == 2


def test_lines_below_one_another_and_unlike_sizes_stay_apart():
    first = region(50, 10, 60, "identifier")
    assert len(joined([first, region(64, 10, 60, "identifier")])) == 2
    assert len(joined([first, Region(20, 72, 90, 120, "identifier", 1.0)])) == 2


def test_repr_does_not_show_the_word():
    assert "SMITH" not in repr(Region(0, 0, 1, 1, "identifier", 1.0, "SMITH"))
