"""DICOM headers of every kind, made here; what pixels must become is computed by hand."""

import contextlib
import logging
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from images.conftest import dicom_dataset
from raddino.images import dicom
from raddino.images.acquisition import ACQUISITION
from raddino.images.dicom import parse, quiet, read_dicom
from raddino.images.errors import ImageError, NotARadiograph, UnreadableImage
from raddino.images.intensity import to_grey
from raddino.images.phi import ALLOWED_ELEMENTS


def lut(table: np.ndarray, start: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table), start, 16])
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    return Sequence([item])


def test_stored_values_pass_unchanged(make_dicom, ramp):
    radiograph = read_dicom(make_dicom(ramp, WindowCenter=500, WindowWidth=10))
    np.testing.assert_array_equal(radiograph.pixels, ramp)
    assert radiograph.valid is None
    assert radiograph.warnings == ()


def test_rescale_is_applied(make_dicom, ramp):
    pixels = read_dicom(make_dicom(ramp, RescaleSlope="0.5", RescaleIntercept="-1024")).pixels
    np.testing.assert_allclose(pixels, ramp * 0.5 - 1024)


def test_monochrome1_is_the_exact_inverse(make_dicom):
    values = np.random.default_rng(0).integers(0, 255, (30, 31)).astype(np.uint16)
    plain, turned = (read_dicom(make_dicom(values, PhotometricInterpretation=f"MONOCHROME{n}")) for n in (2, 1))
    np.testing.assert_array_equal(turned.pixels, -plain.pixels)
    for side in (None, 17):
        np.testing.assert_array_equal(to_grey(turned, side), 255 - to_grey(plain, side))


def test_modality_then_voi_lut(make_dicom):
    values = np.arange(16, dtype=np.uint16).reshape(4, 4)
    modality = np.arange(16)[::-1] * 3 + 5
    voi = np.arange(60) ** 2
    pixels = read_dicom(make_dicom(values, ModalityLUTSequence=lut(modality, 0), VOILUTSequence=lut(voi, 4))).pixels
    np.testing.assert_array_equal(pixels, (modality[values] - 4) ** 2)


def test_voi_lut_ends_hold(make_dicom, ramp):
    pixels = read_dicom(make_dicom(ramp, VOILUTSequence=lut(np.array([7, 9, 50]), 200))).pixels
    assert set(np.unique(pixels)) <= {7, 9, 50}
    assert pixels[0, 0] == 7
    assert pixels[-1, -1] == 50


def test_short_lut_is_refused(make_dicom, ramp):
    sequence = lut(np.arange(8), 0)
    sequence[0].LUTDescriptor = [100, 0, 16]
    with pytest.raises(UnreadableImage, match="lookup table"):
        read_dicom(make_dicom(ramp, VOILUTSequence=sequence))


def test_sigmoid_window_is_the_standard_formula(make_dicom, ramp):
    pixels = read_dicom(make_dicom(ramp, VOILUTFunction="SIGMOID", WindowCenter=9000, WindowWidth=7000)).pixels
    np.testing.assert_allclose(pixels, 1 / (1 + np.exp(-4 * (ramp.astype(float) - 9000) / 7000)), rtol=1e-6)


@pytest.mark.parametrize("width", ["0", ["400", "0"]])
def test_illegal_windows_do_not_matter(make_dicom, ramp, width):
    for function in ("LINEAR", "SIGMOID"):
        grey = to_grey(read_dicom(make_dicom(ramp, VOILUTFunction=function, WindowCenter="100", WindowWidth=width)))
        assert (grey.min(), grey.max()) == (0, 255)


def test_padding_is_excluded_and_black(make_dicom, ramp):
    signed = ramp.astype(np.int16)
    signed[:4] = -32768
    elements = {"PixelRepresentation": 1, "PixelPaddingValue": -32768}
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        whole = to_grey(read_dicom(make_dicom(signed, PhotometricInterpretation=photometric, **elements)))
        inner = read_dicom(make_dicom(signed[4:], PhotometricInterpretation=photometric, PixelRepresentation=1))
        np.testing.assert_array_equal(whole[4:], to_grey(inner))
        assert (whole[:4] == 0).all()


def test_padding_range(make_dicom, ramp):
    radiograph = read_dicom(make_dicom(ramp, PixelPaddingValue=100, PixelPaddingRangeLimit=180))
    np.testing.assert_array_equal(radiograph.valid, ramp > 180)


def test_unused_high_bits_are_dropped(make_dicom, ramp):
    values = ramp % 4096
    marked = values | np.where(np.eye(24, 40, dtype=bool), 0x8000, 0).astype(np.uint16)
    pixels = read_dicom(make_dicom(marked, BitsStored=12, HighBit=11)).pixels
    np.testing.assert_array_equal(pixels, values)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PatientAge": "034Y"}, 34),
        ({"PatientAge": "011M"}, 11 / 12),
        ({"PatientAge": "021D"}, 21 / 365.25),
        ({"PatientAge": "81"}, 81),
        ({"PatientAge": "999Y"}, None),
        ({"PatientBirthDate": "19400305", "StudyDate": "20010304"}, 60),
        ({"PatientBirthDate": "19400305", "StudyDate": "20010305"}, 61),
        ({"PatientBirthDate": "20000120", "AcquisitionDate": "20001019"}, 8 / 12),
        ({"PatientBirthDate": "19400305"}, None),
        ({"PatientBirthDate": "20010305", "StudyDate": "19400305"}, None),
        ({"PatientBirthDate": "unknown", "StudyDate": "20010305"}, None),
        ({}, None),
    ],
)
def test_age(make_dicom, ramp, elements, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = make_dicom(ramp, **elements)
    assert read_dicom(data).facts.age == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "LL"}, "LATERAL"),
        ({"ViewPosition": "LLD"}, "FRONTAL"),
        ({"ViewPosition": "a.p."}, "AP"),
        ({"PatientOrientation": ["A", "F"]}, "LATERAL"),
        ({"PatientOrientation": ["L", "F"]}, None),
        ({"ViewPosition": "AP", "PatientOrientation": ["A", "F"]}, "AP"),
        ({}, None),
    ],
)
def test_view(make_dicom, ramp, elements, view):
    assert read_dicom(make_dicom(ramp, **elements)).facts.view == view


def test_facts_and_identifiers(make_dicom, ramp):
    radiograph = read_dicom(
        make_dicom(
            ramp, PatientSex="F", PatientWeight="64", PatientSize="1.6", IssuerOfPatientID="HOSP",
            ImagerPixelSpacing=["0.2", "0.1"], StudyInstanceUID="1.2.3",
        )
    )  # fmt: skip
    facts = radiograph.facts
    assert (facts.sex, facts.weight, facts.bmi, facts.modality) == ("F", 64, 25, "DX")
    assert facts.spacing_mm == (0.2, 0.1)
    assert (radiograph.identifiers.patient, radiograph.identifiers.study) == ("P-4711", "1.2.3")
    assert "4711" not in repr(radiograph)


@pytest.mark.parametrize(
    ("weight", "size", "expected", "left_out"),
    [
        ("64", "1.6", (64, 25), []), ("3.5", "0.5", (3.5, 14), []), (None, "1.7", (None, None), []),
        ("0", "0.0", (None, None), []), ("", "", (None, None), []),
        ("70", "170", (70, None), ["PatientSize"]), ("70000", "1.7", (None, None), ["PatientWeight"]),
        ("-70", "1.7", (None, None), ["PatientWeight"]),
        ("70,5", "1,70", (None, None), ["PatientWeight", "PatientSize"]),
        ("nan", "1.7", (None, None), ["PatientWeight"]),
        ("70", "0.5", (70, None), ["BMI of PatientWeight and PatientSize"]),
        ("7", "1.7", (7, None), ["BMI of PatientWeight and PatientSize"]),
    ],
)  # fmt: skip
def test_weight_and_size(make_dicom_unchecked, ramp, weight, size, expected, left_out):
    radiograph = read_dicom(make_dicom_unchecked(ramp, PatientWeight=weight, PatientSize=size))
    assert (radiograph.facts.weight, radiograph.facts.bmi) == expected
    assert radiograph.warnings == tuple(f"{name} is out of range and was left out" for name in left_out)


@pytest.mark.parametrize(("written", "age", "told"), [
    ("034Y", 34, False), ("", None, False), ("999Y", None, True), ("121Y", None, True), ("-05Y", None, True),
    ("old", None, True), ("1500M", None, True), ("120Y", 120, False),
])  # fmt: skip
def test_ages_out_of_range_are_left_out_and_told(make_dicom, ramp, written, age, told):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = make_dicom(ramp, PatientAge=written)
    radiograph = read_dicom(data)
    assert radiograph.facts.age == age
    assert radiograph.warnings == (("PatientAge is out of range and was left out",) if told else ())


@pytest.mark.parametrize(
    ("elements", "spacing", "notes"),
    [
        ({"PixelSpacing": "0.2\\0.1"}, (0.2, 0.1), ()),
        ({"PixelSpacing": "0\\0"}, None, ()),
        ({"PixelSpacing": "0,2\\0,1"}, None, ("PixelSpacing cannot be read",)),
        ({"PixelSpacing": "0.2"}, None, ("PixelSpacing cannot be read",)),
        ({"PixelSpacing": "-0.2\\0.1"}, None, ("PixelSpacing cannot be read",)),
        ({"ImagerPixelSpacing": "0,2\\0,1", "PixelSpacing": "0.2\\0.1"}, (0.2, 0.1), ()),
        ({"ImagerPixelSpacing": "2\\0.1"}, (2, 0.1), ("ImagerPixelSpacing of more than 4 to 1 was left alone",)),
    ],
)
def test_spacing(make_dicom_unchecked, ramp, elements, spacing, notes):
    radiograph = read_dicom(make_dicom_unchecked(ramp, **elements))
    assert radiograph.facts.spacing_mm == spacing
    assert radiograph.warnings == notes


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"BodyPartExamined": "HAND"}, "body part HAND"),
        ({"BodyPartExamined": "TSPINE"}, "body part SPINE"),
        ({"NumberOfFrames": 3, "PixelData": bytes(24 * 40 * 2 * 3)}, "several frames"),
        ({"BurnedInAnnotation": "YES"}, "burned"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
    ],
)
def test_set_aside(make_dicom, ramp, elements, reason):
    with pytest.raises(NotARadiograph, match=reason):
        read_dicom(make_dicom(ramp, **elements))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": None}, "Rows"),
        ({"Rows": 0}, "not positive"),
        ({"BitsStored": None}, "BitsStored"),
        ({"BitsStored": 17}, "BitsAllocated"),
        ({"HighBit": 12}, "HighBit"),
        ({"Rows": 60000, "Columns": 60000}, "pixels"),
        ({"NumberOfFrames": 10**9}, "several frames"),
        ({"Rows": 48}, "cut short"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
    ],
)
def test_unreadable(make_dicom, ramp, elements, reason):
    with pytest.raises((UnreadableImage, NotARadiograph), match=reason):
        read_dicom(make_dicom(ramp, **elements))


def test_only_allowed_elements_are_parsed(make_dicom, ramp):
    dataset = parse(make_dicom(ramp, AccessionNumber="A1", InstitutionName="St Elsewhere"))
    assert {element.keyword for element in dataset} <= {*ALLOWED_ELEMENTS, "SpecificCharacterSet"}
    assert "PatientName" not in dataset


def test_nothing_private_is_logged(make_dicom, ramp, caplog, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = make_dicom(ramp, PatientAge="Jane Doe born 1940", StudyInstanceUID="Jane.Doe.1940")
    caplog.clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_dicom(data)
    heard = caplog.text + "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in caught)
    assert "Jane" not in heard


@pytest.mark.parametrize("seed", range(3))
def test_damaged_headers_only_raise_our_errors(make_dicom, ramp, seed):
    rng = np.random.default_rng(seed)
    data = make_dicom(
        ramp, VOILUTSequence=lut(np.arange(50), 100), PatientAge="034Y", ImagerPixelSpacing=["0.2", "0.1"],
        WindowCenter="5", RescaleSlope="2", PixelPaddingValue=3, StudyDate="20010101",
    )  # fmt: skip
    header = len(data) - ramp.nbytes
    for _ in range(100):
        broken = bytearray(data)
        for place in rng.integers(132, header, 4):
            broken[place] = rng.integers(256)
        with contextlib.suppress(ImageError):
            read_dicom(bytes(broken))


@pytest.mark.parametrize(
    ("birth", "study", "age"),
    [
        ("20000115", "20011214", 22 / 12),
        ("20000115", "20011215", 23 / 12),
        ("20000115", "20020114", 23 / 12),
        ("20000115", "20020115", 2),
        ("20000115", "20030114", 2),
        ("20000115", "20000115", 0),
        ("20001201", "20010102", 1 / 12),
    ],
)
def test_months_are_completed_and_counted_below_two_years(make_dicom, ramp, birth, study, age):
    found = read_dicom(make_dicom(ramp, PatientBirthDate=birth, StudyDate=study)).facts.age
    assert found == pytest.approx(age, abs=1e-3)


def test_dates_are_asked_in_the_order_of_what_they_say_of_the_exposure(make_dicom, ramp):
    names = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
    for index in range(len(names)):
        dates = {name: f"{2010 + n}0601" for n, name in enumerate(names) if n >= index}
        assert read_dicom(make_dicom(ramp, PatientBirthDate="20000601", **dates)).facts.age == 10 + index
    told = read_dicom(make_dicom(ramp, PatientAge="009Y", PatientBirthDate="20000601", StudyDate="20100601"))
    assert told.facts.age == 9, "what is written comes first"


def coded(*meanings: str) -> Sequence:
    items = []
    for meaning in meanings:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", meaning
        items.append(item)
    return Sequence(items)


@pytest.mark.parametrize(
    ("position", "meanings", "view", "contradict"),
    [
        ("", ["antero-posterior"], "AP", False),
        ("PA", ["postero-anterior"], "PA", False),
        ("PA", ["antero-posterior"], "PA", True),
        ("LLD", ["antero-posterior"], "AP", False),
        ("LLD", [], "FRONTAL", False),
        ("", [], None, False),
    ],
)
def test_position_and_code_of_the_view(make_dicom, ramp, position, meanings, view, contradict):
    found = read_dicom(make_dicom(ramp, ViewPosition=position, ViewCodeSequence=coded(*meanings)))
    assert found.facts.view == view
    words = ("ViewPosition and ViewCodeSequence contradict each other",)
    assert found.warnings == (words if contradict else ())


def test_only_radiography_is_a_modality_that_is_kept(make_dicom, ramp):
    for modality in ("DX", "CR", "dx"):
        assert read_dicom(make_dicom(ramp, Modality=modality)).facts.modality == modality.upper()
    facts = read_dicom(make_dicom(ramp, BitsStored=14, HighBit=13)).facts
    assert (facts.bits_stored, facts.photometric) == (14, "MONOCHROME2")


def test_how_the_image_was_taken(make_dicom, ramp):
    radiograph = read_dicom(
        make_dicom(
            ramp, Manufacturer="GE Healthcare", ManufacturerModelName="Optima XR220amx", StationName="ICU-3",
            DetectorType="SCINTILLATOR", KVP="90.4", ExposureIndex="1234", StudyDate="20170314",
            PatientPosition="SEMIERECT",
        )
    )  # fmt: skip
    facts = radiograph.facts
    assert (facts.manufacturer, facts.model, facts.detector) == ("GE", "Optima XR220amx", "SCINTILLATOR")
    assert (facts.kvp, facts.exposure_index, facts.portable) == (90, 1200, 1)
    assert (facts.year_band, facts.patient_position) == ("2015-2019", "SEMI-ERECT")
    assert (radiograph.identifiers.station, radiograph.identifiers.model) == ("ICU-3", None)
    assert "ICU" not in repr(radiograph)


def test_a_model_without_a_known_name_is_for_hashing_only(make_dicom, ramp):
    radiograph = read_dicom(make_dicom(ramp, ManufacturerModelName="Roentgen 9000"))
    assert radiograph.facts.model is None
    assert radiograph.identifiers.model == "Roentgen 9000"
    assert "9000" not in repr(radiograph)


def test_a_header_that_does_not_say_how_leaves_it_open(make_dicom, ramp):
    radiograph = read_dicom(make_dicom(ramp, StudyDescription="", KVP="0", Manufacturer="", StationName=""))
    assert {getattr(radiograph.facts, name) for name in ACQUISITION if name != "station"} == {None}
    assert (radiograph.identifiers.station, radiograph.identifiers.model) == (None, None)
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    ("elements", "position"),
    [
        ({"PatientPosition": "HFS"}, "SUPINE"), ({"ViewPosition": "AP SUPINE"}, "SUPINE"),
        ({"SeriesDescription": "Thorax PA erect"}, "ERECT"), ({"StudyDescription": "Chest upright"}, "ERECT"),
        ({"PatientPosition": "ERECT", "SeriesDescription": "supine"}, "ERECT"),
        ({"ViewCodeSequence": ("left lateral decubitus",)}, "DECUBITUS"),
        ({"PatientOrientationCodeSequence": ("recumbent",)}, "RECUMBENT"),
        ({"PatientOrientationCodeSequence": ("recumbent",), "SeriesDescription": "supine"}, "SUPINE"),
    ],
)  # fmt: skip
def test_how_the_patient_lies(make_dicom, ramp, elements, position):
    coded_elements = {name: coded(*value) if isinstance(value, tuple) else value for name, value in elements.items()}
    assert read_dicom(make_dicom(ramp, **coded_elements)).facts.patient_position == position


def test_what_modifies_the_orientation_of_the_patient(make_dicom, ramp):
    orientation = coded("recumbent")
    orientation[0].PatientOrientationModifierCodeSequence = coded("prone")
    assert read_dicom(make_dicom(ramp, PatientOrientationCodeSequence=orientation)).facts.patient_position == "PRONE"


@pytest.mark.parametrize("name", dicom.DESCRIPTIONS)
def test_portable_is_looked_for_in_every_description(make_dicom, ramp, name):
    facts = read_dicom(make_dicom(ramp, **{name: "XR Chest Portable of Jane Doe"})).facts
    assert facts.portable == 1
    assert "Doe" not in repr(facts)


@pytest.mark.parametrize(
    ("keyword", "written", "told"),
    [("KVP", "1250", True), ("KVP", "-80", True), ("KVP", "0", False), ("KVP", "", False), ("KVP", "125,0", True),
     ("ExposureIndex", "4711123", True), ("ExposureIndex", "0", False), ("ExposureIndex", "nan", True)],
)  # fmt: skip
def test_exposures_out_of_range_are_left_out_and_told(make_dicom_unchecked, ramp, keyword, written, told):
    radiograph = read_dicom(make_dicom_unchecked(ramp, **{keyword: written}))
    assert (radiograph.facts.kvp, radiograph.facts.exposure_index) == (None, None)
    assert radiograph.warnings == ((f"{keyword} is out of range and was left out",) if told else ())


@pytest.mark.parametrize(
    ("elements", "band"),
    [
        ({"StudyDate": "20141231"}, "2010-2014"), ({"StudyDate": "20150101"}, "2015-2019"),
        ({"StudyDate": "21800520"}, "shifted"), ({"StudyDate": "19010101"}, None), ({"StudyDate": "2014"}, None),
        ({"AcquisitionDate": "19950926"}, "1995-1999"),
        ({"StudyDate": "20040826", "ContentDate": "1995"}, "2000-2004"),
        ({}, None),
    ],
)  # fmt: skip
def test_years_become_bands(make_dicom, ramp, elements, band):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = make_dicom(ramp, **elements)
    assert read_dicom(data).facts.year_band == band


def test_serial_numbers_and_detectors_are_not_read(make_dicom, ramp):
    names = ("DeviceSerialNumber", "DetectorID", "InstitutionName", "PlateID", "OperatorsName", "GantryID")
    planted = dict.fromkeys(names, "SN-4711")
    read = parse(make_dicom(ramp, **planted))
    assert not [name for name in planted if name in read]


@pytest.mark.parametrize("before", [True, False])
def test_logs_are_as_they_were_afterwards(before):
    logger = logging.getLogger("pydicom")
    held, logger.disabled = logger.disabled, before
    try:
        with contextlib.suppress(KeyError), quiet():
            assert logger.disabled
            raise KeyError
        assert logger.disabled is before
    finally:
        logger.disabled = held


def deflated(size: int, chunk: int = 2**20) -> bytes:
    """Preamble, an empty group 2 that names the deflated syntax, and ``size`` zeros deflated."""
    name = b"1.2.840.10008.1.2.1.99"
    meta = b"\x02\x00\x10\x00UI" + len(name).to_bytes(2, "little") + name
    head = bytes(128) + b"DICM\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little") + meta
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [packer.compress(bytes(min(chunk, size - done))) for done in range(0, size, chunk)]
    return head + b"".join(parts) + packer.flush()


def test_what_a_deflated_data_set_may_grow_to(monkeypatch):
    assert dicom.LARGEST_DATASET == 512 * 2**20
    monkeypatch.setattr(dicom, "LARGEST_DATASET", 2**20)
    for size in (2**20 + 2**16, 2**22):
        with pytest.raises(UnreadableImage, match="deflated data set of more than 1 MiB"):
            parse(deflated(size))
    with pytest.raises(UnreadableImage) as refused:
        parse(deflated(2**20 - 100))
    assert "MiB" not in str(refused.value)
    with pytest.raises(UnreadableImage, match="deflated data set is damaged"):
        parse(deflated(0)[:-2] + b"\xff\xff\xff\xff")


def test_a_file_without_a_transfer_syntax_is_read_by_the_order_of_its_bytes(ramp):
    for implicit, little in ((True, True), (False, True), (False, False)):
        dataset = dicom_dataset(ramp if little else ramp.byteswap())
        buffer = BytesIO()
        plain = Dataset({tag: dataset[tag] for tag in dataset.keys()})  # noqa: SIM118
        plain.save_as(buffer, implicit_vr=implicit, little_endian=little)
        np.testing.assert_array_equal(read_dicom(buffer.getvalue()).pixels, ramp)


def test_a_file_without_its_pixels_is_cut_short_whatever_else_it_says(make_dicom, ramp):
    with pytest.raises(UnreadableImage, match="no pixel data, or pixel data cut short"):
        read_dicom(make_dicom(ramp, PixelData=None, Modality="CT"))
