"""Masks as text against rasters made another way; every broken code is refused with a reason."""

import numpy as np
import pandas as pd
import pytest
from skimage.measure import points_in_poly

from raddino.images.errors import UnreadableImage
from raddino.images.mask_codes import CELL, decode, is_code, polygons, split_cell, union

SHAPE = (37, 53)


@pytest.fixture
def mask() -> np.ndarray:
    """Random blobs of a bool mask that begins and ends with foreground."""
    mask = np.repeat(np.repeat(np.random.default_rng(0).random((10, 14)) > 0.6, 4, 0), 4, 1)[: SHAPE[0], : SHAPE[1]]
    mask[0, 0] = mask[-1, -1] = True
    return mask


def runs_of(flat: np.ndarray) -> list[tuple[int, int]]:
    """(start, length) of the runs in a flat mask, found one pixel at a time."""
    found: list[list[int]] = []
    for place, inside in enumerate(flat):
        if inside and found and sum(found[-1]) == place:
            found[-1][1] += 1
        elif inside:
            found.append([place, 1])
    return [(start, length) for start, length in found]


def test_runs_along_rows_as_chexmask_writes_them(mask):
    numbers = " ".join(f"{start + 1} {length}" for start, length in runs_of(mask.ravel()))
    found = decode(f"runs:37x53:{numbers}", (1, 1))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, mask * np.uint8(255))


def test_gaps_down_columns_as_siim_acr_writes_them(mask):
    """Decoded step by step as the challenge's own helper does it: advance by the start, fill, advance by the length."""
    end, numbers = 0, []
    for start, length in runs_of(mask.T.ravel()):
        numbers += [str(start - end), str(length)]
        end = start + length
    found = decode(f"gaps:37x53:{' '.join(numbers)}", (1, 1))
    np.testing.assert_array_equal(found, mask * np.uint8(255))
    flat, place = np.zeros(mask.size, bool), 0
    for gap, length in zip(map(int, numbers[::2]), map(int, numbers[1::2]), strict=True):
        place += gap
        flat[place : place + length] = True
        place += length
    np.testing.assert_array_equal(flat.reshape(SHAPE[::-1]).T, mask)


def test_polygons_hold_the_pixels_whose_centres_they_contain():
    rng = np.random.default_rng(1)
    pixels = np.stack(np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[0])), -1).reshape(-1, 2)
    for corners in (3, 5, 9):
        outlines = rng.uniform(0, 1, (2, corners, 2)) * [SHAPE[1], SHAPE[0]]
        outlines = np.round(outlines, 2) + 0.003  # no pixel centre on an edge
        code = "polygons:image:" + ";".join(" ".join(f"{x:.4f},{y:.4f}" for x, y in one) for one in outlines)
        expected = np.logical_or(*(points_in_poly(pixels, one) for one in outlines)).reshape(SHAPE)
        np.testing.assert_array_equal(decode(code, SHAPE) > 0, expected)


def test_neighbouring_polygons_share_no_pixel():
    left, right = ("polygons:8x8:0,0 4,0 4,8 0,8", "polygons:8x8:4,0 8,0 8,8 4,8")
    assert (decode(left, SHAPE).astype(int) + decode(right, SHAPE) == 255).all()


def test_polygons_are_written_as_they_are_read():
    code = polygons([[(1, 1), (5, 1.5), (3, 7)], [(0, 0), (2, 0), (0, 2)]])
    assert code == "polygons:image:1.00,1.00 5.00,1.50 3.00,7.00;0.00,0.00 2.00,0.00 0.00,2.00"
    assert decode(code, (10, 10)).any()


def test_empty_is_the_size_of_the_image():
    found = decode("empty:", SHAPE)
    assert found.shape == SHAPE
    assert not found.any()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("runs:4x4:1 2 3", "odd count"),
        ("runs:4x4:1 2 x 1", "not whole numbers"),
        ("runs:4x4:", "not whole numbers"),
        ("runs:4x4:1  2", "single spaces"),
        ("runs:4x4:1 2.5", "not whole numbers"),
        ("runs:4x4:-1 2", "not whole numbers"),
        ("runs:4x4:1 0", "length 0"),
        ("runs:4x4:0 2", "before 1"),
        ("runs:4x4:1 3 3 2", "overlap"),
        ("runs:4x4:9 2 1 2", "out of order"),
        ("runs:4x4:15 3", "beyond its size"),
        ("gaps:4x4:10 4 3 1", "beyond its size"),
        ("gaps:4x4:" + "999999999 1 " * 3 + "1 1", "beyond its size"),
        ("gaps:4x4:99999999999999999999 1", "not whole numbers"),
        ("gaps:0x4:1 1", "no pixel"),
        ("gaps:99999x99999:1 1", "no pixel, or more"),
        ("gaps:4:1 1", "without a size"),
        ("gaps:1 1", "without a size"),
        ("empty:4x4", "empty mask code"),
        ("polygons:image:1,1 2,2", "fewer than 3"),
        ("polygons:image:1,1 2,2 nan,3", "not x,y pairs"),
        ("polygons:image:1,1 2,2 1e9,3", "not x,y pairs"),
        ("polygons:image:", "not x,y pairs"),
        ("polygons:10x10:1,1 2,2 90,3", "outside its size"),
        ("polygons:10x10:1,1 2,2 -5,3", "outside its size"),
        ("polygons:image:" + "1,1 " * 20_001 + "2,2", "256 polygons or 20000 corners"),
        ("polygons:image:" + "1,1 2,2 1,3;" * 256 + "1,1 2,2 1,3", "256 polygons or 20000 corners"),
        ("runs:4x4:1 1" + " " * 2**22, "more than 4194304 characters"),
    ],
)
def test_broken_codes_are_refused(code, reason):
    assert is_code(code)
    with pytest.raises(UnreadableImage, match=reason):
        decode(code, SHAPE)


def test_cells_split_into_files_and_codes(tmp_path):
    assert split_cell("m/a+b.png", tmp_path) == (str(tmp_path / "m/a+b.png"),)
    assert split_cell("gaps:4x4:1 1", tmp_path) == ("gaps:4x4:1 1",)
    cell = union(["left.png", "gaps:4x4:1 1"])
    assert cell == "union:left.png|gaps:4x4:1 1"
    assert split_cell(cell, tmp_path) == (str(tmp_path / "left.png"), "gaps:4x4:1 1")
    assert union(["left.png"]) == "left.png"
    assert union([]) is None


def test_what_a_mask_cell_looks_like():
    cells = pd.Series(["a.PNG", "b.tiff", "c.gif", "empty:", "runs:1x1:1 1", "union:a.png|empty:", "polygons:image:x"])
    assert cells.str.fullmatch(CELL).all()
    assert not pd.Series(["by hand", "a.jpg", "GAPS:1x1:1 1", "1", "a.pngx"]).str.fullmatch(CELL).any()
