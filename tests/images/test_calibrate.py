"""Slopes, tables and windows that turn the picture, bend it, or cannot be read."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from raddino.images.calibrate import calibrate
from raddino.images.dicom import read_dicom
from raddino.images.errors import UnreadableImage

TURNS = "{} turns bright and dark once more"


def lut(table: np.ndarray, start: int, kind: str = "OW", bits: int = 16) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if start < 0 else "US", [len(table), start, bits])
    data = table.astype("<u2").tobytes() if kind == "OW" else table.astype("i2" if kind == "SS" else "u2").tolist()
    item.add_new("LUTData", kind, data)
    return [item]


@pytest.mark.parametrize("written", ["-1,5", "1,0", "abc", "nan", "inf", "1e400", "--1", "-1\\1", "1\\x", "0", "0.0"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_slope_that_cannot_be_read_is_refused(make_dicom_unchecked, ramp, written, photometric):
    with pytest.raises(UnreadableImage, match="RescaleSlope"):
        read_dicom(make_dicom_unchecked(ramp, RescaleSlope=written, PhotometricInterpretation=photometric))


@pytest.mark.parametrize(("kind", "value"), [("LO", "-1,5"), ("OB", b"-1.5"), ("SQ", [Dataset()]), ("UT", "minus one")])
def test_a_slope_of_another_representation_is_not_taken_as_1(make_dicom, ramp, kind, value):
    from pydicom.dataelem import DataElement

    with pytest.raises(UnreadableImage, match="RescaleSlope"):
        read_dicom(make_dicom(ramp, RescaleSlope=DataElement(0x00281053, kind, value)))


@pytest.mark.parametrize("written", ["-1.5", " -1.5 ", "-15e-1", "-1.5\\-1.5", "-1.50"])
def test_a_slope_that_can_be_read(make_dicom_unchecked, ramp, written):
    radiograph = read_dicom(make_dicom_unchecked(ramp, RescaleSlope=written, RescaleIntercept="7"))
    np.testing.assert_allclose(radiograph.pixels, 7 - 1.5 * ramp)
    assert radiograph.warnings == (TURNS.format("negative RescaleSlope"),)


@pytest.mark.parametrize(("written", "notes"), [("", ("RescaleSlope is empty and was taken as 1",)), (None, ())])
def test_no_slope_is_1(make_dicom, ramp, written, notes):
    radiograph = read_dicom(make_dicom(ramp, RescaleSlope=written))
    np.testing.assert_array_equal(radiograph.pixels, ramp)
    assert radiograph.warnings == notes


@pytest.mark.parametrize("written", ["-1024,0", "x", "1\\2", "nan"])
def test_an_intercept_that_cannot_be_read_is_refused(make_dicom_unchecked, ramp, written):
    with pytest.raises(UnreadableImage, match="RescaleIntercept"):
        read_dicom(make_dicom_unchecked(ramp, RescaleSlope="1", RescaleIntercept=written))


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_that_fall_are_followed_and_told(make_dicom, ramp, name):
    for table, notes in ((np.arange(65536), ()), (np.arange(65536)[::-1], (TURNS.format(name),))):
        radiograph = read_dicom(make_dicom(ramp, **{name: lut(table[:65535], 0)}))
        np.testing.assert_array_equal(radiograph.pixels, table[ramp])
        assert radiograph.warnings == notes


def test_table_entries_are_unsigned(make_dicom):
    values = np.arange(16, dtype=np.uint16).reshape(4, 4)
    table = (np.arange(16) * 4096).astype(np.uint16)
    for kind in ("OW", "US", "SS"):
        pixels = read_dicom(make_dicom(values, VOILUTSequence=lut(table, 0, kind))).pixels
        np.testing.assert_array_equal(pixels, table[values])


@pytest.mark.parametrize("start", [-100, 65436])
def test_a_negative_first_value_may_be_written_unsigned(make_dicom, start):
    values = np.arange(-100, 100, dtype=np.int16).reshape(10, 20)
    table = np.arange(300) ** 2 % 60000
    for shift in (0, 100):
        moved = values + np.int16(shift)
        pixels = read_dicom(make_dicom(moved, PixelRepresentation=1, VOILUTSequence=lut(table, start))).pixels
        np.testing.assert_array_equal(pixels, table[moved + 100])


@pytest.mark.parametrize(
    "descriptor", [[300, 0], [300, 0, 16, 1], ["a", "b", "c"], None], ids=["two", "four", "words", "none"]
)
def test_a_damaged_table_is_refused(make_dicom, ramp, descriptor):
    sequence = lut(np.arange(300), 0)
    del sequence[0].LUTDescriptor
    if descriptor is not None:
        sequence[0].add_new("LUTDescriptor", "LO" if descriptor[0] == "a" else "US", descriptor)
    with pytest.raises(UnreadableImage, match="lookup table"):
        read_dicom(make_dicom(ramp, VOILUTSequence=sequence))


@pytest.mark.parametrize(
    ("center", "width"), [("2048,5", "4096"), ("2048", "4096,5"), ("x", "y"), ("1", "0"), (None, None)]
)
def test_a_sigmoid_that_cannot_be_read_is_told(make_dicom_unchecked, ramp, center, width):
    data = make_dicom_unchecked(ramp, VOILUTFunction="SIGMOID", WindowCenter=center, WindowWidth=width)
    radiograph = read_dicom(data)
    np.testing.assert_array_equal(radiograph.pixels, ramp)
    assert radiograph.warnings == ("sigmoid window cannot be read and was not applied",)


def test_unknown_voi_functions_are_told(make_dicom, ramp):
    for function, told in (("LINEAR", 0), ("LINEAR_EXACT", 0), ("linear", 0), ("GAMMA", 1)):
        radiograph = read_dicom(make_dicom(ramp, VOILUTFunction=function, WindowCenter="5", WindowWidth="3"))
        assert len(radiograph.warnings) == told


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize(
    "rescale", [(1, 0), (1, -1024), (-1, 0), (-1, 4095), (2, 3), (0.5, 0), (1, 0.1), (1.0001, -7), (601, 1), (1, 2**24)]
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_float32_is_worked_in_only_where_it_changes_no_bit(kind, rescale, photometric):
    limits = np.iinfo(kind)
    stored = np.linspace(limits.min, limits.max, 5000).astype(kind).reshape(50, 100)
    stored[0, :3] = 0, limits.min, limits.max
    header = Dataset()
    header.PhotometricInterpretation, header.RescaleSlope, header.RescaleIntercept = (photometric, *rescale)
    exact = stored.astype(np.float64) * rescale[0] + rescale[1]
    expected = (-exact if photometric == "MONOCHROME1" else exact).astype(np.float32)
    pixels, _ = calibrate(stored, header)
    assert pixels.dtype == np.float32
    assert pixels.tobytes() == expected.tobytes()
    assert not np.shares_memory(pixels, stored)
