"""Which words are markers, and when one belongs to what stands beside it."""

import pytest

from raddino.inspection.text_regions import Region, beside, joined, kind_of


@pytest.mark.parametrize(
    "word",
    ["L", "r", "AP", "A.P.", "PORTABLE", "Supine", "PA ERECT", "(L)", "AP/SUPINE", "SEMI-ERECT", "R-", "L DECUB"],
)
def test_markers(word):
    assert kind_of(word) == "marker"


@pytest.mark.parametrize(
    "word",
    ["", " ", "-", "L1", "LR", "Lee", "10:32", "AP 10:32", "PAUL", "R. Smith", "1", "12/03/2020", "ERECTOR", "Ł"],
)
def test_all_else_is_an_identifier(word):
    assert kind_of(word) == "identifier"


def region(top: int, left: int, width: int, kind: str, word: str | None = None, height: int = 10) -> Region:
    return Region(top, left, height, width, kind, 1.0, word)


@pytest.mark.parametrize(("gap", "near"), [(2, True), (8, True), (9, False), (40, False)])
def test_a_short_marker_on_the_line_of_an_identifier_is_part_of_it(gap, near):
    marker, name = region(50, 10, 8, "marker", "R"), region(50, 18 + gap, 60, "identifier")
    assert beside(marker, name, 0.8) == beside(name, marker, 0.8) == near
    assert [r.kind for r in joined([marker, name])] == ["identifier" if near else "marker", "identifier"]


def test_long_markers_and_other_lines_stay():
    name = region(50, 60, 60, "identifier")
    assert joined([region(50, 10, 48, "marker", "ERECT"), name])[0].kind == "marker"
    assert joined([region(20, 50, 8, "marker", "R"), name])[0].kind == "marker"


def test_sideways_lines():
    marker = Region(100, 50, 8, 10, "marker", 1.0, "R")
    assert joined([marker, Region(112, 50, 60, 10, "identifier", 1.0)])[0].kind == "identifier"


def test_repr_does_not_show_the_word():
    assert "SMITH" not in repr(Region(0, 0, 1, 1, "identifier", 1.0, "SMITH"))
