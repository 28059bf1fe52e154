"""Compressed pixel data: the stream's own facts are followed or the file is refused, and damage is said."""

import io
import struct

import jpeg_ls
import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.encaps import encapsulate
from rle import encode_pixel_data

from compressed_dicom import (
    JPEG,
    JPEG_12,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    RLE,
    dicom,
    drawn,
    jpeg_blocks,
    jpeg_lossless,
)  # fmt: skip
from raddino.images.decode import COMPLAINT, LONGER, stored_values
from raddino.images.dicom import parse, read_dicom
from raddino.images.errors import NotARadiograph, UnreadableImage
from raddino.images.wall import ENDED, Wall

STRAY = "bits above BitsStored are set that no overlay owns: they were dropped"
MORE_BITS = "compressed values have more bits than the header says: those of the stream were taken"


def rle(values: np.ndarray) -> bytes:
    rows, columns = values.shape
    return encode_pixel_data(
        values.astype(values.dtype.newbyteorder("<")).tobytes(), rows=rows, columns=columns, samples_per_pixel=1,
        number_of_frames=1, bits_allocated=values.itemsize * 8, byteorder="<",
    )  # fmt: skip


def jls(values: np.ndarray, bits: int) -> bytes:
    stream = bytearray(jpeg_ls.encode(values).tobytes())
    at = stream.index(b"\xff\xf7") + 4
    assert stream[at] == bits
    return bytes(stream)


def read(data: bytes) -> tuple[np.ndarray, list[str]]:
    return stored_values(parse(data))


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as error:
        read(data)
    return error.value.reason


def streams(values: np.ndarray, bits: int) -> dict[str, bytes]:
    """The same values by each lossless method."""
    return {
        JPEG_LOSSLESS: jpeg_lossless(values, bits),
        JPEG_LS: jls(values, bits),
        JPEG_2000: encode_array(values, bits_stored=bits),
        RLE: rle(values),
    }


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
@pytest.mark.parametrize("bits", [7, 8, 10, 12, 15, 16])
def test_lossless_methods_are_exact(method, bits):
    values = drawn(bits)
    found, notes = read(dicom(streams(values, bits)[method], method, values.shape, bits))
    np.testing.assert_array_equal(found, values)
    assert found.dtype == values.dtype
    assert notes == []


@pytest.mark.parametrize("bits", range(2, 17))
def test_jpeg_lossless_of_every_precision(bits):
    values = drawn(bits)
    found, notes = read(dicom(jpeg_lossless(values, bits), JPEG_LOSSLESS, values.shape, bits))
    np.testing.assert_array_equal(found, values)
    assert notes == []


@pytest.mark.parametrize(("bits", "syntax", "frame"), [(8, JPEG, 0xC0), (8, JPEG_12, 0xC1), (12, JPEG_12, 0xC1)])
def test_dct_jpeg_of_8_and_12_bits(bits, syntax, frame):
    means = drawn(bits, 12, 16)
    values = means.repeat(8, 0).repeat(8, 1)
    found, notes = read(dicom(jpeg_blocks(means, bits, frame), syntax, values.shape, bits))
    np.testing.assert_array_equal(found, values)
    assert notes == []


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_2000, RLE])
def test_signed_values(method):
    values = drawn(12).astype(np.int16) - 2048
    encoded = {
        JPEG_LOSSLESS: lambda: jpeg_lossless(values & 0xFFF, 12),
        JPEG_2000: lambda: encode_array(values, bits_stored=12),
        RLE: lambda: rle(values),
    }[method]()
    found, notes = read(dicom(encoded, method, values.shape, 12, PixelRepresentation=1))
    np.testing.assert_array_equal(found, values)
    assert notes == []


def test_dct_jpeg_has_no_sign():
    """PS3.5 8.2.1: PixelRepresentation is 0."""
    means = drawn(12, 12, 16)
    data = dicom(jpeg_blocks(means, 12), JPEG_12, (96, 128), 12, PixelRepresentation=1)
    assert reason(data) == "PixelRepresentation is not that of the compressed values"
    low = dicom(jpeg_blocks(means // 2, 12), JPEG_12, (96, 128), 12, PixelRepresentation=1)
    np.testing.assert_array_equal(read(low)[0], np.kron(means // 2, np.ones((8, 8), int)))


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS])
def test_a_sign_that_is_not_clear_is_told(method):
    values = drawn(12)
    _, notes = read(dicom(streams(values, 12)[method], method, values.shape, 16, PixelRepresentation=1))
    assert notes == ["compressed values have fewer bits than the header says: they were taken as not negative"]


def test_a_sign_that_no_value_needs_is_clear():
    stream = jpeg_lossless(drawn(12) // 2, 12)
    assert read(dicom(stream, JPEG_LOSSLESS, (96, 128), 16, PixelRepresentation=1))[1] == []


def test_signed_patterns_wider_than_bits_stored():
    values = drawn(12).astype(np.int16) - 2048
    found, _ = read(dicom(jpeg_lossless(values, 16), JPEG_LOSSLESS, values.shape, 12, PixelRepresentation=1))
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize(("allocated", "stored"), [(8, 8), (16, 8), (16, 10), (16, 11)])
def test_12_bit_streams_under_fewer_bits_are_read_as_12(method, allocated, stored):
    values = drawn(12)
    stream = streams(values, 12)[method]
    found, notes = read(dicom(stream, method, values.shape, stored, BitsAllocated=allocated))
    np.testing.assert_array_equal(found, values)
    assert notes == [MORE_BITS]


def test_12_bit_dct_under_8_bits_is_read_as_12():
    means = drawn(12, 12, 16)
    found, notes = read(dicom(jpeg_blocks(means, 12), JPEG_12, (96, 128), 8))
    np.testing.assert_array_equal(found, means.repeat(8, 0).repeat(8, 1))
    assert notes == [MORE_BITS]


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("stored", [12, 16])
def test_fewer_bits_than_the_header_says_are_no_contradiction(method, stored):
    values = drawn(10)
    found, notes = read(dicom(streams(values, 10)[method], method, values.shape, stored, BitsAllocated=16))
    np.testing.assert_array_equal(found, values)
    assert notes == []


def test_a_container_wider_than_its_values_is_no_contradiction():
    values = drawn(12)
    found, notes = read(dicom(encode_array(values, bits_stored=16), JPEG_2000, values.shape, 12))
    np.testing.assert_array_equal(found, values)
    assert notes == []


def test_full_containers_that_do_not_fit_bits_stored_are_refused():
    values = drawn(16)
    for method, stream in streams(values, 16).items():
        if method != RLE:
            assert reason(dicom(stream, method, values.shape, 12)) == "compressed values do not fit BitsStored"


def test_20_bits_in_16_are_refused():
    values = drawn(16).astype(np.uint32) * 16
    stream = encode_array(values, bits_stored=20)
    assert "not of 2 to 16 bits" in reason(dicom(stream, JPEG_2000, values.shape, 16))


@pytest.mark.parametrize("precision", [0, 1, 17, 145, 255])
def test_impossible_precisions_never_reach_a_decoder(precision):
    stream = jpeg_lossless(drawn(12), 12, told=precision)
    assert "not of 2 to 16 bits" in reason(dicom(stream, JPEG_LOSSLESS, (96, 128), 12))


def test_unsigned_streams_under_a_signed_header_are_refused_where_it_matters():
    full, half = encode_array(drawn(12), bits_stored=12), encode_array(drawn(11), bits_stored=12)
    assert "PixelRepresentation" in reason(dicom(full, JPEG_2000, (96, 128), 12, PixelRepresentation=1))
    found, notes = read(dicom(half, JPEG_2000, (96, 128), 12, PixelRepresentation=1))
    np.testing.assert_array_equal(found, drawn(11))
    assert notes == []


def test_signed_streams_under_an_unsigned_header_are_refused_where_it_matters():
    below = drawn(12).astype(np.int16) - 2048
    above = drawn(11).astype(np.int16)
    assert "PixelRepresentation" in reason(dicom(encode_array(below, bits_stored=12), JPEG_2000, (96, 128), 12))
    np.testing.assert_array_equal(read(dicom(encode_array(above, bits_stored=12), JPEG_2000, (96, 128), 12))[0], above)


@pytest.mark.parametrize("method", [JPEG, JPEG_LS, JPEG_2000])
def test_three_components_under_one_sample_are_refused(method):
    colour = np.stack([drawn(8)] * 3, axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(colour).save(buffer, "JPEG")
    stream = {
        JPEG: buffer.getvalue(),
        JPEG_LS: jpeg_ls.encode(colour).tobytes(),
        JPEG_2000: encode_array(colour, bits_stored=8),
    }[method]
    assert "several components" in reason(dicom(stream, method, (96, 128), 8))


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
@pytest.mark.parametrize("shape", [(128, 96), (95, 128), (97, 128), (96, 129)])
def test_another_size_is_refused(method, shape):
    if method == RLE and shape == (128, 96):
        pytest.skip("an RLE frame does not say how its pixels lie")
    expected = "RLE data is damaged" if method == RLE else "compressed picture has another size than Rows and Columns"
    assert reason(dicom(streams(drawn(12), 12)[method], method, shape, 12)) == expected


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
def test_a_mislabelled_stream_is_decoded_as_what_it_is(method):
    values = drawn(12)
    for label in {JPEG, JPEG_LOSSLESS, JPEG_LS, JPEG_2000} - {method}:
        data = dicom(streams(values, 12)[method], label, values.shape, 12)
        if method == RLE:
            assert "cannot be decoded" in reason(data)
        else:
            np.testing.assert_array_equal(read(data)[0], values)


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("tail", [bytes(2), bytes(400), b"\xff" * 30, b"trailer of a vendor" * 40])
def test_bytes_after_the_end_are_nothing(method, tail):
    values = drawn(12)
    found, notes = read(dicom(streams(values, 12)[method] + tail, method, values.shape, 12))
    np.testing.assert_array_equal(found, values)
    assert notes == []


def test_bytes_after_the_end_of_a_dct_jpeg():
    means = drawn(8, 12, 16)
    found, notes = read(dicom(jpeg_blocks(means, 8) + bytes(500), JPEG, (96, 128), 8))
    np.testing.assert_array_equal(found, means.repeat(8, 0).repeat(8, 1))
    assert notes == []


def test_jp2_wrapping_is_dropped():
    values = drawn(12)
    stream = encode_array(values, bits_stored=12, codec_format=1)
    assert stream[4:6] == b"jP"
    np.testing.assert_array_equal(read(dicom(stream, JPEG_2000, values.shape, 12))[0], values)


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE, "native"])
@pytest.mark.parametrize("elements", [{"NumberOfFrames": 0}, {"SamplesPerPixel": None}, {"NumberOfFrames": "1"}])
def test_no_frames_and_no_samples_mean_one(make_dicom, method, elements):
    values = drawn(12)
    if method == "native":
        data = make_dicom(values, BitsStored=12, HighBit=11, **elements)
    else:
        data = dicom(streams(values, 12)[method], method, values.shape, 12, **elements)
    radiograph = read_dicom(data)
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert radiograph.warnings == ()


def test_frame_in_several_fragments(make_dicom):
    values = drawn(12)
    stream = encode_array(values, bits_stored=12)
    half = len(stream) // 4 * 2
    parts = (b"", stream[:half], stream[half:] + b"\0" * (len(stream) % 2))
    items = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part for part in parts)
    data = dicom(b"\0\0", JPEG_2000, values.shape, 12, PixelData=items + b"\xfe\xff\xdd\xe0" + bytes(4))
    np.testing.assert_array_equal(read(data)[0], values)


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
@pytest.mark.parametrize("frames", [None, 0, 1])
def test_several_compressed_frames_are_set_aside_whatever_the_header_says(method, frames):
    values = drawn(12)
    stream = streams(values, 12)[method]
    data = dicom(b"\0\0", method, values.shape, 12, PixelData=encapsulate([stream, stream]), NumberOfFrames=frames)
    with pytest.raises(NotARadiograph, match="several frames"):
        read_dicom(data)


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, RLE, "native"])
def test_a_missing_sign_is_named(make_dicom, method):
    values = drawn(12)
    elements = {"PixelRepresentation": None}
    if method == "native":
        data = make_dicom(values, BitsStored=12, HighBit=11, **elements)
    else:
        data = dicom(streams(values, 12)[method], method, values.shape, 12, **elements)
    assert reason(data) == "PixelRepresentation is missing or not a number"


@pytest.mark.parametrize("method", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
def test_cut_streams_are_refused(method):
    stream = streams(drawn(12), 12)[method]
    for share in (0.02, 0.3, 0.7, 0.98):
        assert reason(dicom(stream[: int(len(stream) * share)], method, (96, 128), 12))


def test_altered_lossless_jpeg_of_8_bits_is_noticed():
    """Values that run out of their range are cut to it by decoders of 8 bits."""
    rng = np.random.default_rng(0)
    values = (drawn(8) // 2 + rng.integers(0, 64, (96, 128))).astype(np.uint8)
    stream = jpeg_lossless(values, 8)
    start, silent = stream.index(b"\xff\xda") + 10, 0
    with Wall() as wall:
        for _ in range(60):
            altered = bytearray(stream)
            altered[rng.integers(start, len(stream) - 200)] ^= 1 << rng.integers(8)
            try:
                found = wall.call(read_dicom, dicom(bytes(altered), JPEG_LOSSLESS, values.shape, 8))
            except UnreadableImage:
                continue
            assert found.pixels.max() <= 255
            silent += np.corrcoef(found.pixels.ravel(), values.ravel())[0, 1] < 0.95 and not found.warnings
    assert silent <= 6


def test_what_gdcm_says_is_a_note():
    stream = bytearray(jpeg_lossless(drawn(12), 12))
    extra = bytes(stream[:-2]) + bytes(40) + b"\xff\xd9"
    with Wall() as wall:
        radiograph = wall.call(read_dicom, dicom(extra, JPEG_LOSSLESS, (96, 128), 12))
        assert COMPLAINT in radiograph.warnings
        sound = wall.call(read_dicom, dicom(bytes(stream), JPEG_LOSSLESS, (96, 128), 12))
        assert sound.warnings == ()
        means = wall.call(read_dicom, dicom(jpeg_blocks(drawn(12, 12, 16), 12), JPEG_12, (96, 128), 12))
        assert means.warnings == ()


def test_a_panic_is_a_reason(monkeypatch):
    class Panic(BaseException):
        pass

    def decode_segment(_):
        raise Panic

    monkeypatch.setattr("rle.rle.decode_segment", decode_segment)
    assert "cannot be decoded" in reason(dicom(rle(drawn(12)), RLE, (96, 128), 12))


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ([1, 64, 0], "number of segments"), ([3, 64, 70, 90], "number of segments"), ([2, 64, 64], "header"),
        ([2, 64, 2**32 - 1], "header"), ([2, 100, 90], "header"), ([2, 0, 64], "header"), ([2**31, 64, 80], "number"),
    ],
)  # fmt: skip
def test_rle_headers_are_checked(header, word):
    stream = rle(drawn(12))
    head = struct.pack(f"<{len(header)}I", *header).ljust(64, b"\0")
    assert word in reason(dicom(head + stream[64:], RLE, (96, 128), 12))


def test_bits_above_bits_stored_of_rle_are_told():
    values = drawn(16)
    assert STRAY in read_dicom(dicom(rle(values), RLE, values.shape, 12)).warnings
    signed = drawn(12).astype(np.int16) - 2048
    assert read_dicom(dicom(rle(signed), RLE, signed.shape, 12, PixelRepresentation=1)).warnings == ()


def test_padding_beyond_bits_stored_is_found_in_rle():
    values = drawn(12)
    values[:20] = 0xF000
    radiograph = read_dicom(dicom(rle(values), RLE, values.shape, 12, PixelPaddingValue=0xF000))
    np.testing.assert_array_equal(radiograph.valid, values != 0xF000)
    assert radiograph.warnings == ()


def test_more_pixel_data_than_the_picture_takes_is_told(make_dicom):
    values = drawn(12)
    assert read_dicom(make_dicom(values, Columns=127)).warnings == (LONGER,)
    padded = make_dicom(values.astype(np.uint8)[:1, :127], BitsAllocated=8, BitsStored=8, HighBit=7)
    assert LONGER not in read_dicom(padded).warnings


@pytest.mark.parametrize("change", [-3, 3])
def test_rle_segments_must_give_exactly_the_picture(change):
    values = drawn(12)
    other = np.resize(values, (96, 128 + change))
    assert reason(dicom(rle(other), RLE, values.shape, 12)) == "RLE data is damaged"


def test_examples_that_failed(shared):
    """Each ended the process once."""
    reasons, read = {}, {}
    with Wall() as wall:
        for file in sorted((shared / "cases/dicom").glob("*.dcm")):
            try:
                read[file.name] = wall.call(read_dicom, file.read_bytes(), True)
            except UnreadableImage as error:
                reasons[file.name] = error.reason
    assert len(reasons) + len(read) == 8
    assert ENDED not in reasons.values()
    assert "several components" in reasons["c_j2k3_mono2.dcm"]
    found = read.pop("jl_7.dcm")
    assert all(other.warnings for other in read.values())
    assert found.warnings == ()
    assert (found.pixels.min(), found.pixels.max()) == (0, 127)
    assert np.unravel_index(found.pixels.argmax(), found.pixels.shape) == (58, 38)
    np.testing.assert_allclose(np.diff(found.pixels[0]), 0.4, atol=0.7)
