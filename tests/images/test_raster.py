"""PNG, JPEG and TIFF of every depth, good and bad, written by Pillow, tifffile or byte by byte."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from png_bytes import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk, interlaced, png, rows
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


@pytest.mark.parametrize("filter_type", [0, 1, 2, "interlaced"])
@pytest.mark.parametrize(("colour", "channels"), [(GREY, 1), (GREY_ALPHA, 2), (RGB, 3), (RGBA, 4)])
def test_16_bit_png_is_exact(colour, channels, filter_type):
    values = np.random.default_rng(0).integers(0, 4096, (19, 23)).astype(np.uint16)
    alpha = np.where(values % 5, 65535, 0).astype(np.uint16)
    planes = [values] * (1 if channels < 3 else 3) + [alpha] * (channels % 2 == 0)
    pixels = np.stack(planes, -1)
    data = interlaced(pixels) if filter_type == "interlaced" else rows(pixels, filter_type)
    radiograph = read_raster(
        png(values.shape, 16, colour, zlib.compress(data), interlace=int(filter_type == "interlaced")), "PNG"
    )
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert (radiograph.valid is None) == (channels % 2 == 1)
    if radiograph.valid is not None:
        np.testing.assert_array_equal(radiograph.valid, alpha > 0)
    assert (radiograph.facts.bits_stored, radiograph.warnings) == (16, ())


def test_16_bit_colour_is_set_aside():
    values = np.random.default_rng(0).integers(0, 4096, (19, 23)).astype(np.uint16)
    pixels = np.stack([values, values[::-1], values], -1)
    with pytest.raises(NotARadiograph, match="colour"):
        read_raster(png(values.shape, 16, RGB, zlib.compress(rows(pixels))), "PNG")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_in_a_png(grey, bits):
    values = grey >> (8 - bits)
    digits = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
    packed = np.packbits(digits.reshape(len(values), -1), axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in packed)
    radiograph = read_raster(png(values.shape, bits, GREY, zlib.compress(data)), "PNG")
    np.testing.assert_array_equal(radiograph.pixels, values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_grey_that_stands_for_transparent_is_not_valid(grey, depth):
    values = grey.astype(np.uint8 if depth == 8 else np.uint16) * (1 if depth == 8 else 250)
    hidden = int(values[3, 4])
    more = chunk(b"tRNS", struct.pack(">H", hidden))
    radiograph = read_raster(png(values.shape, depth, GREY, zlib.compress(rows(values)), more), "PNG")
    np.testing.assert_array_equal(radiograph.pixels, values)
    np.testing.assert_array_equal(radiograph.valid, values != hidden)


def test_palettes_are_followed_with_their_alpha(grey):
    falling = b"".join(bytes([255 - value] * 3) for value in range(256))
    more = chunk(b"PLTE", falling) + chunk(b"tRNS", bytes([255] * 9 + [0]))
    radiograph = read_raster(png(grey.shape, 8, PALETTE, zlib.compress(rows(grey)), more), "PNG")
    np.testing.assert_array_equal(radiograph.pixels, 255 - grey.astype(float))
    assert (radiograph.valid is None) == (not (grey == 9).any())


@pytest.mark.parametrize(
    "more",
    [
        chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"sBIT", b"\x07"), chunk(b"iCCP", b"x\0\0damaged"),
        chunk(b"eXIf", b"damaged"), chunk(b"eXIf", b"II*\0" + b"\xff" * 20), chunk(b"tEXt", b"a\0b"),
        chunk(b"iTXt", b"\xff\xfe"), chunk(b"pHYs", b"\1"), chunk(b"zTXt", b"a\0\0damaged"),
    ],
)  # fmt: skip
def test_other_chunks_change_nothing_or_are_refused(grey, more):
    data = png(grey.shape, 8, GREY, zlib.compress(rows(grey)), more)
    with contextlib.suppress(UnreadableImage):
        np.testing.assert_array_equal(read_raster(data, "PNG").pixels, grey)


TURNS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T, 8: lambda a: np.rot90(a), 99: lambda a: a,
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("kind", "depth"), [("PNG", 8), ("PNG", 16), ("JPEG", 8)])
def test_exif_orientation(kind, depth, orientation):
    y, x = np.mgrid[:24, :40]
    values = (y * 3 + x * x // 20).astype(np.uint8 if depth == 8 else np.uint16) * (1 if depth == 8 else 256)
    exif = Image.Exif()
    exif[274] = orientation
    found = read_raster(encoded(values, kind, exif=exif, **({"quality": 98} if kind == "JPEG" else {})), kind).pixels
    np.testing.assert_allclose(found, TURNS[orientation](values), atol=3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_after_the_end_of_a_jpeg_are_no_fault(channels):
    y, x = np.mgrid[:90, :70]
    values = np.random.default_rng(0).normal(2 * y + x / 2, 5).astype(np.uint8)
    sound = encoded(values if channels == 1 else np.stack([values] * 3, -1), "JPEG")
    expected = read_raster(sound, "JPEG")
    assert expected.warnings == ()
    for more in (b"\0", b"trailing bytes" * 50, sound, b"\xff\xd9"):
        found = read_raster(sound + more, "JPEG")
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert found.warnings == ()
    with pytest.raises(UnreadableImage):
        read_raster(sound[:-2], "JPEG")


def test_damage_of_a_jpeg_is_told():
    values = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    sound = encoded(values, "JPEG", quality=90)
    broken = sound[: len(sound) // 2] + sound[len(sound) // 2 + 50 :]
    assert "JPEG data looks damaged: part of the picture may be wrong" in read_raster(broken, "JPEG").warnings


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_jpeg_2000_files(tmp_path, dtype, suffix):
    values = np.random.default_rng(0).integers(0, 256 if dtype == "u1" else 4096, (120, 100)).astype(dtype)
    path = tmp_path / "image.png"
    path.write_bytes(encoded(values, "JPEG2000", no_jp2=suffix == "j2k") + b"bytes after the end")
    assert sniff(path.read_bytes()) == "JPEG2000"
    radiograph = read_image(path)
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert radiograph.warnings == ()
    np.testing.assert_array_equal(read_mask_file(path), values)


def test_jpeg_2000_of_12_bits_is_exact():
    from openjpeg.utils import encode_array

    values = np.random.default_rng(0).integers(0, 4096, (70, 60)).astype(np.uint16)
    data = encode_array(values, bits_stored=12)
    radiograph = read_raster(data, "JPEG2000")
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert radiograph.facts.bits_stored == 12


def test_damaged_jpeg_2000_files_are_told_or_refused(grey):
    values = np.random.default_rng(0).integers(0, 4096, (120, 100)).astype(np.uint16)
    data = encoded(values, "JPEG2000")
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(UnreadableImage):
            read_raster(data[: int(len(data) * share)], "JPEG2000")
    wrong = data[: len(data) // 2] + bytes(40) + data[len(data) // 2 + 40 :]
    assert "JPEG 2000 data looks damaged: part of the picture may be wrong" in read_raster(wrong, "JPEG2000").warnings


def test_jpeg_2000_in_colour(grey):
    equal = np.stack([grey] * 3, -1)
    np.testing.assert_array_equal(read_raster(encoded(equal, "JPEG2000"), "JPEG2000").pixels, grey)
    with pytest.raises(NotARadiograph, match="colour"):
        read_raster(encoded(np.stack([grey, grey[::-1], grey], -1), "JPEG2000"), "JPEG2000")


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
    with pytest.raises(UnreadableImage, match="pixels"):
        read_raster(png((20000, 20000), 8, GREY, zlib.compress(bytes(1000))), "PNG")


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "JPEG2000"])
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
