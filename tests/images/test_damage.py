"""Files whose own checksums, codes or end markers are wrong; and sound ones, which are not accused."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from png_bytes import GREY, chunk, png, rows
from raddino.images.errors import ImageError, UnreadableImage
from raddino.images.raster import read_raster

CUT = ("PNG is cut short behind its last pixel",)
DAMAGED = "JPEG data looks damaged: part of the picture may be wrong"


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (13, 21), dtype=np.uint8)


def picture() -> np.ndarray:
    y, x = np.mgrid[:300, :260]
    smooth = 120 + 80 * np.sin(x / 40) * np.cos(y / 30) + np.random.default_rng(0).normal(0, 6, x.shape)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_wrong_byte(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def test_bytes_after_the_end_are_no_fault(grey):
    data = png(grey.shape, 8, GREY, zlib.compress(rows(grey)))
    for more in (b"\0", b"\r\n", b"trailing bytes" * 50, data):
        radiograph = read_raster(data + more, "PNG")
        np.testing.assert_array_equal(radiograph.pixels, grey)
        assert radiograph.warnings == ()
    sound = jpeg(picture())
    for more in (b"\0", b"trailing bytes" * 50, sound):
        found = read_raster(sound + more, "JPEG")
        np.testing.assert_array_equal(found.pixels, read_raster(sound, "JPEG").pixels)
        assert found.warnings == ()


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


def test_more_data_than_pixels_is_no_fault(grey):
    for stream in (zlib.compress(rows(grey) * 2), zlib.compress(rows(grey)) + b"more"):
        np.testing.assert_array_equal(read_raster(png(grey.shape, 8, GREY, stream), "PNG").pixels, grey)


@pytest.mark.parametrize(
    "options", [{}, {"quality": 95}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_sound_jpegs_are_not_accused(options, channels):
    image = picture() if channels == 1 else np.stack([picture()] * 3, -1)
    assert read_raster(jpeg(image, **options), "JPEG").warnings == ()


def test_most_grossly_wrong_jpegs_are_told():
    sound, rng = jpeg(picture(), quality=92), np.random.default_rng(0)
    reference = read_raster(sound, "JPEG").pixels.ravel()
    wrong = told = 0
    for _ in range(150):
        broken = bytearray(sound)
        for place in rng.integers(700, len(sound) - 2, 3):
            broken[place] = rng.integers(256)
        try:
            found = read_raster(bytes(broken), "JPEG")
        except UnreadableImage:
            continue
        if np.corrcoef(found.pixels.ravel(), reference)[0, 1] < 0.95:
            wrong += 1
            told += DAMAGED in found.warnings
    assert wrong > 40
    assert told > 0.9 * wrong


def test_jpeg_without_its_end_is_refused():
    with pytest.raises(UnreadableImage):
        read_raster(jpeg(picture())[:-2], "JPEG")
