"""Padding as writers write it, and bits that belong to no pixel."""

import numpy as np
import pytest
from pydicom.dataelem import DataElement

from raddino.images.dicom import parse, read_dicom
from raddino.images.padding import overlay_bits

OUTSIDE = "PixelPaddingValue lies outside BitsStored and was found nowhere"
STRAY = "bits above BitsStored are set that no overlay owns: they were dropped"
HELD = np.arange(24 * 40).reshape(24, 40) % 40 < 5


def pixels(bits: int, signed: bool) -> np.ndarray:
    """(24, 40) of BitsStored that use neither their lowest nor their highest value."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    return np.random.default_rng(0).integers(low + 2, high - 2, (24, 40))


def elements(bits: int, signed: bool, **more: object) -> dict:
    return {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed), **more}


def padding(value: int, limit: int | None = None) -> dict:
    """The elements, written unsigned where they can be."""
    told = {"PixelPaddingValue": (0x00280120, value), "PixelPaddingRangeLimit": (0x00280121, limit)}
    return {
        name: DataElement(tag, "SS" if number < 0 else "US", number)
        for name, (tag, number) in told.items()
        if number is not None
    }


@pytest.mark.parametrize(
    ("bits", "stored", "written"),
    [
        (12, -2048, -2048), (12, -2048, 63488), (12, -2048, 2048), (12, -2047, 63489), (12, -1, 65535), (12, -1, 4095),
        (16, -32768, -32768), (16, -32768, 32768), (16, -1, 65535), (12, 2047, 2047), (12, 100, 100),
        (14, -8192, 57344),
    ],
)  # fmt: skip
def test_padding_of_signed_pixels(make_dicom, bits, stored, written):
    values = pixels(bits, True)
    values[values == stored] += 1
    values[HELD] = stored
    radiograph = read_dicom(make_dicom(values.astype(np.int16), **elements(bits, True, **padding(written))))
    np.testing.assert_array_equal(radiograph.valid, ~HELD)
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    ("written", "limit"), [(-2048, -2000), (63488, 63536), (2048, 2096), (-2000, -2048), (63536, 63488), (63488, -2000)]
)
def test_padding_range_of_signed_pixels(make_dicom, written, limit):
    values = pixels(12, True)
    values[HELD] = -2048 + np.arange(HELD.sum()) % 49
    radiograph = read_dicom(make_dicom(values.astype(np.int16), **elements(12, True, **padding(written, limit))))
    np.testing.assert_array_equal(radiograph.valid, (values < -2048) | (values > -2000))


@pytest.mark.parametrize(("bits", "written"), [(12, 4095), (12, 0), (16, 65535), (16, -1), (10, 1023)])
def test_padding_of_unsigned_pixels(make_dicom, bits, written):
    values = pixels(bits, False)
    values[HELD] = written % 65536
    radiograph = read_dicom(make_dicom(values.astype(np.uint16), **elements(bits, False, **padding(written))))
    np.testing.assert_array_equal(radiograph.valid, ~HELD)


@pytest.mark.parametrize(
    ("signed", "word", "written"), [(False, 65535, 65535), (True, -32768, -32768), (True, -32768, 32768)]
)
def test_padding_beyond_bits_stored_is_found_in_the_words(make_dicom, signed, word, written):
    values = pixels(12, signed)
    values[0, 5:9] = (4095, 4095, 4095, 4095) if not signed else (0, 0, 0, 0)  # what the padding has in 12 bits
    stored = np.where(HELD, word, values).astype(np.int16 if signed else np.uint16)
    radiograph = read_dicom(make_dicom(stored, **elements(12, signed, **padding(written))))
    np.testing.assert_array_equal(radiograph.valid, ~HELD)
    np.testing.assert_array_equal(radiograph.pixels[~HELD], values[~HELD])
    assert radiograph.warnings == ()


def test_padding_that_no_pixel_can_hold_is_told(make_dicom):
    values = pixels(12, False)
    values[HELD] = 4095
    radiograph = read_dicom(make_dicom(values.astype(np.uint16), **elements(12, False, **padding(65535))))
    assert radiograph.valid is None
    assert radiograph.warnings == (OUTSIDE,)


@pytest.mark.parametrize("value", ["x", "1,5", "1\\2"])
def test_padding_that_cannot_be_read_is_told(make_dicom, ramp, value):
    element = DataElement(0x00280120, "LO", value)
    assert read_dicom(make_dicom(ramp, PixelPaddingValue=element)).warnings == (
        "PixelPaddingValue or PixelPaddingRangeLimit cannot be read",
    )


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_padding_in_every_byte_order(make_dicom_as, syntax):
    values = pixels(12, True)
    values[HELD] = -2048
    written = DataElement(0x00280120, "US", 63488)
    data = make_dicom_as(syntax, values.astype(np.int16), **elements(12, True, PixelPaddingValue=written))
    radiograph = read_dicom(data)
    np.testing.assert_array_equal(radiograph.valid, ~HELD)
    np.testing.assert_array_equal(radiograph.pixels, values)
    assert radiograph.warnings == ()


def overlay(group: int, position: int) -> DataElement:
    return DataElement((group << 16) + 0x0102, "US", position)


@pytest.mark.parametrize(
    ("signed", "high", "overlays", "told"),
    [
        (False, 0x0000, [], False), (False, 0x8000, [], True), (False, 0x1000, [], True), (False, 0xF000, [], True),
        (False, 0x8000, [(0x6000, 15)], False), (False, 0x8000, [(0x6002, 15)], False),
        (False, 0x8000, [(0x601E, 15)], False), (False, 0x8000, [(0x6000, 12)], True),
        (False, 0x9000, [(0x6000, 12), (0x6002, 15)], False),
        (False, 0x8000, [(0x6000, 0)], True), (False, 0x8000, [(0x6001, 15)], True),
        (True, 0x0000, [], False), (True, 0x8000, [], True), (True, 0x8000, [(0x6000, 15)], False),
    ],
)  # fmt: skip
def test_bits_above_bits_stored(make_dicom_with, signed, high, overlays, told):
    values = pixels(12, signed)
    words = values.astype(np.int16).view(np.uint16) & 0x0FFF
    words[::3] |= np.uint16(high)
    data = make_dicom_with([overlay(*plane) for plane in overlays], words, **elements(12, signed))
    radiograph = read_dicom(data)
    assert radiograph.warnings == ((STRAY,) if told else ())
    np.testing.assert_array_equal(radiograph.pixels, values)


def test_sign_bits_belong_to_their_pixel(make_dicom):
    values = pixels(12, True)
    assert read_dicom(make_dicom(values.astype(np.int16), **elements(12, True))).warnings == ()


def test_overlay_planes_are_all_that_is_read_of_overlays(make_dicom_with, ramp):
    planes = [overlay(group, 15) for group in range(0x6000, 0x6024, 2)]
    text = DataElement(0x60001500, "LO", "Jane Doe")
    dataset = parse(make_dicom_with([*planes, text], ramp))
    assert overlay_bits(dataset) == [15] * 16
    assert "Jane" not in str(dataset)
