"""How boxes are cut into lines and columns, and several markers that stand together."""

import numpy as np
import pytest

from burned_text import chestlike, drawn
from raddino.inspection.text import find_text
from raddino.inspection.text_find import _grown as grown
from raddino.inspection.text_find import _pieces as pieces
from raddino.inspection.text_find import turns


def filled(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_lines_and_columns_are_cut_apart():
    boxes = [(5, 10, 15, 20), (5, 40, 15, 50), (20, 12, 28, 60), (31, 10, 55, 34), (33, 50, 40, 60)]
    assert sorted(pieces(filled(*boxes), (0, 0, 60, 80))) == sorted(boxes)


@pytest.mark.parametrize(("gap", "parts"), [(2, 1), (5, 1), (6, 2), (20, 2)])
def test_letters_of_a_word_stay_together(gap, parts):
    mask = filled((10, 10, 20, 18), (10, 18 + gap, 20, 26 + gap))
    assert len(pieces(mask, (0, 0, 60, 80))) == parts


def test_nothing_is_no_piece():
    assert pieces(filled(), (0, 0, 60, 80)) == []
    assert pieces(filled((5, 5, 6, 30)), (0, 0, 60, 80)) == []


def test_a_box_grows_over_ink_that_goes_on_and_not_along_a_wire():
    letter = filled((10, 20, 30, 34))
    assert grown(letter, (12, 20, 26, 31)) == (10, 20, 30, 34)
    assert grown(letter, (10, 20, 30, 34)) == (10, 20, 30, 34)
    assert grown(filled((0, 0, 12, 9)), (0, 0, 10, 9)) == (0, 0, 12, 9)
    assert grown(filled((10, 20, 30, 34), (14, 34, 16, 70)), (12, 20, 26, 34)) == (12, 20, 26, 34)


@pytest.mark.parametrize(
    ("aspect", "wanted"), [(5, (0, 2)), (1.8, (0, 2)), (1, (0, 1, 2, 3)), (0.7, (0, 1, 2, 3)), (0.3, (1, 3))]
)
def test_turns(aspect, wanted):
    assert turns(aspect) == wanted


@pytest.mark.parametrize(("left", "gap"), [(60, 3), (40, 6), (75, 9)])
def test_markers_in_a_column_are_kept(left, gap):
    image, at = chestlike(), 30
    for word, size, shift in (("R", 34, 0), ("AP", 18, left - 60), ("PORTABLE", 18, -10)):
        image, inked = drawn(image, word, (at, left + shift), size)
        at = int(np.nonzero(inked.any(axis=1))[0][-1]) + 1 + gap
    assert {r.kind for r in find_text(image)} == {"marker"}


def test_a_name_under_a_marker_is_found():
    image, _ = drawn(chestlike(), "R", (30, 60), 34)
    image, inked = drawn(image, "SMITH, ANNA", (62, 60), 18)
    rows, columns = np.nonzero(inked)
    named = [r for r in find_text(image) if r.kind == "identifier"]
    assert any(r.top <= rows.min() + 2 and r.right >= columns.max() - 2 for r in named)
