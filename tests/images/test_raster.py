"""PNG, JPEG and TIFF of every depth, good and bad, written by Pillow, tifffile or byte by byte."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.raster import read_mask, read_raster
from raddino.images.read import read_image, sniff, to_grey
from raddino.images.read import read_mask as read_mask_file


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (13, 21), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_grey_depths_are_exact(grey, kind, dtype):
    if (kind, dtype) == ("PNG", "f4"):
        pytest.skip("PNG has no floating point")
    values = grey.astype(dtype) * (257 if dtype == "u2" else 1)
    np.testing.assert_array_equal(read_raster(encoded(values, kind), kind).pixels, values)


def test_big_endian_tiff(grey):
    values = grey.astype(np.uint16) * 200
    np.testing.assert_array_equal(read_raster(tiff(values, byteorder=">"), "TIFF").pixels, values)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_white_is_zero_tiff_is_turned(grey, dtype):
    values = grey.astype(dtype)
    turned = read_raster(tiff(values, photometric="miniswhite"), "TIFF").pixels
    assert np.corrcoef(turned.ravel(), values.ravel().astype(float))[0, 1] == pytest.approx(-1)


def test_nan_in_tiff_is_not_valid(grey):
    values = grey.astype("f4")
    values[2, 3] = np.nan
    radiograph = read_raster(encoded(values, "TIFF"), "TIFF")
    assert np.argwhere(~radiograph.valid).tolist() == [[2, 3]]


def test_one_bit_and_palette_and_equal_channels(grey):
    bits = Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)
    assert set(np.unique(read_raster(encoded(bits), "PNG").pixels)) == {0, 255}
    palette = Image.fromarray(grey).convert("P")
    np.testing.assert_array_equal(read_raster(encoded(palette), "PNG").pixels, grey)
    for channels in (np.stack([grey] * 3, -1), np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)):
        np.testing.assert_array_equal(read_raster(encoded(channels), "PNG").pixels, grey)


def test_transparent_pixels_are_not_valid(grey):
    alpha = np.where(np.arange(21) < 5, 0, 255).astype(np.uint8) * np.ones_like(grey)
    radiograph = read_raster(encoded(np.stack([grey, alpha], -1)), "PNG")
    np.testing.assert_array_equal(radiograph.valid, alpha > 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_colour_is_set_aside(grey, kind):
    colour = np.stack([grey, grey[::-1], grey], -1)
    with pytest.raises(NotARadiograph, match="colour"):
        read_raster(encoded(colour, kind), kind)


def test_cmyk_jpeg_is_refused(grey):
    with pytest.raises(UnreadableImage, match="CMYK"):
        read_raster(encoded(Image.fromarray(grey).convert("CMYK"), "JPEG"), "JPEG")


def test_several_pages_are_set_aside(grey):
    image = Image.fromarray(grey)
    with pytest.raises(NotARadiograph, match="pages"):
        read_raster(encoded(image, "TIFF", save_all=True, append_images=[image]), "TIFF")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_truncated_files_are_refused(kind, share):
    data = encoded(np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8), kind)
    with pytest.raises(UnreadableImage):
        read_raster(data[: int(len(data) * share)], kind)


def test_pixel_limit_is_an_error():
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(UnreadableImage, match="pixels"):
        read_raster(bomb + chunk(b"IEND", b""), "PNG")


def test_content_decides_not_the_name(tmp_path, grey):
    path = tmp_path / "image.dcm"
    path.write_bytes(encoded(grey))
    np.testing.assert_array_equal(read_image(path).pixels, grey)


def test_dicom_with_a_tiff_preamble_is_dicom():
    assert sniff(b"II*\x00".ljust(128, b"\0") + b"DICM" + bytes(10)) == "DICOM"


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + bytes(300), b"%PDF-1.7" + bytes(300)])
def test_other_content_is_refused(tmp_path, data):
    path = tmp_path / "file.png"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage) as error:
        read_image(path)
    assert str(tmp_path) not in str(error.value)


def test_strips_are_set_aside(tmp_path):
    for shape in ((9, 1000), (1000, 9)):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, shape, np.uint8)).save(tmp_path / "strip.png")
        with pytest.raises(NotARadiograph, match="strip"):
            read_image(tmp_path / "strip.png")


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(UnreadableImage, match="not found"):
            read_image(path)


def test_masks_keep_their_values(grey):
    bit_field = grey.astype(np.uint16) * 64
    np.testing.assert_array_equal(read_mask(encoded(bit_field), "PNG"), bit_field)
    zones = Image.fromarray(grey % 7).convert("P")
    zones.putdata((grey % 7).ravel().tolist())
    np.testing.assert_array_equal(read_mask(encoded(zones), "PNG"), grey % 7)
    bits = Image.fromarray(grey > 100)
    np.testing.assert_array_equal(read_mask(encoded(bits), "PNG"), np.where(grey > 100, 255, 0))
    with pytest.raises(UnreadableImage, match="mask"):
        read_mask(encoded(np.stack([grey] * 3, -1)), "PNG")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_damaged_files_only_raise_our_errors(grey, kind):
    rng = np.random.default_rng(2)
    data = encoded(grey, kind)
    for _ in range(150):
        broken = bytearray(data)
        for place in rng.integers(8, len(data), 3):
            broken[place] = rng.integers(256)
        with contextlib.suppress(ImageError):
            read_raster(bytes(broken), kind)


def gif(values: np.ndarray, palette: list[int] | None = None, **options) -> bytes:
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    return encoded(image, "GIF", **options)


def test_gif_masks_give_their_greys():
    inside = np.mgrid[:20, :30][1] > 12
    np.testing.assert_array_equal(read_mask(gif(inside * np.uint8(255)), "GIF"), inside * 255)
    np.testing.assert_array_equal(read_mask(gif(inside.astype(np.uint8), [255] * 3 + [0] * 3), "GIF"), ~inside * 255)
    with pytest.raises(UnreadableImage, match="GIF in colour"):
        read_mask(gif(inside.astype(np.uint8), [0, 0, 0, 255, 0, 0]), "GIF")
    frames = [Image.fromarray(inside * np.uint8(200)), Image.fromarray(~inside * np.uint8(200))]
    with pytest.raises(UnreadableImage, match="animated"):
        read_mask(gif(inside * np.uint8(255), save_all=True, append_images=frames), "GIF")


def test_damaged_and_huge_gif_masks_are_refused(tmp_path):
    data = gif(np.random.default_rng(0).integers(0, 256, (60, 50), dtype=np.uint8))
    huge = data[:6] + struct.pack("<HH", 65000, 65000) + data[10:]
    for broken in (data[: len(data) // 2], huge, b"GIF89a" + bytes(300)):
        (tmp_path / "mask.gif").write_bytes(broken)
        with pytest.raises(UnreadableImage):
            read_mask_file(tmp_path / "mask.gif")
    rng = np.random.default_rng(2)
    for _ in range(100):
        broken = bytearray(data)
        for place in rng.integers(6, len(data), 3):
            broken[place] = rng.integers(256)
        with contextlib.suppress(ImageError):
            read_mask(bytes(broken), "GIF")


@pytest.fixture
def jsrt() -> np.ndarray:
    """(2048, 2048) of 12 bits, the first of which could be the start of a DICOM data set."""
    values = np.random.default_rng(0).integers(0, 4096, (2048, 2048)).astype(">u2")
    values[0, 0] = 0x0800
    return values


def test_raw_jsrt_images_are_turned(tmp_path, jsrt):
    path = tmp_path / "JPCLN001.IMG"
    path.write_bytes(jsrt.tobytes())
    found = read_image(path)
    np.testing.assert_array_equal(found.pixels, -jsrt.astype(np.float32))
    assert found.facts.bits_stored == 12
    grey = to_grey(found)
    assert grey[jsrt == 0].min() == 255
    assert grey[jsrt == 4095].max() == 0
    with pytest.raises(UnreadableImage, match="mask is a DICOM"):
        read_mask_file(path)


def test_other_files_of_that_size_are_not_jsrt(tmp_path, jsrt):
    path = tmp_path / "JPCLN001.IMG"
    for data in (jsrt.tobytes() + b"00", jsrt.tobytes()[:-2], jsrt.astype("<u2").tobytes()):
        path.write_bytes(data)
        with pytest.raises(UnreadableImage):
            read_image(path)
