"""Text in pixels: found in every turn, told apart, blanked so that a second look finds none, never written down."""

import json

import numpy as np
import pytest

from burned_text import chestlike, drawn
from raddino.inspection.text import POLICIES, TextError, apply_policy, blank, find_text, holes
from raddino.inspection.text import _filled as filled
from raddino.inspection.text_regions import Region


def covered(image: np.ndarray, inked: np.ndarray) -> float:
    return float(holes(image.shape, find_text(image))[inked].mean())


IDENTIFIERS = ["SMITH, ANNA", "12/03/1956", "10:32", "MRN 4711389", "Müller^Jörg", "20240131", "St. Mary Hospital"]


@pytest.mark.parametrize("text", IDENTIFIERS)
def test_identifiers_are_found(text):
    image, inked = drawn(chestlike(), text, (20, 90))
    assert covered(image, inked) > 0.9


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_in_every_turn(turns):
    image, inked = drawn(chestlike(), "12/03/1956", (60, 100), turns=turns)
    assert covered(image, inked) > 0.9


@pytest.mark.parametrize("size", [9, 12, 24, 40, 56])
@pytest.mark.parametrize(("ink", "box"), [(250, None), (245, 0), (5, 235)])
def test_in_every_size_and_tone(size, ink, box):
    image, inked = drawn(chestlike(), "A 27194", (40, 20), size, ink, box)
    assert covered(image, inked) > 0.9


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_dark_ink_on_an_inverted_picture(kind):
    image, inked = drawn(chestlike(), "ANNA SMITH", (30, 60), ink=250)
    image = (255 - image).astype(kind) * (200 if kind is np.uint16 else 1)
    assert covered(image, inked) > 0.9


@pytest.mark.parametrize("word", ["L", "R", "AP", "PA", "PORTABLE", "SUPINE", "ERECT", "UPRIGHT"])
@pytest.mark.parametrize("size", [16, 26])
def test_markers_are_kept(word, size):
    image, inked = drawn(chestlike(), word, (30, 40), size)
    regions = find_text(image)
    assert not holes(image.shape, regions).any()
    if word != "L":
        (region,) = regions
        assert (region.kind, region.word) == ("marker", word)
        rows, columns = np.nonzero(inked)
        assert abs(region.top - rows.min()) <= 2
        assert abs(region.right - columns.max()) <= 3


def wire(image: np.ndarray) -> None:
    x = np.arange(image.shape[1])
    y = (200 + 60 * np.sin(x / 45)).astype(int)
    for k in range(3):
        image[y + k, x] = 230


def edge(image: np.ndarray) -> None:
    image[:, :30] = 0
    image[:22] = 2


def grid(image: np.ndarray) -> None:
    image[::6] = np.minimum(image[::6].astype(int) + 4, 255)


@pytest.mark.parametrize("thing", [None, wire, edge, grid])
def test_what_is_no_text(thing):
    image = chestlike()
    if thing:
        thing(image)
    assert find_text(image) == []


@pytest.mark.parametrize("shape", [(40, 40), (300, 200), (1, 1), (15, 900)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_empty_and_tiny_pictures_hold_nothing(shape, kind):
    image = np.full(shape, np.iinfo(kind).max, kind)
    assert find_text(image) == []
    out, record = apply_policy(image, "blank")
    assert out is image
    assert record["text_done"] == "none"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((4, 4)),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4), np.int16),
        [[1]],
        None,
    ],
)
def test_other_arrays_are_refused(image):
    for call in (find_text, lambda i: blank(i, []), lambda i: apply_policy(i, "keep")):
        with pytest.raises(TextError, match=r"uint8 or uint16, not .*: convert it first"):
            call(image)


def test_unknown_engine_and_policy_are_refused():
    with pytest.raises(TextError, match="Did you mean 'tesseract'"):
        find_text(chestlike(40), "teseract")
    with pytest.raises(TextError, match="Did you mean 'blank'"):
        apply_policy(chestlike(40), "blanc")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_blanked_text_is_not_found_again(kind):
    image, name = drawn(chestlike(), "SMITH, ANNA", (40, 150))
    image, marker = drawn(image, "R", (40, 40), 26)
    image = image.astype(kind) * (257 if kind is np.uint16 else 1)
    before = image.copy()
    out, record = apply_policy(image, "blank")
    np.testing.assert_array_equal(image, before)
    assert record["text_done"] == "blanked"
    assert record["text_rounds"] >= 1
    assert out.dtype == kind
    assert [r.kind for r in find_text(out)] == ["marker"]
    np.testing.assert_array_equal(out[marker], image[marker])
    changed = out != image
    assert changed[name].mean() > 0.95
    assert changed.mean() < 0.1
    clean = chestlike().astype(float) * (257 if kind is np.uint16 else 1)
    assert np.abs(out - clean)[changed].mean() < 20 * (257 if kind is np.uint16 else 1)


def test_policies():
    image, _ = drawn(chestlike(), "12/03/1956", (40, 150))
    kept, record = apply_policy(image, "keep")
    assert kept is image
    assert record["text_done"] == "kept"
    gone, record = apply_policy(image, "quarantine")
    assert gone is None
    assert record["text_done"] == "quarantined"
    assert record["text_boxes"][0]["kind"] == "identifier"
    marked, _ = drawn(chestlike(), "PORTABLE", (40, 150))
    for policy in POLICIES:
        out, record = apply_policy(marked, policy)
        assert out is marked
        assert record["text_done"] == "kept"


def test_no_record_holds_a_word():
    image, _ = drawn(chestlike(), "R", (40, 40), 26)
    region = Region(10, 20, 12, 60, "identifier", 0.9, "ZANZIBAR")
    for policy in POLICIES:
        _, record = apply_policy(image, policy, find=lambda _: [region])
        assert "ZANZIBAR" not in json.dumps(record)
        assert set(record["text_boxes"][0]) == {"top", "left", "height", "width", "kind"}


def test_text_that_does_not_go_away_sets_the_image_aside():
    looks = []

    def always(image: np.ndarray) -> list[Region]:
        looks.append(image.copy())
        return [Region(10, 10, 8, 40, "identifier", 0.9)]

    out, record = apply_policy(chestlike(), "blank", find=always)
    assert out is None
    assert record["text_done"] == "quarantined"
    assert record["text_rounds"] == len(looks) - 1 > 1


def test_a_second_word_seen_only_after_the_first_is_blanked_too():
    first, second = Region(10, 10, 8, 40, "identifier", 0.9), Region(100, 10, 8, 40, "identifier", 0.9)
    answers = iter([[first], [second], []])
    out, record = apply_policy(chestlike(), "blank", find=lambda _: next(answers))
    assert out is not None
    assert [b["top"] for b in record["text_boxes"]] == [10, 100]


def test_a_marker_inside_the_margin_of_an_identifier_is_not_touched():
    image = chestlike()
    name, marker = Region(50, 50, 10, 60, "identifier", 1.0), Region(50, 112, 10, 8, "marker", 1.0, "L")
    out = blank(image, [name, marker])
    np.testing.assert_array_equal(out[50:60, 112:120], image[50:60, 112:120])
    assert (out != image).any()


def test_a_plane_is_filled_exactly():
    y, x = np.mgrid[:40, :50].astype(float)
    plane, hole = 3 * x + 2 * y + 7, np.zeros((40, 50), bool)
    hole[12:25, 15:35] = True
    np.testing.assert_allclose(filled(np.where(hole, -999, plane), hole), plane, atol=1e-9)


def test_a_picture_that_is_all_hole():
    image = np.full((20, 30), 9, np.uint8)
    assert (blank(image, [Region(0, 0, 20, 30, "identifier", 1.0)]) == 0).all()
