"""The sixteen moves against NumPy's own turns, and each undone."""

import numpy as np
import pytest

from raddino.inspection.moves import MOVES, Move


@pytest.fixture(params=[np.uint8, np.uint16])
def image(request) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(request.param).max, (5, 7), dtype=request.param)


def test_there_are_sixteen_and_the_first_leaves_the_picture(image):
    assert len({move.apply(image).tobytes() + bytes(move.apply(image).shape) for move in MOVES}) == 16
    assert np.array_equal(MOVES[0].apply(image), image)


@pytest.mark.parametrize("move", MOVES)
def test_each_is_undone(move, image):
    assert np.array_equal(move.undo(move.apply(image)), image)
    assert np.array_equal(move.unplace(move.place(image)), image)
    assert move.apply(image).dtype == image.dtype


def test_a_quarter_is_clockwise():
    """The top row becomes the last column, read downwards."""
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(Move(quarters=1).apply(image)[:, -1], image[0])


def test_inversion_and_mirror_by_hand():
    image = np.array([[0, 1], [2, 255]], np.uint8)
    assert np.array_equal(Move(inverted=True).apply(image), [[255, 254], [253, 0]])
    assert np.array_equal(Move(mirrored=True).apply(image), [[1, 0], [255, 2]])


def test_masks_are_placed_and_never_inverted():
    mask = np.array([[0, 255], [0, 0]], np.uint8)
    assert np.array_equal(Move(quarters=2, inverted=True).place(mask), [[0, 0], [255, 0]])


def test_words():
    assert MOVES[0].words == ""
    assert Move(quarters=1).words == "turned 90 degrees clockwise"
    assert Move(3, True, True).words == "mirrored, turned 270 degrees clockwise and inverted"
    assert Move(inverted=True).words == "inverted"
