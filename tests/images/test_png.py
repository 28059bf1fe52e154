"""PNG files whose checksums or end markers are wrong; and sound ones, which are not accused."""

import zlib

import numpy as np
import pytest

from png_bytes import GREY, chunk, png, rows
from raddino.images.errors import ImageError, UnreadableImage
from raddino.images.raster import read_raster

CUT = ("PNG is cut short behind its last pixel",)
EXCESS = "PNG holds more data than its picture: part of the picture may be wrong"


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (13, 21), dtype=np.uint8)


def with_wrong_byte(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def test_bytes_after_the_end_are_no_fault(grey):
    data = png(grey.shape, 8, GREY, zlib.compress(rows(grey)))
    for more in (b"\0", b"\r\n", b"trailing bytes" * 50, bytes(64), chunk(b"tEXt", b"Comment\0late"), data):
        radiograph = read_raster(data + more, "PNG")
        np.testing.assert_array_equal(radiograph.pixels, grey)
        assert radiograph.warnings == ()


def test_every_wrong_byte_of_a_png_is_noticed(grey):
    text = chunk(b"tEXt", b"Comment\0sound")
    data = png(grey.shape, 8, GREY, zlib.compress(rows(grey)), text)
    for place in range(8, len(data)):
        try:
            radiograph = read_raster(with_wrong_byte(data, place), "PNG")
        except ImageError:
            continue
        assert radiograph.warnings == CUT  # the name or length of the last chunk
        np.testing.assert_array_equal(radiograph.pixels, grey)


def test_wrong_checksum_of_the_compressed_data(grey):
    stream = zlib.compress(rows(grey))
    for wrong in (stream[:-1] + bytes([stream[-1] ^ 1]), stream[:-4] + bytes(4)):
        with pytest.raises(UnreadableImage, match="checksum"):
            read_raster(png(grey.shape, 8, GREY, wrong), "PNG")


@pytest.mark.parametrize("cut", [1, 6, 12, 13, 16, 19])
def test_png_cut_behind_its_last_pixel_is_told(grey, cut):
    radiograph = read_raster(png(grey.shape, 8, GREY, zlib.compress(rows(grey)))[:-cut], "PNG")
    assert radiograph.warnings == CUT
    np.testing.assert_array_equal(radiograph.pixels, grey)


def test_png_cut_earlier_is_refused(grey):
    stream = zlib.compress(rows(grey))
    for data in (png(grey.shape, 8, GREY, stream)[:-60], png(grey.shape, 8, GREY, stream[:-40])):
        with pytest.raises(UnreadableImage):
            read_raster(data, "PNG")


def test_more_data_than_pixels_is_told_and_bytes_behind_it_are_no_fault(grey):
    for stream, notes in ((zlib.compress(rows(grey) * 2), (EXCESS,)), (zlib.compress(rows(grey)) + b"more", ())):
        radiograph = read_raster(png(grey.shape, 8, GREY, stream), "PNG")
        assert radiograph.warnings == notes
        np.testing.assert_array_equal(radiograph.pixels, grey)
