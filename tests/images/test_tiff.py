"""TIFF of every depth, sign, byte order, polarity, compression and orientation, written by tifffile and Pillow."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from raddino.images.errors import NotARadiograph, UnreadableImage
from raddino.images.raster import read_mask, read_raster

READ = ("u1", "i1", "u2", "i2", "u4", "i4", "f4")
NOT_READ = ("f2", "f8", "u8", "i8")
TURNS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].T, 8: lambda a: np.rot90(a),
}  # fmt: skip


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def values_of(dtype: str) -> np.ndarray:
    """(16, 48) over the whole range of a type."""
    rng, kind = np.random.default_rng(0), np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(0, 1000, (16, 48)).astype(kind)
    return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (16, 48), dtype=kind, endpoint=True)


def same_up_to_an_offset(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal within float32, or counted from the lowest where it could not hold the values."""
    expected = expected.astype(np.float64)
    if np.abs(expected).max() > 2**24:
        found, expected = found - found.min(), expected - expected.min()
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=np.ptp(expected) * 3e-7)


@pytest.mark.parametrize("polarity", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", READ)
def test_depth_sign_order_and_polarity(dtype, order, polarity):
    values = values_of(dtype)
    if (dtype, order) == ("u4", ">"):
        pytest.skip("refused, see below")
    radiograph = read_raster(tiff(values, byteorder=order, photometric=polarity), "TIFF")
    white = polarity == "miniswhite"
    same_up_to_an_offset(radiograph.pixels, -values.astype(np.float64) if white else values)
    assert radiograph.facts.bits_stored == 8 * values.itemsize
    assert radiograph.facts.photometric == ("MONOCHROME1" if white else None)
    assert radiograph.warnings == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", NOT_READ)
def test_other_depths_are_refused(dtype, order):
    with pytest.raises(UnreadableImage, match="of a kind that is not read"):
        read_raster(tiff(values_of(dtype), byteorder=order), "TIFF")


def test_big_endian_words_of_32_bits_are_refused():
    with pytest.raises(UnreadableImage, match="of a kind that is not read"):
        read_raster(tiff(values_of("u4"), byteorder=">"), "TIFF")


def test_small_differences_on_a_large_offset_survive():
    values = (values_of("u2") % 4096).astype(np.uint32) + 2**31
    np.testing.assert_array_equal(read_raster(tiff(values), "TIFF").pixels, values - values.min())


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("dtype", READ)
def test_orientation(dtype, orientation):
    values = values_of(dtype)
    data = tiff(values, extratags=[(274, 3, 1, orientation, True)])
    same_up_to_an_offset(read_raster(data, "TIFF").pixels, TURNS[orientation](values))


@pytest.mark.parametrize(
    "options", [{"tile": (16, 16)}, {"rowsperstrip": 3}, {"bigtiff": True}, {"compression": "zlib"}]
)
@pytest.mark.parametrize("polarity", ["minisblack", "miniswhite"])
def test_layouts(options, polarity):
    values = values_of("u2")
    found = read_raster(tiff(values, photometric=polarity, **options), "TIFF").pixels
    np.testing.assert_array_equal(found, values if polarity == "minisblack" else -values.astype(np.float32))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_compressions(compression, dtype):
    values, buffer = values_of(dtype), io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", compression=compression)
    np.testing.assert_array_equal(read_raster(buffer.getvalue(), "TIFF").pixels, values)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("white_is_zero", [0, 1])
def test_few_bits(bits, white_is_zero):
    values = values_of("u1") >> (8 - bits)
    digits = np.unpackbits(values[..., None], axis=-1)[..., -bits:]
    packed = np.packbits(digits.reshape(len(values), -1), axis=1)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(packed, photometric="minisblack", metadata=None)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tags = file.pages[0].tags
        for name, value in (
            ("ImageWidth", 48),
            ("BitsPerSample", bits),
            ("PhotometricInterpretation", 1 - white_is_zero),
        ):
            size = 4 if tags[name].dtype == 4 else 2
            data[tags[name].valueoffset : tags[name].valueoffset + size] = value.to_bytes(size, "little")
    radiograph = read_raster(bytes(data), "TIFF")
    grey = values * (255 // (2**bits - 1)) * (-1.0 if white_is_zero else 1.0)
    np.testing.assert_array_equal(radiograph.pixels, grey)
    assert radiograph.facts.bits_stored == bits


def test_equal_channels_in_planes_and_in_16_bits():
    values = values_of("u1")
    planes = tiff(np.stack([values] * 3), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_raster(planes, "TIFF").pixels, values)
    deep = read_raster(tiff(np.stack([values.astype(np.uint16) * 257] * 3, -1), photometric="rgb"), "TIFF")
    np.testing.assert_array_equal(deep.pixels, values)
    assert deep.warnings == ("TIFF of more than 8 bits in colour was read at 8 bits",)
    assert deep.facts.bits_stored == 8
    with pytest.raises(NotARadiograph, match="colour"):
        read_raster(tiff(np.stack([values, values[::-1], values], -1), photometric="rgb"), "TIFF")


def test_16_bit_alpha_is_refused():
    values = values_of("u2")
    data = tiff(
        np.stack([values] * 2, -1), photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig"
    )
    with pytest.raises(UnreadableImage, match="of a kind that is not read"):
        read_raster(data, "TIFF")


@pytest.mark.parametrize(
    "data", [b"II*\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0" + b"\xff" * 8, b"II*\0" + b"\xff" * 40]
)
def test_broken_headers_are_refused(data):
    with pytest.raises(UnreadableImage):
        read_raster(data, "TIFF")


@pytest.mark.parametrize(("dtype", "top"), [("u4", 2**32 - 1), ("i4", -1), ("i2", -1), ("i1", -1)])
def test_masks_beyond_16_bits_are_refused(dtype, top):
    mask = np.zeros((9, 9), dtype)
    mask[3] = top
    with pytest.raises(UnreadableImage, match="do not fit 16 bits"):
        read_mask(tiff(mask), "TIFF")
